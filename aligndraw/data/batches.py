"""The interfaces of data sets, and the conversion of their batches to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.text import Vocabulary


class Examples(Protocol):
    """Pictures, each with a caption."""

    def __len__(self) -> int: ...

    def batch(self, index: slice, /) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.int64]]:
        """Returns pictures uint8 [B, C, H, W], word ids int64 [B, N] padded with 0, and lengths int64 [B].

        Sentence vectors float32 [B, d] may take the place of word ids (`aligndraw.data.sentences`).
        """

    def captions(self, index: slice = ..., /) -> list[str]:
        """Returns the captions as text; all by default."""


@runtime_checkable
class Resident(Examples, Protocol):
    """Examples whose pictures a device composes from images that lie in its memory.

    Attributes:
        images: uint8, the images to compose from.
    """

    images: NDArray[np.uint8]

    def texts(self, index: slice, /) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns word ids int64 [B, N] padded with 0, and lengths int64 [B]."""

    def parts(self, index: slice, /) -> tuple[NDArray[np.int64], ...]:
        """Returns the parts of each picture, int64 [B, ...], such as indices of images and places."""

    @staticmethod
    def compose(images: Tensor, *parts: Tensor) -> Tensor:
        """Returns pictures uint8 [B, C, H, W] from `images` and `parts` on one device, without waiting for it."""


class Source(Protocol):
    """A source of training examples."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the word ids."""

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> Examples:
        """Returns `size` examples, fully determined by (seed, epoch)."""

    def all_captions(self) -> Sequence[str] | None:
        """Returns every caption that an epoch may hold; None where they are too many to list."""


class CaptionReader(Protocol):
    """Encodes captions for a model: a `Vocabulary` or a `SentenceReader`."""

    def encode_batch(self, captions: Sequence[str], /) -> tuple[Tensor, Tensor]:
        """Returns word ids int64 [B, N] or sentence vectors float32 [B, d], and lengths int64 [B]."""
        ...


def to_tensors(examples: Examples, index: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a slice of examples: images float32 [B, C, H, W] in [0, 1], captions for `Model.encode_captions`."""
    pictures, words, lengths = examples.batch(index)
    return as_images(torch.from_numpy(pictures)), torch.from_numpy(words), torch.from_numpy(lengths)


def to_parts(examples: Resident, index: slice) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Returns a slice of examples: parts for `Resident.compose`, and captions for `Model.encode_captions`."""
    words, lengths = examples.texts(index)
    parts = tuple(torch.from_numpy(part) for part in examples.parts(index))
    return parts, torch.from_numpy(words), torch.from_numpy(lengths)


def as_images(pictures: Tensor) -> Tensor:
    """Pictures uint8 -> images float32 in [0, 1]."""
    return pictures.float() / 255
