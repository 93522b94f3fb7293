"""Structural similarity of drawn pictures to the true image of their caption (paper, section 4.1.3 and Table 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aligndraw.data import Examples
from aligndraw.evaluation.drawing import Sharpen, draw_each
from aligndraw.model import PictureModel

WINDOW, SIGMA = 11, 1.5  # pixels
K1, K2 = 0.01, 0.03


@dataclass(frozen=True)
class Similarity:
    """SSIM over all pairs of a drawn picture and the true image of its caption.

    Attributes:
        mean: in [-1, 1], higher is better.
        spread: the standard deviation over all pairs, the ± of the paper's Table 1; not a standard error.
        captions: k.
        samples: pictures per caption.
    """

    mean: float
    spread: float
    captions: int
    samples: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.spread:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        return dict(vars(self))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Returns the structural similarity of pictures (Wang et al., 2004), a mean over the pixels and the channels.

        (2 μ_a μ_b + C₁) (2 σ_ab + C₂) / ((μ_a² + μ_b² + C₁) (σ_a² + σ_b² + C₂)),  C₁ = 0.01², C₂ = 0.03²

    Means, population variances and covariance are weighted by a Gaussian of σ = 1.5, in windows of 11 x 11 pixels that
    lie inside the picture.

    Args:
        a, b: [..., C, H, W] in [0, 1], H and W at least 11; their leading shapes are broadcast.

    Returns:
        [...], in [-1, 1].

    Raises:
        ValueError: pictures of different or too small shapes.
    """
    if a.dim() < 3 or a.shape[-3:] != b.shape[-3:] or min(a.shape[-2:]) < WINDOW:
        raise ValueError(
            f"a and b must have one shape [..., C, H, W] with H and W of at least {WINDOW}, "
            f"got {list(a.shape)} and {list(b.shape)}"
        )
    i = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (i / SIGMA) ** 2)
    weights = weights / weights.sum()

    def local(x: Tensor) -> Tensor:
        rows = functional.conv2d(x.reshape(-1, 1, *x.shape[-2:]), weights.view(1, 1, -1, 1))
        return functional.conv2d(rows, weights.view(1, 1, 1, -1)).view(*x.shape[:-2], -1)

    mean_a, mean_b = local(a), local(b)
    variances = local(a * a) - mean_a**2 + local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (likeness / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))).mean((-2, -1))


@torch.no_grad()
def score_similarity(
    model: PictureModel,
    examples: Examples,
    samples: int = 50,
    seed: int = 0,
    batch_size: int = 500,
    *,
    sharpen: Sharpen | None = None,
    on_batch: Callable[[int], object] = lambda pictures: None,
) -> Similarity:
    """Returns the similarity of drawn pictures to the true image of their caption.

    Args:
        model, examples, seed, batch_size, sharpen: as in `draw_each`.
        samples: pictures per caption; the paper has 50.
        on_batch: called with the number of pictures just compared.

    Raises:
        ValueError: a number out of range, no examples, or pictures of less than 11 pixels a side.
    """
    parts = []
    for images, drawn in draw_each(model, examples, samples, seed, batch_size, sharpen):
        parts.append(ssim(drawn.double().cpu(), images.double()))
        on_batch(len(images))
    values = torch.cat(parts)
    return Similarity(values.mean().item(), values.std(correction=0).item(), len(examples), samples)
