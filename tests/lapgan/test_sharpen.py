"""The sharpener, its fast form, and what is kept of it in a folder."""

import copy
import json

import pytest
import torch

from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.fast import FastSharpener
from aligndraw.lapgan.sharpen import NAMES, Sharpener


@pytest.fixture
def sharpener(config):
    return Sharpener(config)


@pytest.fixture
def inputs(config):
    return torch.rand(5, 2, 11, 14), torch.randn(5, 6)


def test_the_residual_is_added_and_the_sum_clipped(sharpener, inputs):
    images, sentences = inputs
    last = sharpener.generator.convolutions[-1]
    with torch.no_grad():
        last.weight *= 20
    residuals = sharpener.generator(sentences, torch.zeros(5, 1, 11, 14), images)
    sharp = sharpener(images, sentences)
    assert (images + residuals).min() < 0 and (images + residuals).max() > 1
    torch.testing.assert_close(sharp, (images + residuals).clamp(0, 1))


def test_noise_is_zero_unless_given(sharpener, inputs):
    images, sentences = inputs
    assert torch.equal(sharpener(images, sentences), sharpener(images, sentences))
    noise = sharpener.generator.noise(5)
    assert not torch.equal(sharpener(images, sentences, noise), sharpener(images, sentences))


def error(result, truth):
    return float((result.detach().double() - truth.detach()).abs().max())


@pytest.mark.parametrize(
    ("size", "batch"), [((11, 14), 5), ((9, 9), 1), ((32, 32), 3), ((36, 71), 12), ((34, 35), 2), ((9, 9), 0)]
)
def test_fast_is_as_exact_as_plain(size, batch):
    plain = Sharpener(SharpenerConfig(image_size=size, channels=2, sentence_units=6, hidden_channels=5))
    images, sentences = torch.rand(batch, 2, *size), torch.randn(batch, 6)
    truth = copy.deepcopy(plain).double()(images.double(), sentences.double())
    sharp = FastSharpener(plain)(images, sentences)
    assert sharp.shape == images.shape and not sharp.requires_grad
    if batch:
        assert error(sharp, truth) <= 2 * error(plain(images, sentences), truth) + 1e-7


def test_fast_in_half_precision(sharpener, inputs):
    images, sentences = inputs
    truth = copy.deepcopy(sharpener).double()(images.double(), sentences.double())
    half = copy.deepcopy(sharpener).bfloat16()(images.bfloat16(), sentences.bfloat16())
    sharp = FastSharpener(sharpener, torch.bfloat16)(images, sentences)
    assert sharp.dtype == torch.float32
    assert error(sharp, truth) <= 2 * error(half, truth)
    assert error(sharp, truth) > 1e-6  # it is in half precision


def test_fast_is_a_copy(sharpener, inputs):
    fast = FastSharpener(sharpener)
    before = fast(*inputs)
    with torch.no_grad():
        for parameter in sharpener.parameters():
            parameter.zero_()
    assert torch.equal(fast(*inputs), before)


def test_round_trip(sharpener, tmp_path):
    sharpener.notes = {"sentences": "caption"}
    before = torch.get_rng_state()
    sharpener.save(tmp_path / "new" / "s")
    loaded = Sharpener.load(tmp_path / "new" / "s")
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.config == sharpener.config and loaded.notes == sharpener.notes
    for (name, a), b in zip(loaded.state_dict().items(), sharpener.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert sorted(p.name for p in (tmp_path / "new" / "s").iterdir()) == sorted(NAMES)


def test_folders_that_hold_no_sharpener(sharpener, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no sharpener in .*: it has no sharpener.json"):
        Sharpener.load(tmp_path)
    sharpener.generator.sentence[0].bias.data[3] = float("nan")
    sharpener.save(tmp_path)
    with pytest.raises(ValueError, match="is damaged: some parameters are not finite"):
        Sharpener.load(tmp_path)
    record = json.loads((tmp_path / NAMES[1]).read_text())
    (tmp_path / NAMES[1]).write_text(json.dumps(record | {"sharpener": {"planes": 4}}))
    with pytest.raises(ValueError, match="sharpener.safetensors does not fit sharpener.json beside it"):
        Sharpener.load(tmp_path)
    (tmp_path / NAMES[1]).write_text(json.dumps(record | {"format": "aligndraw 1"}))
    with pytest.raises(ValueError, match="does not say that its format is aligndraw sharpener 1"):
        Sharpener.load(tmp_path)


@pytest.mark.parametrize(
    ("images", "sentences", "message"),
    [
        ((5, 2, 14, 11), (5, 6), r"images must have shape \[B, 2, 11, 14\], got \[5, 2, 14, 11\]"),
        ((2, 11, 14), (5, 6), r"images must have shape \[B, 2, 11, 14\], got \[2, 11, 14\]"),
        ((5, 2, 11, 14), (4, 6), r"sentences must have shape \[5, 6\], got \[4, 6\]"),
    ],
)
def test_errors(sharpener, images, sentences, message):
    for form in (sharpener, FastSharpener(sharpener)):
        with pytest.raises(ValueError, match=message):
            form(torch.rand(images), torch.rand(sentences))
