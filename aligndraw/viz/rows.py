"""Rows of labelled pictures, for comparison (the paper's Figures 1, 3, 4 and 5, bottom)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aligndraw.text.vocabulary import check_captions
from aligndraw.viz.sheet import (
    GAP,
    INK,
    MANY_SIDE,
    MARGIN,
    PAPER,
    REMARK,
    check_pictures,
    enlarge,
    line_height,
    sheet_font,
    wrap,
)

MIN_LABEL = 230  # width of the labels


class Row(NamedTuple):
    """Pictures side by side, with a label to their left."""

    label: str
    pictures: NDArray[Any]  # [n, C, H, W] in [0, 1]; C = 1 is grey, C = 3 is colour
    remark: str = ""  # under the label, in another colour
    marked: frozenset[int] = frozenset()  # positions of words of the label in that colour


class Group(NamedTuple):
    """Rows under a common title."""

    rows: Sequence[Row]
    title: str = ""


def changed_words(captions: Sequence[str]) -> list[frozenset[int]]:
    """Returns for each caption the positions of the words in which it differs from any other."""
    words = [caption.split() for caption in check_captions(captions)]
    return [
        frozenset(
            i
            for other in words
            for how, first, last, _, _ in difflib.SequenceMatcher(None, own, other, autojunk=False).get_opcodes()
            if how != "equal"
            for i in range(first, last)
        )
        for own in words
    ]


def rows_figure(heading: str, groups: Sequence[Group]) -> Image.Image:
    """Returns groups of rows one below the other, each row with its full label to its left.

    Pictures are enlarged by a whole number without smoothing, so that their pixels stay crisp squares.

    Raises:
        ValueError: no pictures, or pictures of another shape or range.
    """
    rows = [row for group in groups for row in group.rows]
    if not rows:
        raise ValueError("groups must hold at least one row, got none")
    for row in rows:
        check_pictures(row.pictures)
    font = sheet_font()
    words = [word for row in rows for word in f"{row.label} {row.remark}".split()]
    label = max([MIN_LABEL, *(int(font.getlength(word)) + 1 for word in words)])  # no word is broken
    blocks = [[_strip(row, label) for row in group.rows] for group in groups]
    width = max(strip.width for strips in blocks for strip in strips)
    pieces = [(MARGIN, _text(heading, width))]  # each with the space above it
    for group, strips in zip(groups, blocks):
        above = MARGIN
        if group.title:
            pieces.append((above, _text(group.title, width)))
            above = GAP
        for strip in strips:
            pieces.append((above, strip))
            above = GAP
    height = sum(space + piece.height for space, piece in pieces)
    sheet = Image.new("RGB", (MARGIN + width + MARGIN, height + MARGIN), PAPER)
    top = 0
    for space, piece in pieces:
        sheet.paste(piece, (MARGIN, top + space))
        top += space + piece.height
    return sheet


def _strip(row: Row, label: int) -> Image.Image:
    """Returns one row: the label, of a given width, and the pictures."""
    pixels, _ = enlarge(row.pictures, MANY_SIDE)
    count, height, width, _ = pixels.shape
    texts = _text(row.label, label, INK, row.marked), _text(row.remark, label, REMARK)
    tall = max(height, sum(text.height for text in texts))
    strip = Image.new("RGB", (label + MARGIN + count * (width + GAP) - GAP, tall), PAPER)
    strip.paste(texts[0], (0, 0))
    strip.paste(texts[1], (0, texts[0].height))
    for i, picture in enumerate(pixels):
        strip.paste(Image.fromarray(picture), (label + MARGIN + i * (width + GAP), 0))
    return strip


def _text(
    text: str, width: int, colour: tuple[int, int, int] = INK, marked: frozenset[int] = frozenset()
) -> Image.Image:
    """Returns a text in lines of a given width, with the marked words in the colour of remarks."""
    font, lines = sheet_font(), wrap(text, width, sheet_font())
    image = Image.new("RGB", (width, len(lines) * line_height()), PAPER)
    pen, number = ImageDraw.Draw(image), 0
    for i, line in enumerate(lines):
        before = ""
        for word in line.split():
            ink = REMARK if number in marked else colour
            pen.text((font.getlength(before), i * line_height()), word, fill=ink, font=font)
            before, number = f"{before}{word} ", number + 1
    return image
