"""Stops a program, fills its disk, or does anything else, at any one of the operations by which it changes files.

    faults = FileFaults(monkeypatch)
    with faults.counted():                       # how many operations there are
        work()
    for k in range(len(faults.operations)):
        with faults.killed_at(k), pytest.raises(Killed):
            work()

Counted are `os.mkdir` and its kind, and the opening, the writes and the cuts of files that Python opens to write. What
NumPy's `tofile` or another library writes with C's own functions is not seen.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Killed(BaseException):
    """The end of the process: from then on no operation is done any more, also none that cleans up."""


class FileFaults:
    """Counts operations, and fails at one of them.

    Attributes:
        operations: names of those that were begun, in their order.
    """

    def __init__(self, monkeypatch):
        self.operations, self._active, self._kill, self._full = [], False, None, None
        self._errno, self._at, self._action, self._once = errno.ENOSPC, None, None, False
        for name in ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "truncate", "link", "symlink"):
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))
        opened = self._opening(io.open)
        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Fails nowhere."""
        self.operations, self._active = [], True
        try:
            yield
        finally:
            self._active, self._kill, self._full, self._at = False, None, None, None

    @contextmanager
    def killed_at(self, k: int) -> Iterator[None]:
        """Operation k and all later ones are not done; of a write the first half is."""
        self._kill = k
        with self.counted():
            yield

    @contextmanager
    def full_from(self, k: int) -> Iterator[None]:
        """Operation k fails for want of space, of a write the second half; so do all later ones that need space."""
        self._full = k
        with self.counted():
            yield

    @contextmanager
    def full_at(self, k: int) -> Iterator[None]:
        """As `full_from`, but another program makes space at once: operation k alone fails."""
        self._once = True
        try:
            with self.full_from(k):
                yield
        finally:
            self._once = False

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """All operations fail, as on a file system that is mounted to be read."""
        self._full, self._errno = 0, errno.EROFS
        try:
            with self.counted():
                yield
        finally:
            self._errno = errno.ENOSPC

    @contextmanager
    def before(self, k: int, action: Callable[[], object]) -> Iterator[None]:
        """Calls a function before operation k: a signal that comes then, or another process at work."""
        self._at, self._action = k, action
        with self.counted():
            yield

    def check(self, name: str, growing: bool) -> None:
        """Begins an operation; raises Killed or OSError where it is not to be done."""
        if not self._active:
            return
        k = len(self.operations)
        self.operations.append(name)
        if k == self._at:
            self._active = False  # the operations of the action are not counted
            try:
                self._action()
            finally:
                self._active = True
        if self._kill is not None and k >= self._kill:
            raise Killed
        later = growing and not self._once or self._errno == errno.EROFS
        if self._full is not None and (k == self._full or later and k > self._full):
            raise OSError(self._errno, os.strerror(self._errno), name.partition(" ")[2])

    def _counting(self, name, function):
        def counting(*arguments, **options):
            self.check(f"{name} {arguments[0]}", name in ("mkdir", "link", "symlink"))
            return function(*arguments, **options)

        return counting

    def _opening(self, function):
        def opening(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            if not self._active or isinstance(file, int) or opener or not set(mode) & set("wax+"):
                return function(file, mode, buffering, encoding, errors, newline, closefd, opener)
            self.check(f"open {file}", True)
            raw = _Raw(self, file, "".join(sorted(set(mode) - set("bt"))))
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        return opening


class _Raw(io.FileIO):
    """A file below its buffer, where each write is one of the system."""

    def __init__(self, faults, file, mode):
        super().__init__(file, mode)
        self.faults = faults

    def write(self, data):
        data, before = memoryview(data).cast("B"), len(self.faults.operations)
        try:
            self.faults.check(f"write {self.name}", True)
        except (Killed, OSError):
            if before in (self.faults._kill, self.faults._full):
                super().write(data[: len(data) // 2])
            raise
        return super().write(data)

    def truncate(self, size=None):
        self.faults.check(f"truncate {self.name}", False)
        return super().truncate(size)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder: contents of files by their paths; None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
