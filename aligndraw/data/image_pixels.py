"""Image files as small arrays."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

MAX_PIXELS = 80_000_000  # of a file: Pillow warns of more, and such an image takes a quarter of a gigabyte


def read_image(path: Path, size: tuple[int, int], crop: bool = False) -> NDArray[np.uint8]:
    """An image file in colour, uint8 [3, H, W]: each pixel is the mean of the area that it covers.

    Args:
        path: of a kind that Pillow reads.
        size: H, W.
        crop: cut to the middle of these proportions first; otherwise the image is squashed into them.

    Raises:
        ValueError: it has too many pixels.
        OSError, and others of Pillow: it is missing or damaged.
    """
    with Image.open(path) as file:
        if file.width * file.height > MAX_PIXELS:
            raise ValueError(f"it has {file.width * file.height:,} pixels, more than {MAX_PIXELS:,}")
        upright = ImageOps.exif_transpose(file)
        if upright.has_transparency_data:
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        pixels = np.asarray(upright.convert("RGB"))  # [h, w, 3]
    if crop:
        scale = min(pixels.shape[0] / size[0], pixels.shape[1] / size[1])
        for axis, wanted in enumerate(size):
            extent = max(1, round(wanted * scale))
            first = (pixels.shape[axis] - extent) // 2
            pixels = pixels.take(range(first, first + extent), axis)
    height, width, _ = pixels.shape
    down, across = _means(height, size[0]), _means(width, size[1])
    rows = np.empty((size[0], width, 3), np.float32)
    for row, weights in enumerate(down):  # one after the other, so that few numbers are floats at a time
        used = slice(row * height // size[0], -(-(row + 1) * height // size[0]))
        rows[row] = (weights[used] @ pixels[used].reshape(-1, width * 3)).reshape(width, 3)
    return np.ascontiguousarray(np.rint(across @ rows).astype(np.uint8).transpose(2, 0, 1))


@lru_cache(256)
def _means(extent: int, count: int) -> NDArray[np.float32]:
    """How much of each of `extent` pixels is in each of `count` equal parts of them [count, extent]; rows sum to 1."""
    edges = np.linspace(0, extent, count + 1)
    pixel = np.arange(extent)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.maximum(shared, 0) * count / extent, np.float32)
