"""Failures: errors of commands that the user can correct."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Failure(Exception):
    """An error that the user can correct. The message becomes one line, the status that of the process."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def failing(*kinds: type[Exception], status: int = 1) -> Iterator[None]:
    """Turns errors of the library in the block into a Failure."""
    try:
        yield
    except kinds as error:
        raise Failure(str(error), status) from error
