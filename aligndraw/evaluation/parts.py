"""Work in parts: each is done once, by one of several processes, and kept in a file of its own.

Started with `torchrun --nproc-per-node N -m aligndraw ...`, N processes share the parts. What a part yields depends on
the part alone, so that the results do not depend on how many there were, nor on how often they were interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from aligndraw.files import atomic_write, load_array, reading, save_array

_TIMEOUT = timedelta(days=30)  # of a process that waits for the others


@dataclass(frozen=True)
class ProcessGroup:
    """One of `size` processes that work together, the one of this rank."""

    rank: int = 0
    size: int = 1

    def barrier(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def process_group(threads: int = 1) -> Iterator[ProcessGroup]:
    """The processes that `torchrun` started, joined by gloo; this one alone where it did not.

    Args:
        threads: of each process; how sums round depends on it.
    """
    size, before = int(os.environ.get("WORLD_SIZE", 1)), torch.get_num_threads()
    torch.set_num_threads(threads)
    if size > 1:
        distributed.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(distributed.get_rank(), size) if size > 1 else ProcessGroup()
    finally:
        torch.set_num_threads(before)
        if size > 1:
            distributed.destroy_process_group()


@dataclass(frozen=True)
class Part:
    """Something to be done.

    Attributes:
        name: of its file, without the ending; may have folders.
        work: how much it is, in bounds and pictures.
        compute: what it yields.
    """

    name: str
    work: int
    compute: Callable[[], NDArray[Any]]


class Parts:
    """A folder with what was done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Of the file of a part."""
        return self.folder / f"{name}.npy"

    def share(self, parts: Sequence[Part], group: ProcessGroup) -> list[Part]:
        """Those of the parts that this process has to do: every `group.size`-th of what is not done."""
        missing = [part for part in parts if not self.path(part.name).is_file()]
        group.barrier()  # before anyone does a part that another has yet to look for
        return missing[group.rank :: group.size]

    def do(self, part: Part) -> None:
        """Does a part and keeps what it yields; whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        values = part.compute()
        path = self.path(part.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            save_array(temporary, values)

    def read(self, parts: Sequence[Part]) -> NDArray[Any]:
        """What the parts yielded, one after the other.

        Raises:
            FileNotFoundError: a part is not there.
            ValueError: a part is damaged.
        """
        return np.concatenate([self._read(self.path(part.name)) for part in parts])

    def _read(self, path: Path) -> NDArray[Any]:
        with reading(path, "not what was computed: remove it, and start again"):
            return load_array(path)
