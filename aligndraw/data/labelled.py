"""Images with classes: scenes with their objects, and CIFAR-10 in its distributed forms.

cifar-10-batches-py/   data_batch_1 ... data_batch_5, test_batch: Python 2 pickles
cifar-10-batches-bin/  data_batch_1.bin ..., test_batch.bin: 3,073 bytes per image, the class before the pixels
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.arguments import check_path
from aligndraw.data.captioned import DataError
from aligndraw.data.pickles import load_pickle
from aligndraw.data.scene import ATTRIBUTES, SIDE
from aligndraw.data.scenes import Scenes, Split
from aligndraw.printable import counted

_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with classes, the same in every epoch except for their order.

    Attributes:
        images: uint8 [n, C, H, W].
        labels: int64 [n].
        classes: their names.
        checksum: SHA-256 of images and labels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    checksum: str

    @property
    def image_shape(self) -> tuple[int, ...]:
        """C, H, W."""
        return self.images.shape[1:]

    def epoch(self, seed: int, epoch: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Returns `size` images and their classes, fully determined by (seed, epoch).

        None repeats before all others have come.
        """
        rng = np.random.default_rng([seed, epoch])
        passes = [rng.permutation(len(self.labels)) for _ in range(-(-size // len(self.labels)))]
        rows = np.concatenate(passes)[:size]
        return self.images[rows], self.labels[rows]


class LabelledScenes:
    """Scenes of all combinations, a quarter of them held out from models, labelled with their object."""

    classes = tuple(map(str, ATTRIBUTES["object"]))
    image_shape = (3, SIDE, SIDE)
    checksum = None

    def __init__(self, split: Split = "train") -> None:
        self._split = split

    def epoch(self, seed: int, epoch: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Returns `size` pictures and their classes, fully determined by (seed, epoch)."""
        few = size // 4
        parts = [Scenes(self._split).epoch(seed, epoch, size - few)]
        if few:
            parts.append(Scenes(self._split, "held_out").epoch(seed, epoch, few))
        order = np.random.default_rng([seed, epoch]).permutation(size)
        images = np.concatenate([part.pictures(slice(None)) for part in parts])[order]
        where = list(ATTRIBUTES).index("object")
        return images, np.concatenate([part.attributes[:, where] for part in parts])[order]


def open_labelled(
    folder: str | os.PathLike[str] | None,
) -> tuple[LabelledImages | LabelledScenes, LabelledImages | LabelledScenes]:
    """Returns training and test images: CIFAR-10 from a folder, or scenes without one.

    Raises:
        DataError: as for `read_cifar`.
    """
    return (LabelledScenes(), LabelledScenes("test")) if folder is None else read_cifar(folder)


def read_cifar(folder: str | os.PathLike[str]) -> tuple[LabelledImages, LabelledImages]:
    """Returns CIFAR-10's training and test images, from its Python or its binary files.

    Raises:
        DataError: a file is missing, damaged or foreign.
    """
    folder = check_path("folder", folder)
    forms = ((_read_pickle, ""), (_read_binary, ".bin"))
    kinds = [(read, [folder / f"{name}{ending}" for name in _CIFAR_FILES]) for read, ending in forms]
    # An empty file, or a folder of that name, counts as missing.
    lacking = [[path.name for path in paths if not (path.is_file() and path.stat().st_size)] for _, paths in kinds]
    fewest = min(lacking, key=len)
    if fewest:
        wanted = "data_batch_1 ... data_batch_5 and test_batch, or the same with .bin"
        raise DataError(f"{folder} must hold CIFAR-10's files {wanted}, got no {', '.join(fewest)}")
    read, paths = kinds[lacking.index(fewest)]
    *train, test = map(read, paths)
    return _labelled_images(train), _labelled_images([test])


def _labelled_images(parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> LabelledImages:
    images, labels = (np.concatenate(each) for each in zip(*parts))
    checksum = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return LabelledImages(images, labels, _CIFAR_CLASSES, checksum)


def _read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    size = 1 + int(np.prod(_CIFAR_SHAPE))
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if not len(content) or len(content) % size:
        raise DataError(f"{path} must have {counted(size, 'byte')} an image, got {counted(len(content), 'byte')}")
    rows = content.reshape(-1, size)
    return _checked(path, rows[:, 1:], rows[:, 0])


def _read_pickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = load_pickle(path, arrays=True)
    if not isinstance(batch, dict) or not {"data", "labels"} <= set(batch):
        raise DataError(f"{path} must hold data and labels, got others")
    return _checked(path, batch["data"], batch["labels"])


def _checked(path: Path, pixels: Any, labels: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns images [n, 3, 32, 32] and labels [n] from n rows of pixels."""
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    good = pixels.dtype == np.uint8 and pixels.ndim == 2 and pixels.shape[1] == np.prod(_CIFAR_SHAPE)
    if not good or labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu" or not len(labels):
        got = f"{pixels.dtype} {list(pixels.shape)} and {labels.dtype} {list(labels.shape)}"
        raise DataError(f"{path} must hold pixels uint8 [n, 3072] and classes [n], got {got}")
    if not 0 <= labels.min() <= labels.max() < len(_CIFAR_CLASSES):
        raise DataError(f"{path} must hold classes from 0 to 9, got {labels.min()} to {labels.max()}")
    return pixels.reshape(-1, *_CIFAR_SHAPE), labels.astype(np.int64)
