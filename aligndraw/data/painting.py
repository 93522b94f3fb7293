"""Paints flat shapes over each other on small pictures, with smooth edges.

`paint` is the compiled form (`csrc/host/paint.h`) where it is built, and otherwise `paint_reference`, with the same
bytes and the same errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.compositing import check_array

UNIT = 64  # coordinates per pixel
SAMPLES = 4  # per pixel, along a row and along a column


def paint_reference(
    rows: NDArray[np.uint8],
    points: NDArray[np.int16],
    shapes: NDArray[np.int64],
    colours: NDArray[np.uint8],
    width: int,
) -> NDArray[np.uint8]:
    """Paints the shapes of each picture in order; a pixel is the mean of 16 samples, rounded half up.

    Args:
        rows: uint8 [B, H, 3], the background colour of each row of a picture.
        points: int16 [P, 2], x then y in 1/64 pixel from the top left corner.
        shapes: int64 [S, 3]: picture, first point, number of points; pictures in ascending order. Three points or more
            are a polygon, filled by the even-odd rule; two are an ellipse: its centre and its half axes.
        colours: uint8 [S, 3], red, green and blue of each shape.
        width: W.

    Returns:
        uint8 [B, 3, H, W].

    Raises:
        ValueError: an argument of another type, shape or layout, or a shape of no such picture or points.
    """
    check_array("rows", rows, "uint8", "[B, H, 3]", (None, None, 3))
    check_array("points", points, "int16", "[P, 2]", (None, 2))
    check_array("shapes", shapes, "int64", "[S, 3]", (None, 3))
    check_array("colours", colours, "uint8", f"[{len(shapes)}, 3]", (len(shapes), 3))
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    batch, height, _ = rows.shape
    samples = rows.repeat(SAMPLES, 1)[:, :, None].repeat(width * SAMPLES, 2)  # [B, 4H, 4W, 3]
    y, x = (UNIT // SAMPLES * np.arange(n * SAMPLES) + UNIT // SAMPLES // 2 for n in (height, width))
    before = 0
    for s, (picture, first, count) in enumerate(shapes.tolist()):
        if not before <= picture < batch:
            wanted = f"a picture in {before}…{batch - 1}, in their order"
            raise ValueError(f"shapes[{s}] must be of {wanted}, got {picture}")
        if count < 2 or not 0 <= first <= len(points) - count:
            got = f"{count} from {first} on"
            raise ValueError(f"shapes[{s}] must have 2 or more points in 0…{len(points) - 1}, got {got}")
        corners = points[first : first + count].astype(np.int64)
        inside = _ellipse if count == 2 else _polygon
        samples[picture][inside(corners, x, y[:, None])] = colours[s]
        before = picture
    blocks = samples.reshape(batch, height, SAMPLES, width, SAMPLES, 3).sum((2, 4), np.int64)
    area = SAMPLES**2
    return np.ascontiguousarray(((blocks + area // 2) // area).astype(np.uint8).transpose(0, 3, 1, 2))


def _ellipse(shape: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    (across, down), (a, b) = shape
    if a <= 0 or b <= 0:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.bool_)
    # Outside the box the squares may overflow.
    near = (abs(x - across) <= a) & (abs(y - down) <= b)
    sides = np.where(near, (x - across) ** 2 * b * b + (y - down) ** 2 * a * a, a * a * b * b + 1)
    return np.asarray(sides <= a * a * b * b)


def _polygon(corners: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.bool_)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0)):
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        crosses = (y1 <= y) != (y2 <= y)
        inside ^= crosses & ((x - x1) * (y2 - y1) >= (y - y1) * (x2 - x1))
    return inside


try:
    from aligndraw._host import paint as paint  # type: ignore[import-not-found]
# Not ImportError: a compiled module that fails to load is an error to report.
except ModuleNotFoundError:
    paint = paint_reference
