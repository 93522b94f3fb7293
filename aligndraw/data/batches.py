"""From stored pictures to what a model takes, and what every data set offers."""

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
        """Pictures uint8 [B, C, H, W], word ids int64 [B, N] padded with 0, and lengths int64 [B].

        Or, in place of word ids, vectors of sentences float32 [B, d] (`aligndraw.data.sentences`).
        """

    def captions(self, index: slice = ..., /) -> list[str]:
        """The captions as text; all by default."""


@runtime_checkable
class Resident(Examples, Protocol):
    """Examples whose pictures a device makes by itself of what lies there once.

    Attributes:
        images: uint8, what the pictures are made of.
    """

    images: NDArray[np.uint8]

    def texts(self, index: slice, /) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Word ids int64 [B, N] padded with 0, and lengths int64 [B]."""

    def parts(self, index: slice, /) -> tuple[NDArray[np.int64], ...]:
        """What each picture is made of, int64 [B, ...]."""

    @staticmethod
    def compose(images: Tensor, *parts: Tensor) -> Tensor:
        """Pictures uint8 [B, C, H, W] of `images` and `parts` on one device, without waiting for it."""


class Source(Protocol):
    """Where examples come from."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the word ids."""

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> Examples:
        """`size` examples, fully determined by (seed, epoch)."""

    def all_captions(self) -> Sequence[str] | None:
        """Every caption that an epoch may hold, where they can be listed."""


class CaptionReader(Protocol):
    """What makes of captions what a model takes: a `Vocabulary`, or a `SentenceReader`."""

    def encode_batch(self, captions: Sequence[str], /) -> tuple[Tensor, Tensor]:
        """Word ids int64 [B, N] or vectors of sentences float32 [B, d], and lengths int64 [B]."""
        ...


def to_tensors(examples: Examples, index: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a slice of examples: images float32 [B, C, H, W] in [0, 1], captions for `Model.encode_captions`."""
    pictures, words, lengths = examples.batch(index)
    return as_images(torch.from_numpy(pictures)), torch.from_numpy(words), torch.from_numpy(lengths)


def to_parts(examples: Resident, index: slice) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """The same with what images are made of in place of images."""
    words, lengths = examples.texts(index)
    parts = tuple(torch.from_numpy(part) for part in examples.parts(index))
    return parts, torch.from_numpy(words), torch.from_numpy(lengths)


def as_images(pictures: Tensor) -> Tensor:
    """Pictures uint8 as images float32 in [0, 1]."""
    return pictures.float() / 255
