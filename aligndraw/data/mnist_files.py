"""Readers of full MNIST in both common forms: LeCun's IDX files, and the alignDRAW authors' mnist.h5."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.files import check_unpacked, h5_array
from aligndraw.printable import counted

_PARTS = ("train", "t10k")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Returns the array of an IDX file of bytes, gzipped or not.

    Raises:
        ValueError: it is no such file, it is damaged, or its length differs from its header's. The message names it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[:3] != b"\0\0\x08":
                raise ValueError(f"{path.name} is no IDX file of bytes")
            if start[3] > 3:
                raise ValueError(f"{path.name} has {counted(start[3], 'dimension')}: images have 3, labels 1")
            sides = file.read(4 * start[3])
            if len(sides) < 4 * start[3]:
                raise ValueError(f"{path.name} is cut off")
            shape = np.frombuffer(sides, ">u4").tolist()
            size = math.prod(shape)
            check_unpacked(path, size, path.name)
            content = file.read(size + 1)  # one more byte checks for the end of the file, and gzip's checksum
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if len(content) != size:
        got = f"{len(content):,}" if len(content) < size else "more"
        raise ValueError(f"{path.name} should hold {counted(size, 'byte')} of data, got {got}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_idx_folder(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns images uint8 [n, 28, 28] and labels uint8 [n] of `train-images-idx3-ubyte` and its three companions.

    The training files suffice; the t10k files follow them, so that the last digits are the test set's.

    Raises:
        ValueError: a file is missing or damaged.
    """
    arrays: dict[str, list[NDArray[np.uint8]]] = {"images-idx3": [], "labels-idx1": []}
    for part in _PARTS:
        names = {kind: f"{part}-{kind}-ubyte" for kind in arrays}
        found = {kind: _files(folder, name) for kind, name in names.items()}
        if part == "t10k" and not any(found.values()):
            continue
        for kind, paths in found.items():
            if not paths:
                raise ValueError(f"it has no {names[kind]} or {names[kind]}.gz")
            arrays[kind].append(_first_good(paths))
    return np.concatenate(arrays["images-idx3"]), np.concatenate(arrays["labels-idx1"])


def _files(folder: Path, name: str) -> list[Path]:
    """Returns the files of a name, in both common spellings, gzipped or not."""
    spellings = (name, name.replace("-idx", ".idx"))
    paths = [folder / f"{spelling}{ending}" for spelling in spellings for ending in ("", ".gz")]
    return [path for path in paths if path.is_file()]


def _first_good(paths: list[Path]) -> NDArray[np.uint8]:
    """Returns the array of the first undamaged file: an empty or incomplete file may lie beside the good one."""
    failure: Exception | None = None
    for path in paths:
        try:
            return read_idx(path)
        # Damage raises half a dozen kinds of exception: gzip, zlib, header, end of file.
        except Exception as error:
            failure = failure or error
    assert failure is not None  # there is at least one path
    raise failure


def read_authors_h5(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns images and labels of mnist.h5: train and train_labels, then validation and validation_labels.

    Raises:
        ValueError: it is no such file, or h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ValueError("reading it needs h5py: run `pip install h5py`") from error
    images, labels = [], []
    with h5py.File(path, "r") as file:
        for part in ("train", "validation"):
            pixels, digits = (h5_array(file, name) for name in (part, f"{part}_labels"))
            if pixels.shape[1:] not in ((784,), (28, 28)):
                raise ValueError(f"{part} must be [n, 784] or [n, 28, 28], got {list(pixels.shape)}")
            if pixels.dtype != np.uint8:
                _check_range(part, pixels, 1, "be bytes, or lie in [0, 1]")
                pixels = np.rint(pixels * 255).astype(np.uint8)
            if digits.size != len(pixels):
                raise ValueError(f"{part}_labels must be [{len(pixels)}], got {list(digits.shape)}")
            _check_range(f"{part}_labels", digits, 9, "be whole numbers in 0…9")
            if (digits % 1).any():
                raise ValueError(f"{part}_labels must be whole numbers in 0…9, got others")
            images.append(pixels.reshape(-1, 28, 28))
            labels.append(digits.astype(np.uint8).reshape(-1))
    return np.concatenate(images), np.concatenate(labels)


def _check_range(name: str, numbers: NDArray[Any], top: int, rule: str) -> None:
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"{name} must {rule}, got {numbers.dtype}")
    if numbers.size and not (numbers.min() >= 0 and numbers.max() <= top):
        raise ValueError(f"{name} must {rule}, got {numbers.min():g} to {numbers.max():g}")
