"""Files and folders that appear whole or not at all; arrays and tensors, read without pickle.

An unfinished file lies beside its place in a folder `.aligndraw-…`, and the process that writes it holds the lock
`.aligndraw-…/lock`. A kill leaves the folder but releases the lock: `sweep` removes folders whose lock nobody holds.
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
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from aligndraw.json_files import FileError

# Unpacked data may take FREE_BYTES, or RATIO times the size of the file. No useful data is packed more tightly.
FREE_BYTES, RATIO = 2**28, 100

_M = TypeVar("_M", bound=nn.Module)

_CHECKSUM = "sha256"  # among the metadata of a .safetensors file
_SCRATCH, _LOCK = ".aligndraw-", "lock"
_NEW, _OLD, _READY, _REPLACED = "new", "old", "ready", "replaced"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system that has none


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a path for a new file or folder, which replaces `path` when the block ends without an error.

    Until then, and after an error, `path` stays as it was. A new folder replaces an old one with all its contents.

    Raises:
        OSError: the place cannot be written.
    """
    with scratch(path.parent) as place:
        new, old = place / _NEW, place / _OLD / path.name
        yield new
        try:
            if new.is_dir() and path.exists():  # the system replaces files by files alone, and no non-empty folder
                old.parent.mkdir()
                path.rename(old)
            new.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise


@contextmanager
def atomic_update(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields a folder for new files of these names, which replace those in `folder` when the block ends without error.

    An old file goes even where there is no new one of its name. Other files of `folder` stay. After an error all old
    files are as they were. After a kill among the replacements, `sweep` restores all old files or places all new ones.

    Raises:
        OSError: the place cannot be written.
    """
    with scratch(folder) as place:
        new, old, ready = place / _NEW, place / _OLD, place / _READY
        new.mkdir()
        yield new
        old.mkdir()
        try:
            _move(folder, names, old)
            new.rename(ready)  # from here on `sweep` goes forward
            _move(ready, names, folder)
            old.rename(place / _REPLACED)  # `sweep` restores none of them
        except BaseException:
            if old.exists():
                if ready.exists():
                    _move(folder, names, ready)
                    ready.rename(new)  # and back again
                _move(old, names, folder)
            raise


def _move(source: Path, names: Iterable[str], target: Path) -> None:
    """Moves the files of these names that are in a folder into another."""
    for name in names:
        if (source / name).exists():
            (source / name).rename(target / name)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yields a fresh folder in `parent` for unfinished files. The block's end removes it; after a kill, `sweep` does.

    Raises:
        OSError: the folder cannot be made.
    """
    sweep(parent)
    with ExitStack() as stack:
        while True:
            try:
                place = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
            except OSError as error:  # it names a folder that nobody asked for
                raise OSError(error.errno, error.strerror, str(parent)) from error
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            with suppress(FileNotFoundError, BlockingIOError):
                stack.enter_context(locked(place / _LOCK))
                break  # no other process swept it before the lock
        yield place


def sweep(folder: Path) -> None:
    """Removes unfinished files of killed processes from a folder, and restores files they were about to replace.

    Where all new files of an `atomic_update` are ready, it places them instead.
    """
    for place in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError), (place / _LOCK).open("a") as lock:
            if not _acquire(lock):
                continue
            if (place / _READY).exists():  # of `atomic_update`
                _move(place / _READY, os.listdir(place / _READY), folder)
                if (place / _OLD).exists():
                    (place / _OLD).rename(place / _REPLACED)
            for old in (place / _OLD).glob("*"):
                if not (folder / old.name).exists():
                    old.rename(folder / old.name)
            shutil.rmtree(place, ignore_errors=True)


def discard(folder: Path) -> None:
    """Removes a folder, or a file in its place, at once and as a whole; `sweep` removes the remains after a kill.

    Raises:
        OSError: there is no such folder, or it cannot be moved.
    """
    gone = folder.with_name(f"{_SCRATCH}{secrets.token_hex(4)}")
    if not folder.is_dir():
        folder.unlink()
        return
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, which is made if need be, until the end of the block or of the process.

    On a file system without locks nothing is held, and `sweep` removes nothing.

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
                    break  # its former holder has not removed it
        yield


if os.name == "posix":
    import fcntl

    def _acquire(file: IO[Any]) -> bool:
        """Locks an open file; returns False where another process holds it."""
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
    """Turns all errors in the block, except a missing file, into one FileError "PATH is WHAT: why".

    Raises:
        FileNotFoundError: there is no such file.
        FileError: the file is damaged or something else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    # Damage raises half a dozen kinds of exception: zip, zlib, header, memory, end of file.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FileError(f"{path} is {what}: {reason}") from error


def read_text(path: str | Path) -> str:
    """Returns the text of a UTF-8 file, without a byte order mark.

    Raises:
        OSError: it cannot be read.
        FileError: it is in another encoding; the message names the file and the line.
    """
    content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(f"{path}, line {line}: it must be UTF-8 text: save it as such") from error


def check_unpacked(path: str | Path, size: int, what: str = "it") -> None:
    """Raises ValueError where the data of a file would take far more memory than the file.

    Args:
        path: of the file.
        size: of the data in bytes, as the file itself states it.
        what: its name in the message.
    """
    if size > max(FREE_BYTES, RATIO * Path(path).stat().st_size):
        raise ValueError(f"{what} would take {size:,} bytes, more than {RATIO} times the file: unpack it first")


def check_regular(path: str | Path, kind: type[ValueError] = ValueError) -> None:
    """Raises an error of a kind for a pipe, a device or a socket, whose reading may never end."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise kind("it is a pipe or a device, not a file")


@contextmanager
def _of_numpy(path: str | Path, mmap_mode: Literal["r"] | None = None) -> Iterator[Any]:
    """Yields the content of a .npy or .npz file. Of others NumPy says how to unpickle them."""
    check_regular(path)
    with Path(path).open("rb") as file:
        if not file.read(6).startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")):
            raise ValueError("it is no .npy or .npz file")
    try:
        yield np.load(path, mmap_mode, allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise ValueError("it holds Python objects, which are not read") from error
        raise


def load_array(path: str | Path, mapped: bool = False) -> NDArray[Any]:
    """Returns the array of a .npy file, in memory or mapped; call it within `reading`, which names the file."""
    with _of_numpy(path, "r" if mapped else None) as array:
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive")
        return array


@contextmanager
def _archive(path: str | Path) -> Iterator[Any]:
    """Yields an open .npz file."""
    with _of_numpy(path) as found:
        if isinstance(found, np.ndarray):
            raise ValueError("it is a single array")
        with found:
            yield found


def archive_names(path: str | Path) -> list[str]:
    """Returns the names of the arrays of a .npz file; call it within `reading`, which names the file."""
    with _archive(path) as archive:
        return list(archive.files)


def load_archive(path: str | Path, *names: str) -> list[NDArray[Any]]:
    """Returns arrays of a .npz file by name; call it within `reading`, which names the file."""
    with _archive(path) as archive:
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


def finite_floats(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Returns an array of a file as float32; call it within `reading`, which names the file.

    Raises:
        ValueError: it holds no numbers, or one that is not finite in float32; the message begins with the name.
    """
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{name} must hold finite numbers")
    return found


def h5_array(file: Any, name: str) -> NDArray[Any]:
    """Returns an array of an open HDF5 file.

    Raises:
        ValueError: there is no such array, it lies in another file, or it would take far more memory than the file.
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
    # A packed chunk may be larger than the whole array.
    check_unpacked(file.filename, max(found.size, math.prod(found.chunks or ())) * found.dtype.itemsize, name)
    return np.asarray(found)


def write_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike, blocks: Iterable[NDArray[Any]]) -> str:
    """Writes a .npy file from blocks of rows, which are never all in memory.

    `np.save` and `tofile` do not report a disk that is full for the last few kilobytes. A memory-mapped file on a full
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


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a .safetensors file with a checksum among its metadata.

    Raises:
        OSError: it cannot be written.
    """
    metadata = dict(metadata or {})
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(tensors, {**metadata, _CHECKSUM: _checksum(tensors, metadata)})
    path.write_bytes(_sorted_metadata(content))  # `save_file` reports a full disk as another error


def _sorted_metadata(content: bytes) -> bytes:
    """Returns a .safetensors file with its metadata in order: the library writes them in a random one."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors are aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors of a .safetensors file, on the CPU, and its metadata.

    Files of version 0.1 and of other programs have no checksum, and are read without one.

    Raises:
        OSError: the file cannot be read.
        FileError: it is damaged or something else.
    """
    content = path.read_bytes()  # the library opens no path that is not UTF-8
    try:
        tensors = safetensors.torch.load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})
        wanted = metadata.pop(_CHECKSUM, None)
        if wanted not in (None, _checksum(tensors, metadata)):
            raise ValueError("its tensors are not those that were written: its checksum is another")
    except Exception as error:  # of a class that differs between versions of the library
        raise FileError(f"{path} is damaged or no safetensors file: {' '.join(str(error).split())}") from error
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Returns the SHA-256 of the metadata and of the names, dtypes, shapes and bytes of tensors."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
