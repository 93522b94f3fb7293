"""cover: a patch drawn over the canvas, which it hides where it is opaque."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aligndraw.ops._op import check_shape, compute_dtype
from aligndraw.ops.window import LOG_LIMIT
from aligndraw.ops.write import write, write_reference

_Write = Callable[[Tensor, Tensor, Tensor], Tensor]


def cover(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """(1 − A) ⊙ canvas + (1/γ) F_Yᵀ K F_X: the patch K drawn over the canvas, to which `write` adds it.

    A = min(1, δ² F_Yᵀ O F_X), [B, 1, H, W], is how much of the canvas the patch hides, given its opacity O in [0, 1].
    δ is the distance of two filters in pixels, so that the filters of an opaque patch sum to about 1 at each pixel of
    the grid; for p = 1 it is 0, and nothing is hidden. γ does not change A. All is one call of `write`, on the backend
    of that op.

    A patch that is added has to be another one before each ground: the difference of the two. One that covers has not.
    The formula is "over" of Porter and Duff (1984), before the sigmoid.

    Args:
        patch: [B, C + 1, p, p], floating point, p ≥ 1: K, then O as the last channel.
        window: [B, 5], as in `write`.
        canvas: [B, C, H, W] before the sigmoid.

    Returns:
        The new canvas, [B, C, H, W], in the dtype of `canvas`.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    check_shape("cover", "canvas", canvas, "[B, C, H, W]", (None, None, None, None))
    batch, channels = canvas.shape[:2]
    size = patch.shape[-1] if patch.dim() == 4 else None
    check_shape("cover", "patch", patch, "[B, C + 1, p, p]", (batch, channels + 1, size, None))
    check_shape("cover", "window", window, "[B, 5]", (batch, 5))
    return cover_by(write, patch, window, canvas)


def cover_reference(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """`cover` in plain PyTorch."""
    return cover_by(write_reference, patch, window, canvas)


def cover_by(write: _Write, patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """`cover` by a form of `write`."""
    channels = canvas.shape[1]
    drawn = write(scaled(patch, window, canvas.shape[2], canvas.shape[3]), window, blank(canvas))
    return canvas * (1 - drawn[:, channels:].clamp(max=1)) + drawn[:, :channels]


def scaled(patch: Tensor, window: Tensor, height: int, width: int) -> Tensor:
    """Returns a patch whose opacity is multiplied by γ δ², since `write` divides it by γ."""
    colours, opacity = patch.split([patch.shape[1] - 1, 1], 1)
    return torch.cat([colours, opacity * opacity_scale(window, patch.shape[-1], height, width)], 1)


def opacity_scale(window: Tensor, size: int, height: int, width: int) -> Tensor:
    """Returns γ δ², [B, 1, 1, 1]."""
    spacing, gamma = window[:, 3:].to(compute_dtype(window)).clamp(-LOG_LIMIT, LOG_LIMIT).unbind(1)
    distance = (max(height, width) - 1) / (size - 1) if size > 1 else 0.0
    return (distance**2 * (2 * spacing + gamma).exp())[:, None, None, None]


def blank(canvas: Tensor) -> Tensor:
    """Returns zeros of a channel more than a canvas."""
    return torch.zeros_like(canvas[:, :1]).expand(-1, canvas.shape[1] + 1, -1, -1)


def cover_backward(
    write: _Write,
    write_backward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    grad: Tensor,
    patch: Tensor,
    window: Tensor,
    canvas: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of patch, window and canvas, by forms of `write` and of its gradient."""
    (channels, height, width), size = canvas.shape[1:], patch.shape[-1]
    drawn = scaled(patch, window, height, width)
    opacity, scale = drawn[:, channels:], opacity_scale(window, size, height, width)
    hidden = write(opacity, window, torch.zeros_like(canvas[:, :1]))
    d_hidden = (grad * canvas).sum(1, keepdim=True).neg() * (hidden <= 1)
    d_drawn, d_window = write_backward(torch.cat([grad, d_hidden], 1), drawn, window)
    d_colours, d_opacity = d_drawn.split([channels, 1], 1)
    turn = (d_opacity * opacity).sum((1, 2, 3))[:, None] * (window[:, 3:].abs() <= LOG_LIMIT)
    d_window = d_window + torch.cat([window.new_zeros(len(window), 3), turn * turn.new_tensor([2.0, 1.0])], 1)
    return torch.cat([d_colours, d_opacity * scale], 1), d_window, grad * (1 - hidden.clamp(max=1))
