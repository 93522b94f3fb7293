"""write: a p x p patch added to the canvas through two Gaussian filterbanks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._op import Op, check_float, check_shape
from aligndraw.ops.window import filterbanks


def write_reference(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """`write` in plain PyTorch: the specification."""
    f_y, f_x, gamma = filterbanks(window, patch.shape[-1], *canvas.shape[-2:])
    drawn = f_y[:, None].mT @ patch.to(f_y.dtype) @ f_x[:, None]
    return (canvas.to(f_y.dtype) + drawn / gamma[:, None, None, None]).to(canvas.dtype)


def _check(patch: Tensor, window: Tensor, canvas: Tensor) -> None:
    check_shape("write", "canvas", canvas, "[B, C, H, W]", (None, None, None, None))
    batch, channels = canvas.shape[:2]
    size = patch.shape[-1] if patch.dim() == 4 else None
    check_shape("write", "patch", patch, "[B, C, p, p]", (batch, channels, size, None))
    check_shape("write", "window", window, "[B, 5]", (batch, 5))
    if size == 0:
        raise RuntimeError(f"write: patch must have p of at least 1, got {list(patch.shape)}")
    check_float("write", patch=patch, window=window, canvas=canvas)


def _fake(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    return canvas.new_empty(canvas.shape)


def _backward_reference(grad: Tensor, patch: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    blank = torch.zeros_like(grad)
    g_patch, g_window = vjp(lambda k, w: write_reference(k, w, blank), (patch, window), (grad,))
    return g_patch, g_window


def _backward_fake(grad: Tensor, patch: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    return patch.new_empty(patch.shape), window.new_empty(window.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])


def _backward(op: Any, ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return (*op(grad, *ctx.saved_tensors), grad)


_op = Op(
    "write",
    schema="(Tensor patch, Tensor window, Tensor canvas) -> Tensor",
    backward_schema="(Tensor grad, Tensor patch, Tensor window) -> (Tensor, Tensor)",
    reference=write_reference,
    backward_reference=_backward_reference,
    check=_check,
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_backward,
    triton="write",
    batched=True,
)


def write(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """canvas + (1/γ) F_Yᵀ K F_X: the patch K drawn on the canvas (alignDRAW, Eq. 4 and 8; Gregor et al., 2015, Eq. 29).

    Args:
        patch: K, [B, C, p, p], floating point, p ≥ 1.
        window: [B, 5] = (g̃_X, g̃_Y, log σ², log δ̃, log γ), see `aligndraw.ops.filterbanks`.
        canvas: [B, C, H, W] before the sigmoid; H and W may differ.

    Returns:
        The new canvas, [B, C, H, W], in the dtype of `canvas`; the arithmetic is float32, or float64 when all
        arguments are float64.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    return _op(patch, window, canvas)  # type: ignore[no-any-return]
