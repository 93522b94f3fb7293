"""Work in parts: each part is computed once, by one of several processes, and kept in a file of its own.

`torchrun --nproc-per-node N -m aligndraw ...` starts N processes that share the parts. The result of a part depends on
the part alone, neither on the number of processes nor on interruptions.
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

from aligndraw.files import atomic_write, load_tensors, reading, save_tensors, sweep

_VALUES = "values"  # the only tensor in the file of a part
_TIMEOUT = timedelta(days=30)  # of the barrier


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process among `size` processes."""

    rank: int = 0
    size: int = 1

    def barrier(self) -> None:
        """Waits until all processes have called it."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def process_group(threads: int = 1) -> Iterator[ProcessGroup]:
    """Yields the process group of `torchrun`, joined by gloo; a group of this process alone without torchrun.

    Args:
        threads: of each process; the rounding of sums depends on their number.
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
    """A unit of work.

    Attributes:
        name: of its file, without the suffix; may contain folders.
        work: its size, in bounds and pictures.
        compute: returns the result.
    """

    name: str
    work: int
    compute: Callable[[], NDArray[Any]]


class Parts:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Returns the file of a part."""
        return self.folder / f"{name}.safetensors"

    def share(self, parts: Sequence[Part], group: ProcessGroup) -> list[Part]:
        """Returns the parts of this process: every `group.size`-th of the missing ones.

        Unfinished files of killed processes are removed: where no part is missing, no later write removes them.
        """
        for folder in {self.path(part.name).parent for part in parts}:
            sweep(folder)
        missing = [part for part in parts if not self.path(part.name).is_file()]
        group.barrier()  # no process computes a part before all have listed the missing ones
        return missing[group.rank :: group.size]

    def do(self, part: Part) -> None:
        """Computes a part and writes its result, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        values = part.compute()
        path = self.path(part.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            save_tensors(temporary, {_VALUES: torch.from_numpy(values)})

    def read(self, parts: Sequence[Part]) -> NDArray[Any]:
        """Returns the concatenated results of parts.

        Raises:
            FileNotFoundError: a result is missing.
            FileError: a result is damaged.
        """
        return np.concatenate([self._read(self.path(part.name)) for part in parts])

    def _read(self, path: Path) -> NDArray[Any]:
        with reading(path, "not the computed result: remove it, and start again"):
            return load_tensors(path)[0][_VALUES].numpy()
