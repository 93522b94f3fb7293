"""Handwritten digits: the 10,000 of the package, or the caller's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aligndraw.arguments import check_path
from aligndraw.data.mnist_files import read_authors_h5, read_idx_folder
from aligndraw.files import check_regular, load_archive

SIDE = 28
_SHIPPED = Path(__file__).with_name("mnist-10k.npz")


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures of single digits.

    Args:
        images: uint8 [n, 28, 28], 0 is background, C-contiguous.
        labels: uint8 [n], the digit shown, 0…9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if (
            images.dtype != np.uint8
            or images.ndim != 3
            or images.shape[1:] != (SIDE, SIDE)
            or not images.flags.c_contiguous
        ):
            raise ValueError(
                f"images must be C-contiguous uint8 [n, {SIDE}, {SIDE}], got {images.dtype} {list(images.shape)}"
            )
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(f"labels must be uint8 [{len(images)}], got {labels.dtype} {list(labels.shape)}")
        if labels.size and labels.max() > 9:
            raise ValueError(f"labels must be in 0…9, got {labels.max()}")

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(path: str | os.PathLike[str] | None = None) -> Digits:
    """Returns the digits of a file or folder.

    Args:
        path: an .npz archive with the arrays `images` and `labels`; a folder with MNIST's IDX files
            (`train-images-idx3-ubyte`, …, gzipped or not); or the alignDRAW authors' `mnist.h5`, which needs h5py.
            By default the 10,000 MNIST digits of the package.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is damaged or something else; the message names it.
    """
    file = _SHIPPED if path is None else check_path("path", path)
    if not file.exists():
        raise FileNotFoundError(f"digits file {file} does not exist")
    read: Callable[[Path], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    if file.is_dir():
        form, read = "folder {} must hold MNIST's IDX files", read_idx_folder
    elif file.suffix in (".h5", ".hdf5"):
        form, read = "file {} must be the authors' mnist.h5", read_authors_h5
    else:
        array = f"images uint8 [n, {SIDE}, {SIDE}] and labels uint8 [n]"
        form, read = f"file {{}} must be an .npz archive with {array}", _read_npz
    try:
        check_regular(file)
        return Digits(*(np.ascontiguousarray(a) for a in read(file)))
    # Damage raises half a dozen kinds of exception: zip, zlib, header, memory, encoding.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"digits {form.format(file)}: {reason}") from error


def _read_npz(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = load_archive(file, "images", "labels")
    return images, labels
