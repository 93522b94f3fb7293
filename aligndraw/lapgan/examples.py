"""Images with captions, to train a sharpener on or to sharpen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.data import as_images
from aligndraw.data.captioned import CaptionedImages, file_checksum
from aligndraw.files import load_archive, reading


class CaptionedExamples(Protocol):
    """Pairs of an image and a caption.

    Attributes:
        checksum: SHA-256 of their source.
    """

    checksum: str

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Sequence[str]]:
        """Returns images float32 [B, C, H, W] in [0, 1] and their captions."""
        ...


def open_examples(path: str | Path) -> CaptionedExamples:
    """Returns the examples of an archive, or of the training split of a folder; errors are those of the two classes."""
    return StoredExamples(path) if Path(path).is_dir() else ArchivedExamples(path)


class StoredExamples:
    """The training split of a folder of captioned images, as `aligndraw data` writes it; images stay on disk.

    Raises:
        ValueError: it is no such folder, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        data = CaptionedImages.open(folder)
        self._split, self.checksum = data.split("train"), data.checksum

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Sequence[str]]:
        """Returns images float32 [B, C, H, W] in [0, 1] and their captions."""
        return as_images(torch.from_numpy(self._split.pictures(rows))), self._split.captions(rows)


class ArchivedExamples:
    """An .npz archive, as `aligndraw sample -o FILE.npz` writes it.

    Attributes:
        images: float32 [n, C, H, W] in [0, 1].
        captions: n strings.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or something else.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            with reading(path, "no .npz archive of images and captions"):
                self.checksum = file_checksum(Path(path))
                images, captions = load_archive(path, "images", "captions")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no archive {path}") from error
        if images.ndim != 4 or not len(images) or captions.shape != images.shape[:1] or captions.dtype.kind != "U":
            raise ValueError(
                f"{path} must hold images [n, C, H, W] and captions, strings [n], "
                f"got {list(images.shape)} and {captions.dtype} {list(captions.shape)}"
            )
        if images.dtype != np.float32 or not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"images of {path} must be float32 in [0, 1], got {images.dtype}, or out of range")
        if images.shape[1] not in (1, 3):
            raise ValueError(f"images of {path} must be grey, C = 1, or in colour, C = 3, got C = {images.shape[1]}")
        self.images, self.captions = torch.from_numpy(images), captions.tolist()

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Sequence[str]]:
        """Returns images float32 [B, C, H, W] in [0, 1] and their captions."""
        return self.images[torch.from_numpy(rows)], [self.captions[row] for row in rows.tolist()]
