"""Files and folders that appear whole or not at all; arrays and the weights of modules, read without pickle.

What is not whole yet lies beside its place in a folder `.aligndraw-…`, and the process that fills it holds the lock
`.aligndraw-…/lock`. A kill leaves the folder but ends the lock: `sweep` removes the folders whose lock nobody holds.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

# What packed data may take in memory: so many bytes, or so many times the file. No data of use is packed more tightly.
FREE_BYTES, RATIO = 2**28, 100

_M = TypeVar("_M", bound=nn.Module)

_CHECKSUM = "sha256"  # among the metadata of a .safetensors file
_SCRATCH, _LOCK, _NEW, _OLD = ".aligndraw-", "lock", "new", "old"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system that has none


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a path for a new file or folder, which takes the place of `path` when the block ends well.

    Until then, and if the block fails, `path` stays as it was. A new folder replaces an old one with all that is in it.

    Raises:
        OSError: the place cannot be written.
    """
    with scratch(path.parent) as place:
        new, old = place / _NEW, place / _OLD / path.name
        yield new
        try:
            if new.is_dir() and path.is_dir():  # the system replaces files, but no folder with something in it
                old.parent.mkdir()
                path.rename(old)
            new.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yields a fresh folder in `parent` for what is not whole yet. It goes when the block ends; after a kill, `sweep`
    removes it.

    Raises:
        OSError: the folder cannot be made.
    """
    sweep(parent)
    with ExitStack() as stack:
        while True:
            place = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            with suppress(FileNotFoundError, BlockingIOError):
                stack.enter_context(locked(place / _LOCK))
                break  # it was not swept before it was locked
        yield place


def sweep(folder: Path) -> None:
    """Removes what killed processes left unfinished in a folder, and puts back what they were about to replace."""
    for place in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError), (place / _LOCK).open("a") as lock:
            if not _acquire(lock):
                continue
            for old in (place / _OLD).glob("*"):
                if not (folder / old.name).exists():
                    old.rename(folder / old.name)
            shutil.rmtree(place, ignore_errors=True)


def discard(folder: Path) -> None:
    """Removes a folder, which is gone at once as a whole; what a kill leaves of it, `sweep` removes.

    Raises:
        OSError: there is no such folder, or it cannot be moved.
    """
    gone = folder.with_name(f"{_SCRATCH}{secrets.token_hex(4)}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, which is made if need be. The lock ends with the block or the process.

    On a file system without locks nothing is held, and nothing is swept.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made.
    """
    with ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("a"))
            try:
                if not _acquire(file):
                    raise BlockingIOError(errno.EAGAIN, "another process holds the lock", str(path))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break  # the process that held it before has not removed it
        yield


if os.name == "posix":
    import fcntl

    def _acquire(file: IO[Any]) -> bool:
        """Locks an open file; False where another process holds it."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
else:
    import msvcrt

    def _acquire(file: IO[Any]) -> bool:
        """Locks an open file; False where another process holds it."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True


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


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without the mark that some programs begin it with.

    Raises:
        OSError: it cannot be read.
        ValueError: it is in another encoding; the message names the file and the line.
    """
    content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: it must be UTF-8 text: save it as such") from error


def check_unpacked(path: str | Path, size: int, what: str = "it") -> None:
    """Raises ValueError where data of a file would take far more memory than the file.

    Args:
        path: of the file.
        size: of the data, in bytes, as the file itself tells it.
        what: they are called.
    """
    if size > max(FREE_BYTES, RATIO * Path(path).stat().st_size):
        raise ValueError(f"{what} would take {size:,} bytes, more than {RATIO} times the file: unpack it first")


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
        members = archive.zip.namelist()
        sizes = (archive.zip.getinfo(name if name in members else f"{name}.npy").file_size for name in names)
        check_unpacked(path, sum(sizes))
        arrays = [archive[name] for name in names]
    for name, array in zip(names, arrays):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is no array")
    return arrays


def h5_array(file: Any, name: str) -> NDArray[Any]:
    """An array of an open HDF5 file, which may neither point to other files nor take far more memory than it has bytes.

    Raises:
        ValueError: there is none such.
    """
    import h5py

    link = file.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} must lie in the file itself")
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"it has no data set {name!r}")
    if found.is_virtual or found.external:
        raise ValueError(f"{name} must lie in the file itself")
    # A piece that is packed by itself may be larger than the whole.
    check_unpacked(file.filename, max(found.size, math.prod(found.chunks or ())) * found.dtype.itemsize, name)
    return np.asarray(found)


def write_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike, blocks: Iterable[NDArray[Any]]) -> str:
    """Writes a .npy file of blocks of rows one after the other, never held whole.

    `np.save` and `tofile` are silent where a full disk has no room for the last few kilobytes. A mapped file on a full
    disk kills the process.

    Returns:
        the SHA-256 of the file.

    Raises:
        ValueError: the blocks are of Python objects.
        OSError: it cannot be written.
    """
    if np.dtype(dtype).hasobject:
        raise ValueError("an array of Python objects cannot be written without pickle")
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    digest = hashlib.sha256(header.getvalue())
    with path.open("wb") as file:
        file.write(header.getvalue())
        for block in blocks:
            data = np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def save_array(path: Path, array: NDArray[Any]) -> str:
    """`write_array` of one array."""
    return write_array(path, array.shape, array.dtype, [array])


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a .safetensors file with a checksum among its metadata.

    Raises:
        OSError: it cannot be written.
    """
    metadata = dict(metadata or {})
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(tensors, {**metadata, _CHECKSUM: _checksum(tensors, metadata)})
    path.write_bytes(content)  # `save_file` hides a full disk in an error of its own


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file, on the CPU, and its metadata.

    Files of earlier versions and of other programs have no checksum, and are read without one.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or something else.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        wanted = metadata.pop(_CHECKSUM, None)
        if wanted not in (None, _checksum(tensors, metadata)):
            raise ValueError("its tensors are not those that were written: its checksum is another")
    except OSError:
        raise
    except Exception as error:  # each version of the library has its own
        raise ValueError(f"{path} is damaged or no safetensors file: {' '.join(str(error).split())}") from error
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the metadata and of the names, dtypes, shapes and bytes of tensors."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
