"""Full MNIST, in the two forms in which it is handed round: LeCun's IDX files, and the alignDRAW authors' mnist.h5."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PARTS = ("train", "t10k")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of bytes, gzipped or not.

    Raises:
        ValueError: the file is no such thing, or its length is not what its header says.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != 0x08:
        raise ValueError(f"{path.name} is no IDX file of bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4).tolist()
    offset = 4 + 4 * dimensions
    if len(content) - offset != math.prod(shape):
        raise ValueError(f"{path.name} should hold {math.prod(shape)} bytes of data, got {len(content) - offset}")
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


def read_idx_folder(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 [n, 28, 28] and labels uint8 [n] of `train-images-idx3-ubyte` and its three companions.

    The training files alone will do; the t10k files follow them, so that the last digits are the test set's.

    Raises:
        ValueError: a file is missing or damaged.
    """
    arrays: dict[str, list[NDArray[np.uint8]]] = {"images-idx3": [], "labels-idx1": []}
    for part in _PARTS:
        found = {kind: sorted(folder.glob(f"{part}-{kind[:-5]}[-.]{kind[-4:]}-ubyte*")) for kind in arrays}
        if part == "t10k" and not any(found.values()):
            continue
        for kind, paths in found.items():
            if not paths:
                raise ValueError(f"it has no {part}-{kind}-ubyte or {part}-{kind}-ubyte.gz")
            arrays[kind].append(read_idx(paths[0]))
    return np.concatenate(arrays["images-idx3"]), np.concatenate(arrays["labels-idx1"])


def read_authors_h5(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of mnist.h5: train and train_labels, then validation and validation_labels.

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
            for name in (part, f"{part}_labels"):
                if name not in file:
                    raise ValueError(f"it has no data set {name!r}")
            pixels = np.asarray(file[part])
            if pixels.dtype != np.uint8:
                if not (pixels.min() >= 0 and pixels.max() <= 1):
                    span = f"{pixels.min():g} to {pixels.max():g}"
                    raise ValueError(f"{part} must be bytes, or lie in [0, 1], got {span}")
                pixels = np.rint(pixels * 255).astype(np.uint8)
            images.append(pixels.reshape(len(pixels), 28, 28))
            labels.append(np.asarray(file[f"{part}_labels"]).astype(np.uint8).reshape(-1))
    return np.concatenate(images), np.concatenate(labels)
