"""The animation and the attention figure: what they show is what the drawing did."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.viz import attention_figure, attention_panel, save_animation
from aligndraw.viz.animation import window_boxes
from aligndraw.viz.attention import MIN_SIDE
from aligndraw.viz.sheet import GAP, INK, REMARK, line_height

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


def drawing(**changes):
    torch.manual_seed(0)
    model = AlignDRAW(TINY.replace(**changes))
    with torch.no_grad():
        for parameter in model.parameters():  # so that no two steps look alike
            parameter.normal_(0, 0.5)
    return model.sample(torch.tensor([[1, 2, 3], [4, 5, 6]]), generator=0)


def test_frame_of_a_window():
    """Centre (W+1)/2 (g̃_X + 1) and so on, and p filters of spacing δ: worked out by hand for W = 21, H = 11, p = 3."""
    window = torch.tensor([[0.0, 0.5, 0.0, math.log(0.2), 0.0]])
    # g_X = 11, g_Y = 9, δ = 20/2 · 0.2 = 2: centres 9, 11, 13 and 7, 9, 11; pixel 1 reaches from 0 to 1
    np.testing.assert_allclose(window_boxes(window, 3, 11, 21), [[8, 6, 13, 11]], rtol=1e-6)


def test_animation(tmp_path):
    save_animation(drawing(), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 6 and image.info["loop"] == 0
        image.seek(5)
        assert image.info["duration"] == 1500
        last = np.asarray(image.convert("RGB")).astype(int)
        image.seek(4)
        before = np.asarray(image.convert("RGB")).astype(int)

    def orange(pixels):
        return ((pixels[..., 0] > 200) & (pixels[..., 2] < 90)).sum()

    assert orange(before) > 0 and orange(last) == 0  # the finished pictures stand without frames
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_the_heaviest_word_is_the_darkest():
    drawn = drawing()
    drawn.weights = torch.tensor([0.02, 0.9, 0.08]).expand(2, 5, 3)
    pixels = np.asarray(attention_panel(drawn, 0, WORDS).convert("L")).astype(int)
    drawn.weights = torch.tensor([0.9, 0.02, 0.08]).expand(2, 5, 3)
    swapped = np.asarray(attention_panel(drawn, 0, WORDS).convert("L")).astype(int)
    assert pixels.shape == swapped.shape
    rows = np.flatnonzero((pixels != swapped).any(1))
    half = (rows[0] + rows[-1]) // 2  # the first word's row above, the second's below
    columns = slice(pixels.shape[1] // 2, None)
    assert pixels[half : rows[-1], columns].mean() < swapped[half : rows[-1], columns].mean()
    assert pixels[rows[0] : half, columns].mean() > swapped[rows[0] : half, columns].mean()


def test_chosen_steps_and_the_mean():
    """A column shows its own step, the last one the finished picture and the mean of the weights of all steps."""
    drawn, other = drawing(), drawing()
    drawn.weights = torch.full((2, 5, 3), 0.2)
    other.weights = drawn.weights.clone()
    other.weights[0, 2] = torch.tensor([0.9, 0.0, 0.1])
    few, changed = (np.asarray(attention_panel(d, 0, WORDS, [1, 5])).astype(int) for d in (drawn, other))
    columns = np.flatnonzero((few != changed).any((0, 2)))
    assert columns.min() > few.shape[1] - 2 * MIN_SIDE  # step 3 is not shown, but counts in the mean
    assert not np.array_equal(few, np.asarray(attention_panel(drawn, 0, WORDS, [2, 5])))
    last = np.asarray(attention_panel(drawn, 0, WORDS, [5]))[:, -2 * (60 + GAP) - GAP :]  # 10 pixels wide, times 6
    top = line_height()
    assert (last[top : top + 72, :60] == last[top : top + 72, 60 + 2 * GAP :][:, :60]).all()  # c_T, and σ(c_T)
    drawn.images = 1 - drawn.images
    above = np.flatnonzero((few != np.asarray(attention_panel(drawn, 0, WORDS, [1, 5]))).any((0, 2)))
    assert above.min() > few.shape[1] - 2 * MIN_SIDE
    assert attention_panel(drawn, 0, WORDS).width == attention_panel(drawn, 0, WORDS, [1, 2, 3, 4, 5]).width
    for wrong in ([0], [6], []):
        with pytest.raises(ValueError, match="steps must be from 1 to 5, those of the model, got"):
            attention_panel(drawn, 0, WORDS, wrong)


def test_panels_stand_side_by_side_until_they_are_too_wide():
    panel = Image.new("RGB", (400, 50), "red")
    wide = Image.new("RGB", (1400, 50), "red")
    for panels, red in (([panel] * 3, (1200, 50)), ([wide] * 2, (1400, 100))):
        pixels = np.asarray(attention_figure(panels)).astype(int)
        shown = (pixels == (255, 0, 0)).all(2)
        assert (shown.any(0).sum(), shown.any(1).sum()) == red


def test_titles_stand_above_a_panel():
    plain, titled = (attention_panel(drawing(), 0, WORDS, title=t, remark=r) for t, r in (("", ""), ("a b", "never")))
    extra = titled.height - plain.height
    assert (np.asarray(titled)[extra:] == np.asarray(plain)).all()
    colours = {tuple(p) for p in np.asarray(titled)[:extra].reshape(-1, 3).tolist()}
    assert {INK, REMARK} <= colours


def test_a_model_without_align_has_nothing_to_show():
    with pytest.raises(ValueError, match="attends to no words"):
        attention_panel(drawing(align=False), 0, WORDS)
