"""Which words a drawing attended to, step by step, under its canvases (the paper's Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from aligndraw.model import Drawing
from aligndraw.viz.sheet import GAP, INK, MARGIN, PAPER, enlarge, sheet_font

MOST = 16  # steps shown
CELL = 22  # height of a word's row
SIDE = 64  # least side of a canvas
LOW, HIGH = np.array([250.0, 250.0, 247.0]), np.array([20.0, 70.0, 130.0])


def attention_figure(drawing: Drawing, index: int, words: Sequence[str]) -> Image.Image:
    """The canvases of one picture from left to right, and below each how much every word weighed in its step.

    Args:
        drawing: of a model with align.
        index: of the picture.
        words: of its caption.

    Raises:
        ValueError: the model has no align.
    """
    if drawing.weights is None:
        raise ValueError("the model attends to no words (align is false): there is nothing to show")
    canvases = drawing.canvases[index].sigmoid().cpu().numpy()  # [T, C, H, W]
    weights = drawing.weights[index, :, : len(words)].cpu().numpy()  # [T, N]
    steps = np.linspace(0, len(canvases) - 1, min(MOST, len(canvases))).round().astype(int)
    pixels, _ = enlarge(canvases[steps], SIDE)
    _, height, width, _ = pixels.shape
    font = sheet_font()
    label = MARGIN + int(max(font.getlength(word) for word in [*words, "step"])) + GAP
    line = sum(font.getmetrics()) + 2
    top = MARGIN + line + height + GAP
    notes = [
        "Above: the canvas after the step. Below: how much each word weighed in it, in per cent;",
        "the darker, the more; the weights of a step add up to 100.",
    ]
    sheet = Image.new(
        "RGB",
        (
            max(
                label + len(steps) * (width + GAP) + MARGIN, int(max(map(font.getlength, notes))) + 2 * MARGIN
            ),
            top + len(words) * CELL + GAP + len(notes) * line + MARGIN,
        ),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), "step", fill=INK, font=font)
    for i, word in enumerate(words):
        pen.text((MARGIN, top + i * CELL), word, fill=INK, font=font)
    for column, step in enumerate(steps):
        left = label + column * (width + GAP)
        pen.text((left, MARGIN), str(step + 1), fill=INK, font=font)
        sheet.paste(Image.fromarray(pixels[column]), (left, MARGIN + line))
        for i in range(len(words)):
            weight = float(weights[step, i])
            colour = tuple(int(c) for c in LOW + (HIGH - LOW) * weight**0.5)
            box = (left, top + i * CELL, left + width - 1, top + (i + 1) * CELL - 2)
            pen.rectangle(box, fill=colour)
            if weight >= 0.005:
                text = f"{100 * weight:.0f}"
                ink = PAPER if weight > 0.25 else INK
                pen.text(
                    (left + (width - font.getlength(text)) / 2, top + i * CELL), text, fill=ink, font=font
                )
    for i, note in enumerate(notes):
        pen.text((MARGIN, top + len(words) * CELL + GAP + i * line), note, fill=INK, font=font)
    return sheet
