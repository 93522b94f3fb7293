"""The comparison of captions: its steps are the model's."""

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.viz import comparison_figure, comparison_panel, trace
from aligndraw.viz.animation import WINDOW
from aligndraw.viz.attention import CELL

TINY = AlignDRAWConfig(
    image_size=(12, 10),
    steps=5,
    read_size=2,
    write_size=3,
    encoder_units=4,
    decoder_units=4,
    latent_units=3,
    language_units=4,
    align_units=4,
    vocabulary_size=7,
)
WORDS = ["a", "red", "bus"]
IDS = torch.tensor([[1, 2, 3]])


def parts(**changes):
    """A model, a caption, noise and an image."""
    torch.manual_seed(0)
    model = AlignDRAW(TINY.replace(**changes))
    with torch.no_grad():
        for parameter in model.parameters():  # so that no two steps look alike
            parameter.normal_(0, 0.5)
    return model, model.encode_captions(IDS), torch.randn(1, 5, 3), torch.rand(1, 1, 12, 10)


def test_steps_from_the_prior_are_those_of_sample():
    model, caption, noise, _ = parts()
    found, drawn = trace(model, caption, noise), model.sample(IDS, noise=noise)
    np.testing.assert_allclose(found.canvases, drawn.canvases[0].sigmoid().numpy(), atol=1e-5)
    np.testing.assert_allclose(found.weights, drawn.weights[0].numpy(), atol=1e-5)
    assert found.boxes.shape == (5, 4) and found.kl is None


def test_steps_from_the_posterior_are_those_of_the_bound():
    model, caption, noise, image = parts()
    found, bound = trace(model, caption, noise, image), model(image, IDS, noise=noise)
    np.testing.assert_allclose(found.kl, bound.kl_steps[0].detach().numpy(), rtol=1e-4)
    mean = torch.from_numpy(found.canvases[-1])
    nll = -(image[0] * mean.log() + (1 - image[0]) * (1 - mean).log()).sum()
    assert nll.item() == pytest.approx(bound.nll.item(), rel=1e-4)


def test_a_model_without_align_is_refused():
    model, caption, noise, _ = parts(align=False)
    with pytest.raises(ValueError, match="the model attends to no words"):
        trace(model, caption, noise)


def panel(costs, weight=0.9):
    model, caption, noise, image = parts()
    drawn, copied = trace(model, caption, noise), trace(model, caption, noise, image)
    drawn = drawn._replace(weights=np.full((5, 3), [weight, 0.05, 0.05], np.float32))
    texts = {"title": "a red bus", "remark": "held out"}
    return comparison_panel(WORDS, drawn, copied, drawn.canvases[-1], image[0].numpy(), costs, **texts)


def test_panel():
    """Both rows show five frames each, the last column none, and the heavier word is the darker."""
    pixels = np.asarray(panel({"1": 3.0})).astype(int)
    framed = (pixels == WINDOW).all(2)
    assert framed[: len(framed) // 2].any() and framed[len(framed) // 2 :].any()
    columns = np.flatnonzero(framed.any(0))
    assert columns.max() < pixels.shape[1] - 100  # the mean and the real picture have no frames
    light = np.asarray(panel({"1": 3.0}, weight=0.1)).astype(int)
    rows = np.flatnonzero((pixels != light).any((1, 2)))
    assert len(rows) <= CELL and pixels[rows].mean() < light[rows].mean()
    assert (pixels != np.asarray(panel({"1": 4.0}))).any()


def test_figure_holds_its_panels():
    one = panel({"1": 3.0})
    sheet = np.asarray(comparison_figure("a heading", [one, one])).astype(int)
    inside = np.asarray(one).astype(int)
    found = [
        top
        for top in range(len(sheet) - len(inside))
        if (sheet[top : top + len(inside), 22 : 22 + inside.shape[1]] == inside).all()
    ]
    assert len(found) == 2
