"""cover: a patch drawn over the canvas, which it hides where it is opaque."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aligndraw.ops._op import check_shape, compute_dtype
from aligndraw.ops.window import LOG_LIMIT
from aligndraw.ops.write import write


def cover(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """(1 − A) ⊙ canvas + (1/γ) F_Yᵀ K F_X: the patch K drawn over the canvas, to which `write` adds it.

    A = min(1, δ² F_Yᵀ O F_X), [B, 1, H, W], is how much of the canvas the patch hides, given its opacity O in [0, 1].
    δ is the distance of two filters in pixels, so that the filters of an opaque patch sum to about 1 at each pixel of
    the grid. γ does not change A. All is one call of `write`, on the backend of that op.

    A patch that is added has to be another one before each ground: the difference of the two. One that covers has not.
    The formula is "over" of Porter and Duff (1984), before the sigmoid.

    Args:
        patch: [B, C + 1, p, p], floating point, p ≥ 2: K, then O as the last channel.
        window: [B, 5], as in `write`.
        canvas: [B, C, H, W] before the sigmoid, of more than one pixel.

    Returns:
        The new canvas, [B, C, H, W], in the dtype of `canvas`.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    check_shape("cover", "canvas", canvas, "[B, C, H, W]", (None, None, None, None))
    batch, channels, height, width = canvas.shape
    size = patch.shape[-1] if patch.dim() == 4 else None
    check_shape("cover", "patch", patch, "[B, C + 1, p, p]", (batch, channels + 1, size, None))
    check_shape("cover", "window", window, "[B, 5]", (batch, 5))
    if min(patch.shape[-1], max(height, width)) < 2:
        raise RuntimeError(
            f"cover: patch and canvas must have more than one pixel, got {list(patch.shape)} and {list(canvas.shape)}"
        )
    logarithms = window[:, 3:].to(compute_dtype(window)).clamp(-LOG_LIMIT, LOG_LIMIT)
    log_distance = logarithms[:, 0] + math.log((max(height, width) - 1) / (patch.shape[-1] - 1))
    scale = (2 * log_distance + logarithms[:, 1]).exp()[:, None, None, None]  # `write` divides it by γ
    colours, opacity = patch.split([channels, 1], 1)
    blank = torch.zeros_like(canvas[:, :1]).expand(-1, channels + 1, -1, -1)
    drawn = write(torch.cat([colours, opacity * scale], 1), window, blank)
    return canvas * (1 - drawn[:, channels:].clamp(max=1)) + drawn[:, :channels]
