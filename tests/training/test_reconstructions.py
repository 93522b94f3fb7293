"""What a model makes of the images of a sharpener's training."""

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.noise import stream
from aligndraw.text import CaptionError, Vocabulary
from aligndraw.training import reconstructions
from aligndraw.training.reconstructions import reconstruct

WORDS = Vocabulary(("a", "b", "c"))


@pytest.fixture
def model():
    config = AlignDRAWConfig(
        image_size=(11, 14), channels=2, canvas_init=0.0, vocabulary_size=3,
        steps=3, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4,
    )  # fmt: skip
    network = AlignDRAW(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    return network


class Seven:
    """Images with captions of different lengths."""

    def __init__(self, word="c"):
        self.images = torch.rand(7, 2, 11, 14)
        self.captions = ["a", "a b", word, "b b a", "c", "a", "b a"]

    def __len__(self):
        return 7

    def batch(self, rows):
        return self.images[torch.from_numpy(rows)], [self.captions[row] for row in rows]


def test_each_is_that_of_its_own_image_caption_and_stream(model, monkeypatch):
    examples, done = Seven(), []
    made = reconstruct(model, WORDS, examples, 5, done.append)
    assert made.shape == (7, 2, 11, 14) and made.dtype == np.uint8 and done == [7]
    for i in range(7):
        ids, lengths = WORDS.encode_batch([examples.captions[i]])
        noise = torch.randn(1, 3, 3, generator=stream(5, i))
        drawn = model.infer(examples.images[i : i + 1], model.encode_captions(ids, lengths), noise).canvas.sigmoid()
        np.testing.assert_allclose(made[i] / 255, drawn[0].detach(), rtol=0, atol=0.5001 / 255 + 1e-5)
    assert np.ptp(made, axis=0).max() > 20
    monkeypatch.setattr(reconstructions, "_BATCH_SIZE", 3)
    in_threes = reconstruct(model, WORDS, examples, 5, done.append)
    assert done == [7, 3, 3, 1] and np.abs(in_threes.astype(int) - made).max() <= 1
    assert (reconstruct(model, WORDS, examples, 6) != made).mean() > 0.1


def test_errors(model):
    class Small(Seven):
        def batch(self, rows):
            images, captions = super().batch(rows)
            return images[..., 1:], captions

    with pytest.raises(ValueError, match=r"of the model, \[C, H, W\] = \[2, 11, 14\], got \[2, 11, 13\]: "):
        reconstruct(model, WORDS, Small())
    with pytest.raises(CaptionError, match="unknown word"):
        reconstruct(model, WORDS, Seven("d"))
    released = AlignDRAW(model.config.replace(conventions="released"))
    with pytest.raises(ValueError, match="must read each caption by itself, got one of the released conventions"):
        reconstruct(released, WORDS, Seven())
