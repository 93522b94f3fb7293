"""read in Triton: a glimpse of an image through the Gaussian filters of a window, `aligndraw.kernels.filterbank`."""

import torch
import triton
import triton.language as tl
from aligndraw.kernels.filterbank import (
    BLOCKS,
    OPTIONS,
    drawn,
    gaussians,
    grid,
    patch_at,
    product,
    reaches,
    scales,
    tile_at,
    tile_count,
    window_kernel,
)
from aligndraw.kernels.launch import launch
from aligndraw.kernels.scalar import load, sigmoid
from torch import Tensor


@triton.jit
def forward_kernel(
    image,
    canvas,
    window,
    glimpse,
    channels,
    height,
    width,
    size,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """image X and canvas [B, C, H, W], window [B, 5] -> glimpse gamma F_Y X F_X^T [B, C, p, p], with a canvas also
    gamma F_Y (X - sigmoid(canvas)) F_X^T [B, 2C, p, p]. A program takes one channel and one block of the glimpse.
    """
    item, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.cdiv(size, SIZE)
    row, column = tl.program_id(2) // columns * SIZE, tl.program_id(2) % columns * SIZE
    centre_y, centre_x, spacing, sharpness, gamma = grid(window + item * 5, height, width)
    dtype: tl.constexpr = gamma.dtype
    mu_y = centre_y + reaches(row, size, height, width, dtype, SIZE) * spacing
    mu_x = centre_x + reaches(column, size, height, width, dtype, SIZE) * spacing
    scale_y, scale_x = scales(mu_y, sharpness, height, TILE), scales(mu_x, sharpness, width, TILE)
    seen = tl.zeros((SIZE, SIZE), dtype)
    missing = tl.zeros((SIZE, SIZE), dtype)
    start = (item * channels + channel) * height * width
    for top in range(0, height, TILE):
        f_y = gaussians(mu_y, sharpness, top, height, TILE) * scale_y[:, None]
        for left in range(0, width, TILE):
            f_x = tl.trans(gaussians(mu_x, sharpness, left, width, TILE) * scale_x[:, None])
            tile, inside = tile_at(top, left, height, width, TILE)
            x = load(image + start + tile, inside)
            seen += product(product(f_y, x), f_x)
            if canvas is not None:
                x -= sigmoid(load(canvas + start + tile, inside))
                missing += product(product(f_y, x), f_x)
    at, inside = patch_at(row, column, size, SIZE)
    glimpse_channels = channels if canvas is None else channels * 2
    glimpse += (item * glimpse_channels + channel) * size * size
    tl.store(glimpse + at, gamma * seen, inside)
    if canvas is not None:
        tl.store(glimpse + channels * size * size + at, gamma * missing, inside)


@triton.jit
def image_kernel(
    grad,
    window,
    canvas,
    result,
    channels,
    height,
    width,
    size,
    OF_CANVAS: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """grad of the glimpse, window [B, 5], canvas -> result, the gradient of the image or that of the canvas,
    [B, C, H, W]. A program takes one channel and one tile.
    """
    item, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    glimpse_channels = channels if canvas is None else channels * 2
    grad += (item * glimpse_channels + channel) * size * size
    error = None
    if OF_CANVAS:
        grad += channels * size * size
    elif canvas is not None:
        error = grad + channels * size * size
    added, gamma, at, inside = drawn(grad, error, window + item * 5, height, width, size, SIZE, TILE)
    at += (item * channels + channel) * height * width
    added *= gamma
    if OF_CANVAS:
        erased = sigmoid(load(canvas + at, inside))
        added *= erased * (erased - 1.0)
    tl.store(result + at, added, inside)


def read(image: Tensor, window: Tensor, size: int, canvas: Tensor | None = None) -> Tensor:
    """image [B, C, H, W], window [B, 5] -> [B, C, p, p], or [B, 2C, p, p] with a canvas [B, C, H, W]."""
    image, window = image.contiguous(), window.contiguous()
    canvas = None if canvas is None else canvas.contiguous()
    batch, channels, height, width = image.shape
    glimpse_channels = channels if canvas is None else 2 * channels
    glimpse = image.new_empty(batch, glimpse_channels, size, size)
    programs = batch, channels, triton.cdiv(size, BLOCKS["SIZE"]) ** 2
    args = image, canvas, window, glimpse, channels, height, width, size
    launch(forward_kernel, programs, *args, **OPTIONS, like=image)
    return glimpse


def read_backward(
    grad: Tensor, image: Tensor, window: Tensor, size: int, canvas: Tensor | None, image_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """grad of the glimpse -> those of image, window and canvas; empty tensors for those not wanted."""
    grad, image, window = (t.contiguous() for t in (grad, image, window))
    canvas = None if canvas is None else canvas.contiguous()
    batch, channels, height, width = image.shape
    sizes = channels, height, width, size
    grad_image = torch.empty_like(image) if image_grad else image.new_empty(0)
    grad_canvas = image.new_empty(0) if canvas is None else torch.empty_like(canvas)
    grad_window = torch.empty_like(window)
    args = image, canvas, grad, window, grad_window, None, *sizes
    launch(window_kernel, (batch,), *args, POWER=1, **OPTIONS, like=image)
    programs = batch, channels, tile_count(height, width)
    for result in (grad_image, grad_canvas):
        if result.numel():
            of_canvas = result is grad_canvas
            args = grad, window, canvas, result, *sizes
            launch(image_kernel, programs, *args, OF_CANVAS=of_canvas, **OPTIONS, like=image)
    return grad_image, grad_window, grad_canvas
