"""Failures: errors of commands that the user can correct."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Failure(Exception):
    """An error that the user can correct.

    Args:
        message: becomes one line.
        status: of the process.
        hints: further lines that help to correct it.
    """

    def __init__(self, message: str, status: int = 1, hints: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status, self.hints = status, hints


@contextmanager
def failing(*kinds: type[Exception], status: int = 1) -> Iterator[None]:
    """Turns errors of the library in the block into a Failure."""
    try:
        yield
    except kinds as error:
        raise Failure(str(error), status) from error
