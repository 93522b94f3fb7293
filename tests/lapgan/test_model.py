"""LAPGAN: its two levels, sampling, its folder; and that it learns what two easy sentences look like."""

import pytest
import torch

from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import AdversarialConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator, TopDiscriminator
from aligndraw.lapgan.model import LAPGAN, NAMES
from aligndraw.lapgan.training import AdversarialTrainer


@pytest.fixture
def model(pyramid_config):
    return LAPGAN(pyramid_config)


def test_the_two_levels(model):
    sentences, top_noise, noise = torch.randn(3, 6), torch.rand(3, 3), torch.rand(3, 1, 11, 14)
    images = model(sentences, top_noise, noise)
    small = model.top(sentences, top_noise)
    assert small.shape == (3, 2, 6, 7)
    coarse = pyramid.up(small, (11, 14))
    torch.testing.assert_close(images, coarse + model.residual(sentences, noise, coarse))


def test_samples_are_of_the_seed_and_in_range(model):
    with torch.no_grad():
        model.top.layers[-1].weight *= 20
    sentences = torch.randn(4, 6)
    images = model.sample(sentences, torch.Generator().manual_seed(1))
    assert images.shape == (4, 2, 11, 14) and not images.requires_grad
    assert images.min() == 0 and images.max() == 1
    assert torch.equal(images, model.sample(sentences, torch.Generator().manual_seed(1)))
    assert not torch.equal(images, model.sample(sentences, torch.Generator().manual_seed(2)))
    with pytest.raises(ValueError, match=r"sentences must have shape \[B, 6\], got \[4, 5\]"):
        model.sample(torch.randn(4, 5))


def test_round_trip(model, tmp_path):
    model.notes = {"a": 1}
    model.save(tmp_path)
    loaded = LAPGAN.load(tmp_path)
    assert loaded.config == model.config and loaded.notes == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(NAMES)
    sentences = torch.randn(2, 6)
    pictures = [m.sample(sentences, torch.Generator().manual_seed(0)) for m in (model, loaded)]
    assert torch.equal(*pictures)


class Shades:
    """Dark and bright images, and captions that say which."""

    def __len__(self):
        return 64

    def batch(self, rows):
        bright = torch.from_numpy(rows % 2)
        shades = (0.2 + 0.6 * bright)[:, None, None, None]
        return shades.expand(-1, 2, 11, 14).float(), [str(b) for b in bright.tolist()]


class Encoder:
    def encode(self, captions):
        return torch.tensor([[2.0 * int(caption) - 1] * 6 for caption in captions])


def test_both_levels_learn(pyramid_config):
    config = pyramid_config.replace(generator_units=32, discriminator_units=32, planes=8)
    model = LAPGAN(config)
    recipe = AdversarialConfig(batch_size=32, learning_rate=0.1, precision="float32")
    levels = (
        (model.top, TopDiscriminator(config), pyramid.down, 500),
        (model.residual, ResidualDiscriminator(config), lambda images: images, 20),
    )
    for generator, discriminator, prepare, updates in levels:
        trainer = AdversarialTrainer(generator, discriminator, Shades(), Encoder(), recipe, prepare=prepare)
        for _ in range(updates):
            trainer.update()
    images = model.sample(Encoder().encode(["0"] * 20 + ["1"] * 20), torch.Generator().manual_seed(0))
    assert images[:20].mean() < 0.4 and images[20:].mean() > 0.6
