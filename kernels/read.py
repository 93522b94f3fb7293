"""read in Triton: a glimpse of an image through the Gaussian filters of a window, `aligndraw.kernels.filterbank`."""

import torch
import triton
import triton.language as tl
from aligndraw.kernels.filterbank import (
    BLOCKS,
    drawn,
    gaussians,
    grid,
    patch_at,
    product,
    scales,
    steps,
    tile_at,
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
    CANVAS: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """image X and canvas [B, C, H, W], window [B, 5] -> glimpse gamma F_Y X F_X^T [B, C, p, p], with a canvas also
    gamma F_Y (X - sigmoid(canvas)) F_X^T [B, 2C, p, p]. A program takes one channel and one block of the glimpse.
    """
    item, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.cdiv(size, SIZE)
    row, column = tl.program_id(2) // columns * SIZE, tl.program_id(2) % columns * SIZE
    centre_y, centre_x, spacing, sharpness, gamma = grid(window + item * 5, size, height, width)
    mu_y = centre_y + steps(row, size, SIZE) * spacing
    mu_x = centre_x + steps(column, size, SIZE) * spacing
    scale_y, scale_x = scales(mu_y, sharpness, height, TILE), scales(mu_x, sharpness, width, TILE)
    seen = tl.zeros((SIZE, SIZE), centre_y.dtype)
    missing = tl.zeros((SIZE, SIZE), centre_y.dtype)
    start = (item * channels + channel) * height * width
    for top in range(0, height, TILE):
        f_y = gaussians(mu_y, sharpness, top, height, TILE)[0] * scale_y[:, None]
        for left in range(0, width, TILE):
            f_x = tl.trans(gaussians(mu_x, sharpness, left, width, TILE)[0] * scale_x[:, None])
            tile, inside = tile_at(top, left, height, width, TILE)
            x = load(image + start + tile, inside)
            seen += product(product(f_y, x), f_x)
            if CANVAS:
                x -= sigmoid(load(canvas + start + tile, inside))
                missing += product(product(f_y, x), f_x)
    at, inside = patch_at(row, column, size, SIZE)
    planes = channels * 2 if CANVAS else channels
    glimpse += (item * planes + channel) * size * size
    tl.store(glimpse + at, gamma * seen, inside)
    if CANVAS:
        tl.store(glimpse + channels * size * size + at, gamma * missing, inside)


@triton.jit
def image_kernel(
    grad,
    window,
    canvas,
    grad_image,
    grad_canvas,
    channels,
    height,
    width,
    size,
    CANVAS: tl.constexpr,
    IMAGE: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """grad of the glimpse, window, canvas -> the gradients of image and canvas [B, C, H, W], those that are asked for.
    A program takes one channel and one tile.
    """
    item, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.cdiv(width, TILE)
    top, left = tl.program_id(2) // columns * TILE, tl.program_id(2) % columns * TILE
    centre_y, centre_x, spacing, sharpness, gamma = grid(window + item * 5, size, height, width)
    planes = channels * 2 if CANVAS else channels
    grad += (item * planes + channel) * size * size
    tile, inside = tile_at(top, left, height, width, TILE)
    tile += (item * channels + channel) * height * width
    of_image = tl.zeros((TILE, TILE), centre_y.dtype)
    if CANVAS:
        error = grad + channels * size * size
        of_image += drawn(
            error, centre_y, centre_x, spacing, sharpness, top, left, height, width, size, SIZE, TILE
        )
        erased = sigmoid(load(canvas + tile, inside))
        tl.store(grad_canvas + tile, gamma * of_image * erased * (erased - 1.0), inside)
    if IMAGE:
        of_image += drawn(
            grad, centre_y, centre_x, spacing, sharpness, top, left, height, width, size, SIZE, TILE
        )
        tl.store(grad_image + tile, gamma * of_image, inside)


def read(image: Tensor, window: Tensor, size: int, canvas: Tensor | None = None) -> Tensor:
    """image [B, C, H, W], window [B, 5] -> [B, C, p, p], or [B, 2C, p, p] with a canvas [B, C, H, W]."""
    image, window = image.contiguous(), window.contiguous()
    canvas = None if canvas is None else canvas.contiguous()
    batch, channels, height, width = image.shape
    planes = channels if canvas is None else 2 * channels
    glimpse = image.new_empty(batch, planes, size, size)
    programs = batch, channels, triton.cdiv(size, BLOCKS["SIZE"]) ** 2
    args = image, canvas, window, glimpse, channels, height, width, size
    launch(forward_kernel, programs, *args, CANVAS=canvas is not None, **BLOCKS, like=image)
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
    constants = dict(CANVAS=canvas is not None, **BLOCKS)
    launch(
        window_kernel, (batch,), image, canvas, grad, window, grad_window, None, *sizes, GLIMPSE=False, POWER=1,
        **constants, like=image,
    )  # fmt: skip
    if image_grad or canvas is not None:
        programs = batch, channels, triton.cdiv(height, BLOCKS["TILE"]) * triton.cdiv(width, BLOCKS["TILE"])
        args = grad, window, canvas, grad_image, grad_canvas, *sizes
        launch(image_kernel, programs, *args, IMAGE=image_grad, **constants, like=image)
    return grad_image, grad_window, grad_canvas
