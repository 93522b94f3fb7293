"""A drawing as HTML that `player.js` plays: the canvas of each step, its window, and the words it attends to."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Collection, Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from aligndraw.pipelines import Drawing
from aligndraw.viz.animation import window_boxes
from aligndraw.viz.sheet import check_pictures, enlarge


def drawing_figure(drawing: Drawing, changed: Collection[int] = ()) -> str:
    """Returns a drawing of one caption as a <figure>, with its files as links.

    The figure has T + 1 frames: the canvas after each step, and the finished picture. A model that draws in one go has
    the finished picture alone.

    Args:
        drawing: with the attention, where the model attends to words.
        changed: positions of words to mark.

    Raises:
        ValueError: the drawing is of several captions, or its pictures cannot be shown.
    """
    if len(drawing.captions) != 1:
        raise ValueError(f"drawing must be of one caption, got {len(drawing.captions)}")
    check_pictures(drawing.arrays())
    pictures = "".join(_pictures(drawing))
    words = " ".join(_words(drawing, changed))
    links = " ".join(_links(drawing))
    return (
        f'<figure class="drawing"><figcaption>{words}</figcaption>'
        f'<div class="pictures">{pictures}</div><p class="links">{links}</p></figure>'
    )


def frames(drawing: Drawing) -> NDArray[np.float32]:
    """Returns the frames of each picture, float32 [B, T + 1, C, H, W] in [0, 1]; T is 0 for a model without steps."""
    samples, finished = drawing.samples, drawing.arrays()[:, None]
    if samples.windows is None:
        return finished
    return np.concatenate([samples.canvases.sigmoid().float().cpu().numpy(), finished], 1)


def boxes(drawing: Drawing) -> NDArray[np.float64]:
    """Returns left, top, width and height of each window in per cent of the picture, [B, T, 4]; T as in `frames`."""
    samples = drawing.samples
    count, _, height, width = samples.images.shape
    if samples.windows is None or samples.patches is None:
        return np.zeros((count, 0, 4))
    edges = window_boxes(samples.windows.flatten(0, 1), samples.patches.shape[-1], height, width)
    corners, ends = edges[:, :2], edges[:, 2:]
    share = 100 * np.concatenate([corners, ends - corners], 1) / [width, height, width, height]
    return share.reshape(count, -1, 4)


def lights(drawing: Drawing) -> NDArray[np.float64]:
    """Returns how bright each word is in each frame, [B, T + 1, N]: its weight, by that of the heaviest word.

    The last frame has the mean weights of all steps. Without attention all is 0.
    """
    words = len(drawing.words[0])
    if drawing.attention is None:
        return np.zeros((len(drawing), frames(drawing).shape[1], words))
    weights = drawing.attention[:, :, :words].double()
    weights = torch.cat([weights, weights.mean(1, keepdim=True)], 1)
    bright: NDArray[np.float64] = (weights / weights.amax(2, keepdim=True)).cpu().numpy()
    return bright


def _pictures(drawing: Drawing) -> Iterator[str]:
    films = frames(drawing)
    for i, (film, windows) in enumerate(zip(films, boxes(drawing)), 1):
        pixels, _ = enlarge(film, 1)
        strip = Image.fromarray(np.concatenate(pixels, 1))  # all frames side by side
        height, width = film.shape[-2:]
        yield (
            f'<button type="button" class="picture" style="aspect-ratio: {width} / {height}" '
            f'aria-label="picture {i} of {len(films)}" data-frames="{len(film)}" data-boxes="{_json(windows, 2)}">'
            f'<img alt="" src="{_data("image/png", _png(strip))}" style="width: {100 * len(film)}%">'
            f"<i></i></button>"
        )


def _words(drawing: Drawing, changed: Collection[int]) -> Iterator[str]:
    bright = lights(drawing)
    for k, word in enumerate(drawing.words[0]):
        mark = ' class="changed"' if k in changed else ""
        yield f'<span{mark} data-lights="{_json(bright[:, :, k], 2)}">{escape(word)}</span>'


def _links(drawing: Drawing) -> Iterator[str]:
    """Yields links that hold their files: the server keeps nothing that another visitor could ask for."""
    name = re.sub(r"\W+", "-", drawing.captions[0].lower()).strip("-")[:60] or "drawing"
    with tempfile.TemporaryDirectory() as folder:
        sheet, film = (Path(folder) / f"{name}{suffix}" for suffix in (".png", ".gif"))
        drawing.save(sheet)
        yield _link("pictures (PNG)", "image/png", sheet)
        if drawing.samples.windows is not None:
            drawing.animate(film)
            yield _link("animation (GIF)", "image/gif", film)


def _link(text: str, kind: str, file: Path) -> str:
    return f'<a download="{escape(file.name)}" href="{_data(kind, file.read_bytes())}">{text}</a>'


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _json(values: NDArray[Any], digits: int) -> str:
    return json.dumps(values.round(digits).tolist(), separators=(",", ":"))
