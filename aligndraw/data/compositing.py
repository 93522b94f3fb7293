"""Pastes digits at positions on blank canvases.

`composite` is the compiled form (`csrc/host/module.cpp`) where it is built, and otherwise `composite_reference`, with
the same bytes and the same errors. `composite_tensors` gives the same bytes on any device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def composite_reference(
    digits: NDArray[np.uint8],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Returns canvases: canvas b is blank except for digit first[b] and, pasted over it, digit second[b].

    Args:
        digits: uint8 [n, h, w].
        first: int64 [B], indices of digits.
        second: int64 [B], indices of digits, -1 for none.
        rows: int64 [B, 2], the top row of the first and of the second digit.
        columns: int64 [B, 2], their left columns.
        height: rows H of a canvas.
        width: columns W of a canvas.

    Returns:
        uint8 [B, H, W].

    Raises:
        ValueError: an argument of another type, shape or layout, an index of no digit, or a digit beyond the canvas.
    """
    check_array("digits", digits, "uint8", "[n, h, w]", (None, None, None))
    check_array("first", first, "int64", "[B]", (None,))
    batch = len(first)
    check_array("second", second, "int64", f"[{batch}]", (batch,))
    check_array("rows", rows, "int64", f"[{batch}, 2]", (batch, 2))
    check_array("columns", columns, "int64", f"[{batch}, 2]", (batch, 2))
    count, digit_height, digit_width = digits.shape
    if height < digit_height or width < digit_width:
        raise ValueError(f"the canvas must hold a digit of {digit_height}x{digit_width}, got {height}x{width}")
    canvas = np.zeros((batch, height, width), np.uint8)
    places = zip(first.tolist(), second.tolist(), rows.tolist(), columns.tolist(), strict=True)
    for b, (one, two, tops, lefts) in enumerate(places):
        for which, index in enumerate((one, two)):
            if which and index == -1:
                continue
            top, left = tops[which], lefts[which]
            _check_index(b, which, index, count)
            _check_position(f"rows[{b}, {which}]", top, height - digit_height)
            _check_position(f"columns[{b}, {which}]", left, width - digit_width)
            canvas[b, top : top + digit_height, left : left + digit_width] = digits[index]
    return canvas


def composite_tensors(digits: Tensor, which: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """As `composite`, of tensors on one device. It reads no value, so it neither checks nor waits.

    Args:
        digits: uint8 [n, h, w].
        which: int64 [B, 2], indices of digits, the second -1 for none.
        rows: int64 [B, 2], top rows of the first and of the second digit.
        columns: int64 [B, 2], their left columns.
        height: rows H of a canvas.
        width: columns W of a canvas.

    Returns:
        uint8 [B, H, W].
    """
    canvas = digits.new_zeros(len(which), height, width)
    down = torch.arange(height, device=digits.device)[:, None]
    right = torch.arange(width, device=digits.device)
    for k in range(2):
        index, top, left = (x[:, k, None, None] for x in (which, rows, columns))
        y, x = down - top, right - left
        inside = (index >= 0) & (y >= 0) & (y < digits.shape[1]) & (x >= 0) & (x < digits.shape[2])
        pixels = digits[index.clamp(min=0), y.clamp(0, digits.shape[1] - 1), x.clamp(0, digits.shape[2] - 1)]
        canvas = torch.where(inside, pixels, canvas)
    return canvas


def check_array(name: str, array: object, dtype: str, shape: str, sizes: tuple[int | None, ...]) -> None:
    """Raises ValueError unless `array` is a C-contiguous array of a dtype and of sizes, None for any."""
    if isinstance(array, np.ndarray):
        fits = array.ndim == len(sizes) and all(
            size in (None, got) for size, got in zip(sizes, array.shape, strict=True)
        )
        if array.dtype == dtype and fits and array.flags.c_contiguous:
            return
        got = f"{array.dtype} {list(array.shape)}"
        if not array.flags.c_contiguous:
            got += ", not contiguous"
    else:
        got = type(array).__name__
    raise ValueError(f"{name} must be a C-contiguous {dtype} array {shape}, got {got}")


def _check_index(b: int, which: int, value: int, count: int) -> None:
    if not 0 <= value < count:
        name, none = (f"second[{b}]", "-1 for none or ") if which else (f"first[{b}]", "")
        raise ValueError(f"{name} must be {none}a digit in 0…{count - 1}, got {value}")


def _check_position(name: str, value: int, last: int) -> None:
    if not 0 <= value <= last:
        raise ValueError(f"{name} must be in 0…{last}, got {value}")


try:
    from aligndraw._host import composite as composite  # type: ignore[import-not-found]
# Not ImportError: a compiled module that fails to load is an error to report.
except ModuleNotFoundError:
    composite = composite_reference
