"""Bounds under captions that name each digit."""

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import VOCABULARY, MNISTCaptions, caption, load_digits
from aligndraw.data import to_tensors as tensors
from aligndraw.evaluation.naming import naming_costs
from aligndraw.noise import stream

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
PLACEMENTS = [(0, 3, 7), (2, 1, 1), (1, 9, 0)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = AlignDRAW(TINY)
    model.reset_parameters("fan_in")
    return model


@pytest.mark.parametrize("which", [0, 1])
def test_each_column_names_its_digit(model, which):
    """And each picture keeps its noise, in batches of any size."""
    digits = load_digits()
    costs = naming_costs(model, digits, PLACEMENTS, which, "test", 3, batch_size=2)
    assert costs.shape == (3, 10)
    images, _, _ = tensors(MNISTCaptions(digits, "test").for_placements(PLACEMENTS, 3), slice(None))
    for digit in range(10):
        named = [(k, digit, b) if which == 0 else (k, a, digit) for k, a, b in PLACEMENTS]
        ids, lengths = VOCABULARY.encode_batch([caption(*placement) for placement in named])
        with torch.no_grad():
            bound = model(images, ids, lengths, generator=[stream(3, i) for i in range(3)])
        torch.testing.assert_close(costs[:, digit].float(), bound.kl + bound.nll, rtol=1e-5, atol=1e-3)
    assert (costs.std(1) > 1e-3).all()  # the digits do make a difference


def test_one_digit_has_no_second(model):
    with pytest.raises(ValueError, match="which must be 0, or 1 where all placements have a digit b, got 1"):
        naming_costs(model, load_digits(), [(0, 3, 7), (4, 2, -1)], 1)
