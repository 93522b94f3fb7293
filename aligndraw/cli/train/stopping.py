"""Trainings that end well when they are asked to."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aligndraw.cli.telling import tell


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or a request to terminate came; a second one is not waited for."""
    asked = False

    def ask(number: int, _: object) -> None:
        nonlocal asked
        asked = True
        restore()
        tell("\nstopping after this update; once more: at once, and unsaved", error=True, flush=True)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        restore()
