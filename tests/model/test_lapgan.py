"""LAPGAN: its two levels, sampling, its folder; and that it learns what two easy sentences look like."""

import json

import pytest
import torch

from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import AdversarialConfig
from aligndraw.model.language import LanguageModel
from aligndraw.model.lapgan import LAPGAN, NAMES
from aligndraw.noise import stream
from aligndraw.text import Vocabulary
from aligndraw.training.adversarial import PyramidTrainer

WORDS = Vocabulary(("a", "b", "c", "d"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def model(pyramid_config):
    return LAPGAN(pyramid_config, WORDS)


def test_the_two_levels(model):
    sentences, top_noise, noise = torch.randn(3, 6), torch.rand(3, 3), torch.rand(3, 1, 11, 14)
    images = model(sentences, top_noise, noise)
    small = model.top(sentences, top_noise)
    assert small.shape == (3, 2, 6, 7)
    coarse = pyramid.up(small, (11, 14))
    torch.testing.assert_close(images, coarse + model.residual(sentences, noise, coarse))


def streams(count, seed=0):
    return [stream(seed, i) for i in range(count)]


def test_pictures_are_of_their_own_streams_and_in_range(model):
    with torch.no_grad():
        model.top.layers[-1].weight *= 20
    sentences = torch.randn(4, 6)
    images = model.generate(sentences, streams(4))
    assert images.shape == (4, 2, 11, 14) and not images.requires_grad
    assert images.min() == 0 and images.max() == 1
    torch.testing.assert_close(images[2:3], model.generate(sentences[2:3], streams(4)[2:3]))
    assert not torch.equal(images, model.generate(sentences, streams(4, seed=1)))
    still = model(sentences, torch.zeros(4, 3), torch.zeros(4, 1, 11, 14)).clamp(0, 1)
    torch.testing.assert_close(model.generate(sentences, streams(4), temperature=0), still)
    with pytest.raises(ValueError, match=r"sentences must have shape \[3, 6\], got \[4, 6\]"):
        model.generate(sentences, streams(3))


def test_samples_of_words(pyramid_config, tmp_path):
    """A copy of the language model, its last states being the sentences, is kept and saved with the rest."""
    language = LanguageModel(4, 3)
    model = LAPGAN(pyramid_config, WORDS, language)
    ids, lengths = WORDS.encode_batch(["a b c", "d a"])
    sentences = language(ids, lengths)[1]
    for parameter in language.parameters():
        parameter.data.zero_()
    drawn = model.sample(ids, lengths, generator=streams(2)).images
    torch.testing.assert_close(drawn, model.generate(sentences, streams(2)))
    model.save(tmp_path)
    assert torch.equal(LAPGAN.load(tmp_path).sample(ids, lengths, generator=streams(2)).images, drawn)
    with pytest.raises(ValueError, match="steps must be left out"):
        model.sample(ids, lengths, generator=streams(2), steps=3)
    with pytest.raises(ValueError, match="language must be of the paper's conventions"):
        LAPGAN(pyramid_config, WORDS, LanguageModel(4, 3, "released"))
    with pytest.raises(ValueError, match="vocabulary must have the 5 words of the language model, got 4$"):
        LAPGAN(pyramid_config, WORDS, LanguageModel(5, 3))
    record = json.loads((tmp_path / "lapgan.json").read_text())
    record["vocabulary"]["words"].pop(1)
    (tmp_path / "lapgan.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match="lapgan.json is no LAPGAN .*must have the 4 words of the language model, got 3$"
    ):
        LAPGAN.load(tmp_path)


def test_round_trip(model, tmp_path):
    model.notes = {"a": 1}
    model.save(tmp_path)
    loaded = LAPGAN.load(tmp_path)
    assert (loaded.config, loaded.vocabulary, loaded.notes) == (model.config, WORDS, {"a": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(NAMES)
    sentences = torch.randn(2, 6)
    assert torch.equal(*(m.sample(sentences, generator=streams(2)).images for m in (model, loaded)))
    with torch.no_grad():
        model.top.layers[0].bias[0] = torch.nan
    model.save(tmp_path)
    with pytest.raises(ValueError, match="is damaged: some parameters are not finite"):
        LAPGAN.load(tmp_path)


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
    config = pyramid_config.replace(generator_units=32, discriminator_units=32, hidden_channels=8)
    model = LAPGAN(config, WORDS)
    recipe = AdversarialConfig(batch_size=32, learning_rate=0.1, precision="float32")
    trainer = PyramidTrainer(model, Shades(), Encoder(), recipe)
    for _ in range(500):
        trainer.update()
    images = model.generate(Encoder().encode(["0"] * 20 + ["1"] * 20), streams(40))
    assert images[:20].mean() < 0.4 and images[20:].mean() > 0.6
