"""Contact sheets: captions with the pictures drawn from them, as one image file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from aligndraw.files import atomic_write

# All lengths are in pixels of the sheet.
GAP, MARGIN, TEXT = 6, 22, 15
FEW, FEW_SIDE = 4, 160  # up to FEW pictures of a caption have sides of at least FEW_SIDE;
MANY, MANY_SIDE = 8, 96  # more have MANY_SIDE, MANY of them side by side
PAPER, INK, REMARK = (250, 250, 247), (30, 30, 30), (176, 72, 20)


class Captioned(NamedTuple):
    """A caption with its pictures: one block of a sheet."""

    caption: str
    pictures: NDArray[Any]  # [n, C, H, W] in [0, 1]; C = 1 is grey, C = 3 is colour
    remark: str = ""  # under the caption, in another colour


def contact_sheet(blocks: Sequence[Captioned]) -> Image.Image:
    """Returns a sheet of pictures, each block with its full caption below.

    Pictures are enlarged by a whole number without smoothing, so that their pixels stay crisp squares. Blocks with few
    pictures stand side by side, others one below the other.

    Raises:
        ValueError: no pictures, or pictures of another shape or range.
    """
    for block in blocks:
        check_pictures(block.pictures)
    if not blocks:
        raise ValueError("blocks must hold at least one caption, got none")
    most = max(len(block.pictures) for block in blocks)
    columns = most if most <= FEW else MANY
    across = max(1, FEW // columns)
    tiles = [_tile(block, columns, FEW_SIDE if most <= FEW else MANY_SIDE) for block in blocks]
    rows = [tiles[i : i + across] for i in range(0, len(tiles), across)]
    heights = [max(tile.height for tile in row) for row in rows]
    widths = [sum(tile.width + MARGIN for tile in row) for row in rows]
    sheet = Image.new("RGB", (MARGIN + max(widths), MARGIN + sum(h + MARGIN for h in heights)), PAPER)
    top = MARGIN
    for row, height in zip(rows, heights):
        left = MARGIN
        for tile in row:
            sheet.paste(tile, (left, top))
            left += tile.width + MARGIN
        top += height + MARGIN
    return sheet


def enlarge(pictures: NDArray[Any], side: int) -> tuple[NDArray[np.uint8], int]:
    """Returns pictures [n, C, H, W] in [0, 1] as bytes [n, sH, sW, 3]; s is the least for a side of `side`."""
    pixels = np.rint(pictures * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    scale = max(1, math.ceil(side / max(pixels.shape[1:3])))
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3))), scale


@cache
def sheet_font() -> ImageFont.FreeTypeFont:
    """Returns the font of captions."""
    font = ImageFont.load_default(TEXT)
    assert isinstance(font, ImageFont.FreeTypeFont)  # as with every size
    return font


def line_height() -> int:
    """Returns the distance between lines of text, in pixels."""
    return sum(sheet_font().getmetrics()) + 2


def save_png(image: Image.Image, path: str | Path, texts: Mapping[str, str]) -> None:
    """Writes a PNG file with texts among its metadata; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    metadata = PngInfo()
    for keyword, text in texts.items():
        metadata.add_text(keyword, text)
    with atomic_write(Path(path)) as temporary:
        image.save(temporary, format="PNG", pnginfo=metadata)


def check_pictures(pictures: NDArray[Any]) -> None:
    """Raises ValueError for pictures that cannot be shown."""
    if pictures.ndim != 4 or 0 in pictures.shape or pictures.shape[1] not in (1, 3):
        raise ValueError(
            "pictures must have shape [n, C, H, W] with n at least 1 and C = 1 (grey) or 3 (colour), "
            f"got {list(pictures.shape)}"
        )
    check_range(pictures)


def check_range(pictures: NDArray[Any]) -> None:
    """Raises ValueError for pixels outside [0, 1] or not finite."""
    if not (pictures.min() >= 0 and pictures.max() <= 1):
        raise ValueError(f"pictures must lie in [0, 1], got values from {pictures.min():g} to {pictures.max():g}")


def _tile(block: Captioned, columns: int, side: int) -> Image.Image:
    """Returns the pictures of one caption, `columns` side by side, with the caption below."""
    pixels, _ = enlarge(block.pictures, side)
    count, height, width, _ = pixels.shape
    tile_width = columns * (width + GAP) - GAP
    font = sheet_font()
    lines = [(line, INK) for line in wrap(block.caption, tile_width, font)]
    lines += [(line, REMARK) for line in wrap(block.remark, tile_width, font)]
    text_top = math.ceil(count / columns) * (height + GAP)
    tile = Image.new("RGB", (tile_width, text_top + len(lines) * line_height()), PAPER)
    for i, picture in enumerate(pixels):
        place = (i % columns) * (width + GAP), (i // columns) * (height + GAP)
        tile.paste(Image.fromarray(picture), place)
    pen = ImageDraw.Draw(tile)
    for i, (line, colour) in enumerate(lines):
        pen.text((0, text_top + i * line_height()), line, fill=colour, font=font)
    return tile


def wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Returns the text in lines of at most `width`, broken between words, and within words that are wider."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
