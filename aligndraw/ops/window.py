"""The window of a glimpse: five numbers that place a grid of Gaussian filters on an image."""

from __future__ import annotations

import torch
from torch import Tensor

from aligndraw.ops._op import compute_dtype

CENTRE_LIMIT = 8.0
LOG_LIMIT = 16.0


def grid(window: Tensor, size: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the centres of a window's filters, in pixels numbered from 1, with variance and intensity.

    With window = (g̃_X, g̃_Y, log σ², log δ̃, log γ), the centres of the filters i = 1 ... p are
    g + (i − p/2 − 1/2) δ, where g_X = (W+1)/2 (g̃_X + 1), g_Y = (H+1)/2 (g̃_Y + 1) and
    δ = (max(H, W) − 1)/(p − 1) · δ̃, or 0 for p = 1 (Gregor et al., 2015, Eq. 19-24).
    g̃ is clamped to ±8 and the logarithms to ±16, with gradient zero outside, so that nothing overflows.

    Args:
        window: [B, 5], any floating dtype; bfloat16 and float16 are computed in float32.
        size: p, filters per axis.
        height, width: H, W.

    Returns:
        centres on the y axis [B, p], centres on the x axis [B, p], variance σ² [B], intensity γ [B].
    """
    window = window.to(compute_dtype(window))
    g_x, g_y = window[:, :2].clamp(-CENTRE_LIMIT, CENTRE_LIMIT).unbind(1)
    variance, spacing, gamma = window[:, 2:].clamp(-LOG_LIMIT, LOG_LIMIT).exp().unbind(1)
    delta = spacing * ((max(height, width) - 1) / (size - 1) if size > 1 else 0.0)
    steps = torch.arange(size, dtype=window.dtype, device=window.device) + (0.5 - size / 2)
    centres_y = ((height + 1) / 2 * (g_y + 1))[:, None] + steps * delta[:, None]
    centres_x = ((width + 1) / 2 * (g_x + 1))[:, None] + steps * delta[:, None]
    return centres_y, centres_x, variance, gamma


def filterbanks(window: Tensor, size: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the two filterbanks of a window: F[i, a] = exp(−(a − μ_i)² / 2σ²) / (Σ_a exp(…) + 1e-4).

    The pixels are numbered a = 1, 2, ... With the 1e-4 a window off the image reads 0 and stays differentiable.

    Args:
        window, size, height, width: as in `grid`.

    Returns:
        F_Y [B, p, H], F_X [B, p, W] and the intensity γ [B].
    """
    centres_y, centres_x, variance, gamma = grid(window, size, height, width)

    def bank(centres: Tensor, length: int) -> Tensor:
        pixels = torch.arange(1, length + 1, dtype=centres.dtype, device=centres.device)
        distance = pixels - centres[:, :, None]
        filters = torch.exp(-distance.square() / (2 * variance[:, None, None]))
        return filters / (filters.sum(-1, keepdim=True) + 1e-4)

    return bank(centres_y, height), bank(centres_x, width), gamma
