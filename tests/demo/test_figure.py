"""A drawing as HTML: the pixels, windows and weights that the browser is given."""

import base64
import dataclasses
import io
import json
import re
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw import Pipeline
from aligndraw.config import FullyConnectedVAEConfig
from aligndraw.data import VOCABULARY
from aligndraw.demo import figure
from aligndraw.model import FullyConnectedVAE, Samples
from aligndraw.pipelines import Drawing

EIGHT = "the digit 3 is on the left of the digit 8"


@pytest.fixture(scope="module")
def drawing(digits):
    return digits(EIGHT, num_images_per_prompt=3, seed=4, return_attention=True)


def links(html):
    """The files of the links, by name."""
    found = re.findall(r'<a download="([^"]*)" href="data:[^;]*;base64,([^"]*)"', html)
    return {name: base64.b64decode(content) for name, content in found}


def test_a_film_has_the_canvas_of_each_step_and_the_finished_picture(drawing, films):
    shown = films(figure.drawing_figure(drawing))
    canvases = (drawing.samples.canvases.sigmoid() * 255).round().byte().numpy()
    assert len(shown) == 3 and drawing.steps == 12
    for film, canvas, image in zip(shown, canvases, drawing.pil()):
        assert film.shape == (13, 60, 60, 3)
        np.testing.assert_array_equal(film[:12, :, :, 0], canvas[:, 0])
        np.testing.assert_array_equal(film[12], np.asarray(image.convert("RGB")))


def test_boxes_are_in_per_cent_of_the_picture():
    """Of 5 filters on 11 x 21 pixels: their spacing is 20/4 at log δ = 0, the middle is column 11 and row 6."""
    windows = torch.zeros(1, 2, 5)
    windows[0, :, 3] = torch.tensor([0.2, 0.1]).log()  # spacing 1, then 0.5
    windows[0, 1, :2] = torch.tensor([0.5, -0.5])  # centre: column 11 · 1.5 = 16.5, row 6 · 0.5 = 3
    samples = Samples(torch.zeros(1, 1, 11, 21), torch.zeros(1, 1, 11, 21), torch.zeros(1, 2, 1, 5, 5), windows)
    first, second = figure.boxes(Drawing(samples, ["a"], [["a"]]))[0]
    # Filters at columns 9 to 13 and rows 4 to 8; pixel k reaches from k - 1 to k.
    pixels = np.array([21, 11, 21, 11]) / 100
    np.testing.assert_allclose(first * pixels, [8, 3, 5, 5], atol=1e-5)
    np.testing.assert_allclose(second * pixels, [14.5, 1, 3, 3], atol=1e-5)  # columns 15.5 to 17.5, rows 2 to 4
    html = figure.drawing_figure(Drawing(samples, ["a"], [["a"]]))
    assert json.loads(re.search(r'data-boxes="([^"]*)"', html)[1]) == [
        [38.1, 27.27, 23.81, 45.45],
        [69.05, 9.09, 14.29, 27.27],
    ]


def test_a_word_is_as_bright_as_its_weight_by_that_of_the_heaviest(drawing):
    html, weights = figure.drawing_figure(drawing), drawing.attention.numpy()
    words = re.findall(r'<span data-lights="([^"]*)">([^<]*)</span>', html)
    assert [word for _, word in words] == drawing.words[0] == [*EIGHT.split(), "."]
    shown = np.stack([json.loads(lights) for lights, _ in words], 2)  # [B, T + 1, N]
    steps = weights / weights.max(2, keepdims=True)
    np.testing.assert_allclose(shown[:, :12], steps, atol=0.0051)
    mean = weights.mean(1)
    np.testing.assert_allclose(shown[:, 12], mean / mean.max(1, keepdims=True), atol=0.0051)
    assert (shown.max(2) == 1).all() and shown.min() < 0.1


def test_its_files(drawing):
    files = links(figure.drawing_figure(drawing))
    name = "the-digit-3-is-on-the-left-of-the-digit-8"
    assert list(files) == [f"{name}.png", f"{name}.gif"]
    sheet, film = (Image.open(io.BytesIO(content)) for content in files.values())
    assert (sheet.text["Caption"], sheet.text["Seed"]) == (EIGHT, "4")
    assert sheet.tobytes() == drawing.sheet().tobytes()
    assert film.n_frames == 13


def test_marked_words(drawing):
    html = figure.drawing_figure(drawing, {2, 10})
    assert re.findall(r'<span class="changed"[^>]*>([^<]*)<', html) == ["3", "8"]


def test_a_model_without_steps_and_attention_shows_its_pictures_alone(films):
    model = FullyConnectedVAE(FullyConnectedVAEConfig(hidden_units=4, latent_units=3))
    drawing = Pipeline(model, VOCABULARY)(EIGHT, num_images_per_prompt=2, seed=0)
    html = figure.drawing_figure(drawing)
    assert [len(film) for film in films(html)] == [1, 1]
    assert list(links(html)) == ["the-digit-3-is-on-the-left-of-the-digit-8.png"]
    assert set(re.findall(r'data-boxes="([^"]*)"', html)) == {"[]"}
    assert set(re.findall(r'data-lights="([^"]*)"', html)) == {"[[0.0],[0.0]]"}


def test_words_and_captions_are_text_not_html(drawing):
    strange = ["<img", "src=x", "onerror=alert(1)>", '"', "&amp;"]
    attention = drawing.attention[:, :, : len(strange)]
    changed = dataclasses.replace(drawing, words=[strange], captions=[" ".join(strange)], attention=attention)
    html = figure.drawing_figure(changed)
    assert [unescape(word) for word in re.findall(r"<span [^>]*>([^<]*)</span>", html)] == strange
    assert html.count("<img") == 3  # the films


def test_several_captions_are_refused(digits):
    with pytest.raises(ValueError, match=r"^drawing must be of one caption, got 2$"):
        figure.drawing_figure(digits([EIGHT, EIGHT], seed=0))
