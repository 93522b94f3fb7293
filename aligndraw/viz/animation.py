"""Animations of a drawing: the canvas over the steps, with the window of each write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aligndraw.arguments import check_int
from aligndraw.files import atomic_write
from aligndraw.model import Samples
from aligndraw.ops import grid
from aligndraw.viz.sheet import FEW_SIDE, GAP, enlarge

WINDOW = (235, 95, 30)  # the colour of the frame
STEP_TIME, LAST_TIME = 120, 1500  # milliseconds


def window_boxes(windows: torch.Tensor, size: int, height: int, width: int) -> NDArray[np.float64]:
    """Returns the frames of windows [n, 5].

    Left, top, right and bottom edge in pixels from the picture's corner, [n, 4].

    A frame passes through the outermost filter centres of the p x p grid, and at least half a pixel beyond them.
    """
    centres_y, centres_x, _, _ = (t.double() for t in grid(windows, size, height, width))
    edges = [
        centres_x.amin(1) - 1,  # pixel 1 reaches from 0 to 1
        centres_y.amin(1) - 1,
        centres_x.amax(1),
        centres_y.amax(1),
    ]
    return torch.stack(edges, 1).cpu().numpy()


def frames(samples: Samples, columns: int = 4) -> list[Image.Image]:
    """Returns one image per step: all pictures of the drawing so far, with the frame of the present window.

    Args:
        samples: of at least one picture.
        columns: pictures side by side.
    """
    check_int("columns", columns, 1)
    canvases = samples.canvases.sigmoid().cpu().numpy()  # [B, T, C, H, W]
    assert samples.patches is not None and samples.windows is not None  # `canvases` has checked it
    count, steps, _, height, width = canvases.shape
    size = samples.patches.shape[-1]
    images = []
    for t in range(steps):
        boxes = window_boxes(samples.windows[:, t], size, height, width)
        images.append(_frame(canvases[:, t], boxes, min(columns, count)))
    return images


def save_animation(samples: Samples, path: str | Path, columns: int = 4) -> None:
    """Writes the frames as an endless GIF that pauses on the finished pictures; whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    images = frames(samples, columns)
    finished = samples.images.cpu().numpy()
    images.append(_frame(finished, np.zeros((0, 4)), min(columns, len(finished))))
    times = [STEP_TIME] * (len(images) - 1) + [LAST_TIME]
    with atomic_write(Path(path)) as temporary:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], duration=times, loop=0)


def _frame(pictures: NDArray[Any], boxes: NDArray[np.float64], columns: int) -> Image.Image:
    pixels, scale = enlarge(pictures, FEW_SIDE)
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), (250, 250, 247))
    for i in range(count):
        picture = Image.fromarray(pixels[i])
        if len(boxes):
            left, top, right, bottom = (float(e) * scale for e in boxes[i])
            pen = ImageDraw.Draw(picture)
            pen.rectangle((left, top, max(right, left + 1), max(bottom, top + 1)), outline=WINDOW, width=2)
        sheet.paste(picture, (GAP + i % columns * (width + GAP), GAP + i // columns * (height + GAP)))
    return sheet
