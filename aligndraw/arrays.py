"""Files of arrays, .npy and .npz: read without pickle, whatever is in them; and written without being held whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[None]:
    """A ValueError "PATH is WHAT: why" for whatever goes wrong inside but a missing file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or something else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    # Damage shows as half a dozen kinds of exception: zip, zlib, header, memory, end of file.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is {what}: {reason}") from error


def load_array(path: str | Path, mapped: bool = False) -> NDArray[Any]:
    """The array of a .npy file, in memory or mapped; inside `reading`."""
    array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("it is an archive")
    return array


def load_archive(path: str | Path, *names: str) -> list[NDArray[Any]]:
    """Arrays of a .npz file by name; inside `reading`."""
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("it is a single array")
    with archive:
        missing = [name for name in names if name not in archive.files]
        if missing:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        return [archive[name] for name in names]


def write_array(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, blocks: Iterable[NDArray[Any]]
) -> None:
    """Writes a .npy file of blocks of rows one after the other, never held whole.

    A mapped file would be shorter, but a full disk then kills the process instead of raising an error.

    Raises:
        OSError: it cannot be written.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
