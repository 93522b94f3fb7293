"""Attention figures: canvases of a drawing above the weights of the words (the paper's Figures 5, top, and 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from aligndraw.model import Samples
from aligndraw.viz.sheet import GAP, INK, MARGIN, PAPER, REMARK, enlarge, line_height, sheet_font, wrap

MAX_STEPS = 16  # shown where none are named
CELL = 22  # height of the row of a word
MIN_SIDE = 64  # of a canvas
MAX_WIDTH = 1500  # of the panels in one row
LOW, HIGH = np.array([250.0, 250.0, 247.0]), np.array([20.0, 70.0, 130.0])
NOTES = (
    "Above: the canvas after the step, and the finished picture. Below: how much each word weighed in the step,",
    "and on average of all steps, in per cent; the darker, the more.",
)


def attention_panel(
    samples: Samples,
    index: int,
    words: Sequence[str],
    steps: Sequence[int] | None = None,
    *,
    title: str = "",
    remark: str = "",
) -> Image.Image:
    """Returns the canvases of one picture from left to right, and below each the weights of the words in its step.

    The last column shows the finished picture and the mean weights.

    Args:
        samples: of a model with align.
        index: of the picture.
        words: of its caption.
        steps: to show, counted from 1; by default up to 16, evenly spaced.
        title: above.
        remark: below the title, in another colour.

    Raises:
        ValueError: the model has no align; or there are no such steps.
    """
    if samples.weights is None:
        raise ValueError("the model attends to no words (align is false): there is nothing to show")
    canvases = samples.canvases[index].sigmoid().cpu().numpy()  # [T, C, H, W]
    weights = samples.weights[index, :, : len(words)].cpu().numpy()  # [T, N]
    count = len(canvases)
    if steps is None:
        steps = (np.linspace(1, count, min(MAX_STEPS, count)).round().astype(int)).tolist()
    if not steps or not all(1 <= step <= count for step in steps):
        raise ValueError(f"steps must be from 1 to {count}, those of the model, got {list(steps)}")
    shown = np.concatenate([canvases[np.array(steps) - 1], samples.images[index : index + 1].cpu().numpy()])
    columns = [*((str(step), weights[step - 1]) for step in steps), ("all", weights.mean(0))]
    pixels, _ = enlarge(shown, MIN_SIDE)
    _, height, width, _ = pixels.shape
    font, line = sheet_font(), line_height()
    label = int(max(font.getlength(word) for word in [*words, "step"])) + GAP
    total = label + len(columns) * (width + GAP) + GAP
    titles = [(text, INK) for text in wrap(title, total, font)] + [(text, REMARK) for text in wrap(remark, total, font)]
    top = len(titles) * line
    cells = top + line + height + GAP
    panel = Image.new("RGB", (total, cells + len(words) * CELL), PAPER)
    pen = ImageDraw.Draw(panel)
    for i, (text, ink) in enumerate(titles):
        pen.text((0, i * line), text, fill=ink, font=font)
    pen.text((0, top), "step", fill=INK, font=font)
    for i, word in enumerate(words):
        pen.text((0, cells + i * CELL), word, fill=INK, font=font)
    for column, (name, shares) in enumerate(columns):
        left = label + column * (width + GAP) + (GAP if column == len(steps) else 0)
        pen.text((left, top), name, fill=INK, font=font)
        panel.paste(Image.fromarray(pixels[column]), (left, top + line))
        for i, share in enumerate(shares):
            draw_cell(pen, (left, cells + i * CELL), width, float(share))
    return panel


def attention_figure(panels: Sequence[Image.Image]) -> Image.Image:
    """Returns panels of `attention_panel`, side by side where they are narrow, with an explanation below."""
    font, line = sheet_font(), line_height()
    across = max(1, MAX_WIDTH // max(panel.width + MARGIN for panel in panels))
    rows = [panels[i : i + across] for i in range(0, len(panels), across)]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(min(across, len(panels)))]
    heights = [max(panel.height for panel in row) for row in rows]
    notes = wrap(" ".join(NOTES), max(sum(widths) + MARGIN * (len(widths) - 1), 400), font)
    width = max(sum(widths) + MARGIN * (len(widths) - 1), *(int(font.getlength(note)) + 1 for note in notes))
    height = sum(heights) + MARGIN * len(heights) + len(notes) * line
    sheet = Image.new("RGB", (MARGIN + width + MARGIN, MARGIN + height + MARGIN), PAPER)
    top = MARGIN
    for row, tall in zip(rows, heights):
        for i, panel in enumerate(row):
            sheet.paste(panel, (MARGIN + sum(widths[:i]) + i * MARGIN, top))
        top += tall + MARGIN
    pen = ImageDraw.Draw(sheet)
    for i, note in enumerate(notes):
        pen.text((MARGIN, top + i * line), note, fill=INK, font=font)
    return sheet


def draw_cell(pen: ImageDraw.ImageDraw, place: tuple[int, int], width: int, weight: float) -> None:
    """Draws a cell, darker for a larger weight, with the weight in per cent unless it rounds to 0."""
    left, top = place
    colour = tuple(int(c) for c in LOW + (HIGH - LOW) * weight**0.5)
    pen.rectangle((left, top, left + width - 1, top + CELL - 2), fill=colour)
    if weight >= 0.005:
        text, font = f"{100 * weight:.0f}", sheet_font()
        pen.text(
            (left + (width - font.getlength(text)) / 2, top), text, fill=PAPER if weight > 0.25 else INK, font=font
        )
