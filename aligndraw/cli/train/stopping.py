"""Signals that end a training."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aligndraw.cli.telling import tell


@contextmanager
def stopped_by_signals(launched: bool = False) -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether Ctrl-C or SIGTERM came; a second signal ends the process at once.

    Args:
        launched: by torchrun, which passes each signal on, so that it comes twice, and ends a process that does not
            stop: further signals then do nothing.
    """
    asked = False

    def ask(number: int, _: object) -> None:
        nonlocal asked
        asked = True
        if launched:
            return
        restore()
        tell("", "stopping after this update; a second signal stops at once, without saving", error=True, flush=True)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        restore()
