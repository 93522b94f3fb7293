"""read: a p x p glimpse of an image through two Gaussian filterbanks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._op import Op, check_float, check_shape, check_sizes
from aligndraw.ops.window import filterbanks


def read_reference(image: Tensor, window: Tensor, size: int, canvas: Tensor | None = None) -> Tensor:
    """`read` in plain PyTorch: the specification."""
    height, width = image.shape[-2:]
    f_y, f_x, gamma = filterbanks(window, size, height, width)
    seen = image.to(f_y.dtype)
    if canvas is not None:
        error = seen - canvas.to(f_y.dtype).sigmoid()  # x̂ of Eq. 10
        seen = torch.cat([seen, error], dim=1)
    glimpse = f_y[:, None] @ seen @ f_x[:, None].mT
    return (gamma[:, None, None, None] * glimpse).to(image.dtype)


def _check(image: Tensor, window: Tensor, size: int, canvas: Tensor | None = None) -> None:
    check_shape("read", "image", image, "[B, C, H, W]", (None, None, None, None))
    check_shape("read", "window", window, "[B, 5]", (image.shape[0], 5))
    if size < 1:
        raise RuntimeError(f"read: size must be at least 1, got {size}")
    glimpse_channels = (1 if canvas is None else 2) * image.shape[1]
    check_sizes("read", "the glimpse", (image.shape[0], glimpse_channels, size, size))
    if canvas is None:
        check_float("read", image=image, window=window)
    else:
        check_shape("read", "canvas", canvas, "[B, C, H, W]", image.shape)
        check_float("read", image=image, window=window, canvas=canvas)


def _fake(image: Tensor, window: Tensor, size: int, canvas: Tensor | None = None) -> Tensor:
    batch, channels = image.shape[:2]
    return image.new_empty(batch, channels if canvas is None else 2 * channels, size, size)


def _backward_reference(
    grad: Tensor, image: Tensor, window: Tensor, size: int, canvas: Tensor | None, image_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    none = image.new_empty(0)
    if canvas is None:
        g_image, g_window = vjp(lambda x, w: read_reference(x, w, size), (image, window), (grad,))
        return g_image if image_grad else none, g_window, none
    g_image, g_window, g_canvas = vjp(lambda x, w, c: read_reference(x, w, size, c), (image, window, canvas), (grad,))
    return g_image if image_grad else none, g_window, g_canvas


def _backward_fake(
    grad: Tensor, image: Tensor, window: Tensor, size: int, canvas: Tensor | None, image_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    none = image.new_empty(0)
    return (
        image.new_empty(image.shape) if image_grad else none,
        window.new_empty(window.shape),
        canvas.new_empty(canvas.shape) if canvas is not None else image.new_empty(0),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, window, ctx.size, canvas = inputs
    ctx.save_for_backward(image, window, canvas)


def _backward(op: Any, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    image, window, canvas = ctx.saved_tensors
    image_grad = ctx.needs_input_grad[0]
    g_image, g_window, g_canvas = op(grad, image, window, ctx.size, canvas, image_grad)
    return g_image if image_grad else None, g_window, None, None if canvas is None else g_canvas


_op = Op(
    "read",
    schema="(Tensor image, Tensor window, int size, Tensor? canvas) -> Tensor",
    backward_schema="(Tensor grad, Tensor image, Tensor window, int size, Tensor? canvas, bool image_grad)"
    " -> (Tensor, Tensor, Tensor)",
    reference=read_reference,
    backward_reference=_backward_reference,
    check=_check,
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_backward,
    triton="read",
    batched=True,
)


def read(image: Tensor, window: Tensor, size: int, canvas: Tensor | None = None) -> Tensor:
    """γ F_Y X F_Xᵀ, a glimpse of the image; with a canvas also γ F_Y (X − σ(canvas)) F_Xᵀ, a glimpse of the
    error image (alignDRAW, Eq. 10-11; Gregor et al., 2015, Eq. 25-27).

    Args:
        image: X, [B, C, H, W], floating point; H and W may differ.
        window: [B, 5] = (g̃_X, g̃_Y, log σ², log δ̃, log γ), see `aligndraw.ops.filterbanks`.
        size: p ≥ 1, the side of the glimpse.
        canvas: [B, C, H, W] before the sigmoid, or None.

    Returns:
        [B, C, p, p], or with a canvas [B, 2C, p, p]: the image's channels, then those of the error image.
        It has the dtype of `image`; the arithmetic is float32, or float64 when all arguments are float64.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    return _op(image, window, size, canvas)  # type: ignore[no-any-return]
