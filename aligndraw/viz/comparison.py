"""One caption drawn from the prior, and a real picture of it drawn from the posterior, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from aligndraw.model import AlignDRAW, Caption
from aligndraw.viz.animation import WINDOW, window_boxes
from aligndraw.viz.attention import CELL, draw_cell
from aligndraw.viz.sheet import GAP, INK, MARGIN, PAPER, REMARK, enlarge, line_height, sheet_font, wrap

SIDE = 120  # least side of a canvas
NOTES = (
    "drawn: the canvas after each step, with latents from the prior and the frame of the window just written through. "
    "The mean of several pictures stands last. The cells are the words' weights in per cent. copied: the same with "
    "latents from the posterior of the real picture, which stands last. KL: the cost of these latents in each step, in "
    "nats. Last line: how much more the real picture costs when its caption names another digit. Below 0 the model "
    "takes the picture for that digit."
)


class Trace(NamedTuple):
    """The steps of one picture."""

    canvases: NDArray[np.float32]  # [T, C, H, W] in [0, 1]
    boxes: NDArray[np.float64]  # frames of the write windows, as `window_boxes` gives them [T, 4]
    weights: NDArray[np.float32]  # of the words [T, N]
    kl: NDArray[np.float32] | None  # nats [T]; None for a picture from the prior


@torch.no_grad()
def trace(model: AlignDRAW, caption: Caption, noise: Tensor, image: Tensor | None = None) -> Trace:
    """Returns the steps of one picture.

    Args:
        model: with align.
        caption: of one picture, from `model.encode_captions`.
        noise: ε, [1, T, z].
        image: [1, C, H, W], for latents from the posterior given it; None for latents from the prior.

    Raises:
        ValueError: the model has no align.
    """
    state, steps, canvases = model.initial_state(1, encode=image is not None), [], []
    for epsilon in noise.unbind(1):
        state, step = model.step(caption, state, epsilon, image)
        steps.append(step)
        canvases.append(state.canvas.sigmoid())
    weights = [step.weights for step in steps if step.weights is not None]
    if not weights:
        raise ValueError("the model attends to no words (align is false): there is nothing to show")
    windows = torch.cat([step.write_window for step in steps])
    kl = [step.kl for step in steps if step.kl is not None]
    return Trace(
        torch.cat(canvases).cpu().numpy(),
        window_boxes(windows, model.write.size, *state.canvas.shape[-2:]),
        torch.cat(weights).cpu().numpy(),
        torch.cat(kl).cpu().numpy() if kl else None,
    )


def comparison_panel(
    words: Sequence[str],
    drawn: Trace,
    copied: Trace,
    mean: NDArray[np.float32],
    real: NDArray[np.float32],
    costs: Mapping[str, float],
    *,
    title: str,
    remark: str,
) -> Image.Image:
    """One caption: its picture from the prior, the words' weights, and a real picture from the posterior.

    Args:
        words: of the caption.
        drawn: the picture from the prior.
        copied: the real picture from the posterior.
        mean: of several pictures from the prior [C, H, W].
        real: the real picture [C, H, W].
        costs: nats by which the real picture costs more when its caption names another digit, by digit.
        title: above.
        remark: below the title, in another colour.
    """
    assert copied.kl is not None
    font, line = sheet_font(), line_height()
    above, _ = enlarge(np.concatenate([drawn.canvases, mean[None]]), SIDE)
    below, scale = enlarge(np.concatenate([copied.canvases, real[None]]), SIDE)
    count, height, width, _ = above.shape
    label = int(max(font.getlength(word) for word in [*words, "copied", "step"])) + 2 * GAP
    total = label + count * (width + GAP)
    texts = [(text, INK) for text in wrap(title, total, font)] + [(text, REMARK) for text in wrap(remark, total, font)]
    cells = (len(texts) + 1) * line + height + GAP
    second = cells + len(words) * CELL + GAP
    panel = Image.new("RGB", (total, second + height + 2 * line + GAP), PAPER)
    pen = ImageDraw.Draw(panel)
    for i, (text, ink) in enumerate(texts):
        pen.text((0, i * line), text, fill=ink, font=font)
    names = [
        (len(texts) * line, "step"),
        ((len(texts) + 1) * line, "drawn"),
        (second, "copied"),
        (second + height, "KL"),
    ]
    for top, name in (*names, *((cells + i * CELL, word) for i, word in enumerate(words))):
        pen.text((0, top), name, fill=INK, font=font)
    for column in range(count):
        left, last = label + column * (width + GAP), column == count - 1
        pen.text((left, len(texts) * line), "mean" if last else str(column + 1), fill=INK, font=font)
        for pixels, found, top in ((above, drawn, (len(texts) + 1) * line), (below, copied, second)):
            picture = Image.fromarray(pixels[column])
            if not last:
                ImageDraw.Draw(picture).rectangle(_scaled(found.boxes[column], scale), outline=WINDOW, width=2)
            panel.paste(picture, (left, top))
        kl = copied.kl.sum() if last else copied.kl[column]
        pen.text((left, second + height), f"{kl:.1f}", fill=INK, font=font)
        for i in range(len(words)):
            share = drawn.weights[:, i].mean() if last else drawn.weights[column, i]
            draw_cell(pen, (left, cells + i * CELL), width, float(share))
    told = ", ".join(f"{digit} {cost:+.0f}" for digit, cost in costs.items())
    pen.text((0, second + height + line), f"another digit's caption, nats: {told}", fill=INK, font=font)
    return panel


def comparison_figure(heading: str, panels: Sequence[Image.Image]) -> Image.Image:
    """Panels of `comparison_panel`, one below the other, under a heading and above an explanation."""
    font, line = sheet_font(), line_height()
    width = max(panel.width for panel in panels)
    above, below = wrap(heading, width, font), wrap(NOTES, width, font)
    notes = MARGIN + len(above) * line + sum(MARGIN + panel.height for panel in panels) + MARGIN
    sheet = Image.new("RGB", (MARGIN + width + MARGIN, notes + len(below) * line + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    for start, lines in ((MARGIN, above), (notes, below)):
        for i, text in enumerate(lines):
            pen.text((MARGIN, start + i * line), text, fill=INK, font=font)
    top = MARGIN + len(above) * line
    for panel in panels:
        sheet.paste(panel, (MARGIN, top + MARGIN))
        top += MARGIN + panel.height
    return sheet


def _scaled(box: NDArray[Any], scale: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(edge) * scale for edge in box)
    return left, top, max(right, left + 1), max(bottom, top + 1)
