"""Shuffled captions: a derangement, and a paired difference of bounds equal to a direct computation."""

import math

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import evaluation_scenes, to_tensors
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.evaluation.shuffling import Shuffled, caption_gain, derangement
from aligndraw.noise import stream


@pytest.mark.parametrize(
    "image_index", [[0, 1], [3, 3, 1, 1], [5, 0, 5, 1, 5, 2], list(range(50)), [7, 2, 7, 2, 9] * 8]
)
def test_every_example_gets_a_caption_of_another_image(image_index):
    image_index = np.array(image_index)
    orders = [derangement(image_index, seed) for seed in range(20)]
    for order in orders:
        assert sorted(order) == list(range(len(order))) and (image_index[order] != image_index).all()
    assert (derangement(image_index, 3) == orders[3]).all()
    assert len(image_index) < 5 or len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("image_index", [[0], [0, 0], [0, 0, 1], [4, 4, 4, 1, 2]])
def test_captions_of_one_image_cannot_be_shuffled(image_index):
    most = max(map(image_index.count, image_index))
    message = f"^captions must be of several pictures to be shuffled, got {most} of {len(image_index)} of one picture$"
    with pytest.raises(ValueError, match=message):
        derangement(np.array(image_index), 0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"encoder_units": 6, "decoder_units": 5, "latent_units": 3, "language_units": 4, "align_units": 4}
    model = AlignDRAW(
        AlignDRAWConfig(steps=3, image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY), **sizes)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("image_index", [range(7), [0, 1, 0, 2, 3, 2, 4]])
def test_the_difference_of_pairs(model, image_index):
    examples, image_index = evaluation_scenes(size=7)["seen"], np.array(image_index)
    order = derangement(image_index, 1)
    others = Shuffled(examples, order)
    texts = examples.captions()
    assert len(others) == 7 and others.captions(slice(2, 5)) == [texts[i] for i in order[2:5]]
    own, shuffled = (estimate_bound(model, part, samples=2, seed=3, batch_size=4) for part in (examples, others))
    gain = caption_gain(own, shuffled, image_index)

    differences = []
    for i in range(7):
        image = to_tensors(examples, slice(i, i + 1))[0]
        bounds = []
        for caption in (order[i], i):
            _, words, lengths = to_tensors(examples, slice(caption, caption + 1))
            found = model(image, words, lengths, generator=[stream(3, i)], samples=2)
            bounds.append((found.kl + found.nll).item())
        differences.append(bounds[0] - bounds[1])
    mean = sum(differences) / 7
    assert max(map(abs, differences)) > 0.01  # the captions matter to the model
    assert gain.mean == pytest.approx(mean, rel=1e-3)
    sums = {}
    for image, difference in zip(image_index.tolist(), differences):
        sums[image] = sums.get(image, 0) + difference - mean
    n = len(sums)
    assert gain.error == pytest.approx(math.sqrt(n / (n - 1) * sum(s * s for s in sums.values())) / 7, rel=1e-3)
    if n == 7:  # the standard error of independent values
        assert gain.error == pytest.approx(np.std(differences, ddof=1) / math.sqrt(7), rel=1e-3)
    assert shuffled.bound.mean - own.bound.mean == pytest.approx(gain.mean, abs=1e-3)
