"""From stored pictures to what a model takes."""

from __future__ import annotations

import torch
from torch import Tensor

from aligndraw.data.mnist_captions import Examples


def to_tensors(examples: Examples, index: slice) -> tuple[Tensor, Tensor]:
    """Images float32 [B, 1, 60, 60] in [0, 1] and word ids int64 [B, 12] of a slice of the examples."""
    pictures, words = examples.batch(index)
    return torch.from_numpy(pictures)[:, None].float() / 255, torch.from_numpy(words)
