"""The result of a pipeline."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import aligndraw
from aligndraw import Drawing, Pipeline
from aligndraw.config import FullyConnectedVAEConfig
from aligndraw.data import VOCABULARY
from aligndraw.model import build_model

SEVEN, TWO = "the digit seven is at the top left of the image", "7 is on the left"


@pytest.fixture
def drawing(pipeline):
    return pipeline([SEVEN, TWO], num_images_per_prompt=2, seed=5, temperature=0.5, return_attention=True)


def test_one_line_about_it(pipeline, scenes, drawing):
    assert repr(drawing) == "<Drawing: 4 pictures of 2 captions, 60 x 60 grey, seed 5>" and len(drawing) == 4
    one = scenes("a red bus on the road", generator=torch.Generator())
    assert repr(one) == "<Drawing: 1 picture of 1 caption, 32 x 32 colour, own noise>"


def test_a_sheet(drawing, tmp_path):
    """With the settings among its metadata; a notebook shows the same picture."""
    drawing.save(tmp_path / "a.png")
    sheet = Image.open(tmp_path / "a.png")
    assert sheet.text == {
        "Software": f"aligndraw {aligndraw.__version__}", "Caption": f"{SEVEN}\n{TWO}", "Seed": "5",
        "Temperature": "0.5", "Steps": "3", "Model": "tiny",
    }  # fmt: skip
    shown = Image.open(io.BytesIO(drawing._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(sheet))
    assert (np.asarray(drawing.sheet(["", "a remark"]))[: sheet.height] != np.asarray(sheet)).any()
    first = np.asarray(drawing.pil()[0]).repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(np.asarray(sheet)[22 : 22 + 180, 22 : 22 + 180, 0], first)


def test_an_archive(drawing, tmp_path):
    drawing.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], drawing.samples.images.numpy())
        assert arrays["captions"].tolist() == [SEVEN, SEVEN, TWO, TWO]


def test_figures(drawing, tmp_path):
    """Of each picture its own; an animation with a frame per step and the finished pictures."""
    figures = [np.asarray(drawing.plot(index=i)) for i in range(4)]
    assert figures[0].shape == figures[1].shape and (figures[0] != figures[1]).any()
    assert figures[0].shape[0] > figures[2].shape[0]  # twelve words above six
    drawing.plot(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), figures[0])
    assert Image.open(tmp_path / "a.png").text["Caption"] == SEVEN
    drawing.animate(tmp_path / "a.gif")
    assert Image.open(tmp_path / "a.gif").n_frames == 4


def test_what_is_refused(pipeline, drawing, tmp_path):
    for call, message in (
        (lambda: drawing.save("a.jpg"), "path must end in .png or .npz, got 'a.jpg'"),
        (lambda: drawing.plot("a.jpg"), "path must end in .png, got 'a.jpg'"),
        (lambda: drawing.animate("a.png"), "path must end in .gif, got 'a.png'"),
        (lambda: drawing.plot(index=4), "index must be in 0…3, got 4"),
        (lambda: drawing.plot(index=-1), "index must be in 0…3, got -1"),
        (lambda: drawing.plot(index=1.5), "index must be in 0…3, got 1.5"),
        (lambda: drawing.plot(3), "path must end in .png, got 3"),
        (lambda: drawing.save(None), "path must end in .png or .npz, got None"),
        (lambda: drawing.animate(b"a.gif"), "path must end in .gif, got b'a.gif'"),
        (lambda: drawing.sheet(["a"]), "remarks must be one line of text per caption, 2, or none, got ..a.."),
        (lambda: drawing.sheet("ab"), "remarks must be one line of text per caption, 2, or none, got 'ab'"),
        (lambda: drawing.sheet([1, 2]), r"remarks must be one line of text per caption, 2, or none, got \[1, 2\]"),
        (lambda: pipeline(SEVEN).plot(), "plot needs the attention: draw with return_attention=True"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    config = FullyConnectedVAEConfig(hidden_units=4, latent_units=3, language_units=3, vocabulary_size=22)
    with pytest.raises(ValueError, match="must draw in steps"):
        Pipeline(build_model(config), VOCABULARY)(SEVEN).animate(tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_joined(pipeline):
    """The attention to shorter captions is padded; every picture keeps its words."""
    parts = [pipeline(caption, num_images_per_prompt=2, seed=0, return_attention=True) for caption in (TWO, SEVEN)]
    both = Drawing.joined(parts)
    assert both.captions == [TWO, SEVEN] and both.attention.shape == (4, 3, 12)
    for i, part in enumerate(parts):
        rows = slice(2 * i, 2 * i + 2)
        np.testing.assert_array_equal(both.arrays()[rows], part.arrays())
        torch.testing.assert_close(both.attention[rows, :, : part.attention.shape[2]], part.attention)
        np.testing.assert_array_equal(np.asarray(both.plot(index=2 * i)), np.asarray(part.plot()))
    assert (both.attention[:2, :, 6:] == 0).all()
    assert Drawing.joined([pipeline(TWO), pipeline(SEVEN)]).attention is None


def test_drawings_that_cannot_be_joined(pipeline):
    """Pictures per caption, settings and form must be the same: one result has one of each."""
    one = pipeline(TWO, seed=0)
    for other, message in (
        (pipeline(SEVEN, num_images_per_prompt=4, seed=0), "pictures per caption, got 1 and 4"),
        (pipeline(SEVEN, steps=2, seed=0), "steps, got 3 and 2"),
        (pipeline(SEVEN, temperature=0.5, seed=0), "temperature, got 1.0 and 0.5"),
        (pipeline(SEVEN, output_type="pt", seed=0), "output_type, got 'pil' and 'pt'"),
        (replace(one, model="other"), "model, got 'tiny' and 'other'"),
        (pipeline(SEVEN, return_attention=True, seed=0), "return_attention, got False and True"),
    ):
        with pytest.raises(ValueError, match=f"^drawings must have the same {message}$"):
            Drawing.joined([one, other])
    with pytest.raises(ValueError, match="^drawings must hold at least one, got none$"):
        Drawing.joined([])


def test_the_seed_of_joined_drawings(pipeline):
    """Only a seed that all share is told."""
    assert Drawing.joined([pipeline(TWO, seed=7), pipeline(SEVEN, seed=7)]).seed == 7
    assert Drawing.joined([pipeline(TWO, seed=7), pipeline(SEVEN, seed=8)]).seed is None


def test_a_folder_that_is_not_there(drawing, tmp_path):
    """The error names the place, not an unfinished file."""
    for write in (drawing.save, drawing.plot):
        with pytest.raises(FileNotFoundError) as raised:
            write(tmp_path / "none" / "a.png")
        assert raised.value.filename == str(tmp_path / "none") and ".aligndraw" not in str(raised.value)
