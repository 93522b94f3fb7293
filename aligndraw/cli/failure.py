"""How a command ends that cannot do what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Failure(Exception):
    """Something that the user can mend: the message becomes one line, the status that of the process."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def failing(*kinds: type[Exception], status: int = 1) -> Iterator[None]:
    """Makes a Failure of the errors by which the library refuses what the user gave."""
    try:
        yield
    except kinds as error:
        raise Failure(str(error), status) from error
