"""The Laplacian pyramid: a small picture, and the residuals that each doubling of its size lacks (Denton et al., 2015).

`down` is a box average, `up` is bilinear with aligned corners, as in the library of LAPGAN's code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from aligndraw.arguments import check_int

Size = tuple[int, int]  # H, W


def halved(size: Size) -> Size:
    """Returns the size of the next coarser level: half, rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def down(images: Tensor, size: Size | None = None) -> Tensor:
    """Returns averages over boxes: pixel i of h is the mean over [iH/h, (i+1)H/h), weighted by overlap.

    Args:
        images: [B, C, H, W], floats.
        size: (h, w), at most (H, W); `halved` when None, which for even sizes is the mean of 2 x 2 pixels.

    Returns:
        [B, C, h, w].

    Raises:
        ValueError: another shape, or a larger size.
    """
    height, width = _size(images)
    h, w = size or halved((height, width))
    if not (1 <= h <= height and 1 <= w <= width):
        raise ValueError(f"size must be from 1 x 1 to {height} x {width}, that of the images, got {h} x {w}")
    with torch.autocast(images.device.type, enabled=False):  # residuals are small differences
        return _boxes(height, h, images) @ images @ _boxes(width, w, images).T


def up(images: Tensor, size: Size) -> Tensor:
    """Interpolates linearly between pixels; the corners keep their places.

    Args:
        images: [B, C, h, w], floats.
        size: (H, W).

    Returns:
        [B, C, H, W].
    """
    _size(images)
    return functional.interpolate(images, size, mode="bilinear", align_corners=True)


def coarse(images: Tensor) -> Tensor:
    """Returns up(down(x)): the images [B, C, H, W] without their finest details."""
    return up(down(images), _size(images))


def build(images: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """Decomposes images: r_k = x_k − up(down(x_k)), x_{k+1} = down(x_k), from x_1 = images.

    Args:
        images: [B, C, H, W], floats.
        levels: number of residuals, at least 0.

    Returns:
        the residuals r_1, r_2, ..., finest first, and the remaining image, `halved` that often.
    """
    check_int("levels", levels, 0)
    residuals = []
    for _ in range(levels):
        smaller = down(images)
        residuals.append(images - up(smaller, _size(images)))
        images = smaller
    return residuals, images


def reconstruct(residuals: Sequence[Tensor], images: Tensor) -> Tensor:
    """Returns the images that `build` decomposed: x_k = up(x_{k+1}) + r_k."""
    for residual in reversed(residuals):
        images = up(images, _size(residual)) + residual
    return images


def _size(images: Tensor) -> Size:
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"images must be floats of shape [B, C, H, W], got {images.dtype} of shape {list(images.shape)}"
        )
    return images.shape[2], images.shape[3]


def _boxes(pixels: int, fewer: int, like: Tensor) -> Tensor:
    """Returns [fewer, pixels], the share of each pixel in each box."""
    # In units of 1/fewer pixel all ends of boxes and pixels are whole numbers, so no share is rounded.
    box = torch.arange(fewer)[:, None] * pixels
    pixel = torch.arange(pixels) * fewer
    shared = torch.minimum(box + pixels, pixel + fewer) - torch.maximum(box, pixel)
    return (shared.clamp(min=0).double() / pixels).to(like)
