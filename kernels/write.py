"""write in Triton: a patch drawn through the Gaussian filters of a window, `aligndraw.kernels.filterbank`."""

import torch
import triton
import triton.language as tl
from aligndraw.kernels.filterbank import OPTIONS, drawn, tile_count, window_kernel
from aligndraw.kernels.launch import launch
from aligndraw.kernels.scalar import load
from torch import Tensor


@triton.jit
def forward_kernel(
    patch, window, canvas, result, channels, height, width, size, SIZE: tl.constexpr, TILE: tl.constexpr
):
    """patch K [B, C, p, p], window [B, 5], canvas [B, C, H, W] -> result canvas + F_Y^T K F_X / gamma.
    A program takes one channel and one tile.
    """
    item, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    patch += (item * channels + channel) * size * size
    added, gamma, at, inside = drawn(patch, None, window + item * 5, height, width, size, SIZE, TILE)
    at += (item * channels + channel) * height * width
    tl.store(result + at, load(canvas + at, inside) + added / gamma, inside)


def write(patch: Tensor, window: Tensor, canvas: Tensor) -> Tensor:
    """patch [B, C, p, p], window [B, 5], canvas [B, C, H, W] -> the new canvas."""
    patch, window, canvas = (t.contiguous() for t in (patch, window, canvas))
    batch, channels, height, width = canvas.shape
    result = torch.empty_like(canvas)
    programs = batch, channels, tile_count(height, width)
    args = patch, window, canvas, result, channels, height, width, patch.shape[-1]
    launch(forward_kernel, programs, *args, **OPTIONS, like=canvas)
    return result


def write_backward(grad: Tensor, patch: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """grad of the new canvas -> those of patch and window."""
    grad, patch, window = (t.contiguous() for t in (grad, patch, window))
    batch, channels, height, width = grad.shape
    grad_patch, grad_window = torch.empty_like(patch), torch.empty_like(window)
    args = grad, None, patch, window, grad_window, grad_patch, channels, height, width, patch.shape[-1]
    launch(window_kernel, (batch,), *args, POWER=-1, **OPTIONS, like=grad)
    return grad_patch, grad_window
