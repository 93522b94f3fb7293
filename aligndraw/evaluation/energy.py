"""Gradient energy: how much neighbouring pixels differ, in real and in drawn pictures. Blurry pictures have less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aligndraw.data import Examples
from aligndraw.evaluation.bound import Estimate
from aligndraw.evaluation.drawing import Sharpen, draw_each
from aligndraw.model import PictureModel


@dataclass(frozen=True)
class Energy:
    """The gradient energy of the true images of captions, and of pictures drawn from them."""

    real: Estimate
    drawn: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        return {kind: estimate.to_dict() for kind, estimate in vars(self).items()}


def gradient_energy(images: Tensor) -> Tensor:
    """Returns mean squared forward differences, down and across: mean (x_{i+1,j} − x_ij)² + mean (x_{i,j+1} − x_ij)².

    Args:
        images: [B, C, H, W], floats, H and W at least 2.

    Returns:
        [B], in [0, 2] for pixels in [0, 1].
    """
    return sum(images.diff(dim=dim).square().flatten(1).mean(1) for dim in (2, 3))  # type: ignore[return-value]


@torch.no_grad()
def score_energy(
    model: PictureModel,
    examples: Examples,
    n: int = 1,
    seed: int = 0,
    *,
    sharpen: Sharpen | None = None,
    batch_size: int = 100,
    on_batch: Callable[[int], object] = lambda pictures: None,
) -> Energy:
    """Returns the gradient energy of n drawn pictures per example and of its image.

    Arguments and errors as in `draw_each`.

    Args:
        on_batch: called with the number of pictures just drawn.
    """
    real, drawn = [], []
    for images, pictures in draw_each(model, examples, n, seed, batch_size, sharpen):
        real.append(gradient_energy(images))
        drawn.append(gradient_energy(pictures).cpu())
        on_batch(len(images))
    return Energy(*(Estimate.of(torch.cat(values).view(-1, n).mean(1)) for values in (real, drawn)))
