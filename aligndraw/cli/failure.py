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


def reason(error: Exception) -> str:
    """Returns the message of an error; of one of the operating system the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror and (place := error.filename2 or error.filename):
        return f"{place}: {error.strerror}"
    return str(error)


@contextmanager
def failing(*kinds: type[Exception], status: int = 1) -> Iterator[None]:
    """Turns errors of the library in the block into a Failure."""
    try:
        yield
    except kinds as error:
        raise Failure(reason(error), status) from error
