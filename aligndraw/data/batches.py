"""From stored pictures to what a model takes, and what every data set offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.text import Vocabulary


class Examples(Protocol):
    """Pictures, each with a caption."""

    def __len__(self) -> int: ...

    def batch(self, index: slice, /) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Pictures uint8 [B, C, H, W], word ids int64 [B, N] padded with 0, and lengths int64 [B]."""

    def captions(self, index: slice, /) -> list[str]:
        """The captions as text."""


class Source(Protocol):
    """Where examples come from."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the word ids."""

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> Examples:
        """`size` examples, fully determined by (seed, epoch)."""


def to_tensors(examples: Examples, index: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Images float32 [B, C, H, W] in [0, 1], word ids int64 [B, N] and lengths int64 [B] of a slice of the examples."""
    pictures, words, lengths = examples.batch(index)
    return torch.from_numpy(pictures).float() / 255, torch.from_numpy(words), torch.from_numpy(lengths)
