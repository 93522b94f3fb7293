"""Mirrored pictures and dropped words."""

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import CaptionedWriter, Resident, Scenes
from aligndraw.data.augmentation import AugmentedSource
from aligndraw.training import Trainer

CAPTIONS = ["a dog runs in the snow .", "the Right-hand dog", "A cat on the left .", "a cat upright"]


@pytest.fixture
def source(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 7), np.uint8)
    with CaptionedWriter(tmp_path / "data", (3, 5, 7), {}) as writer:
        writer.store("train", list("abcd"), images)
        return writer.finish({"train": list(zip("abcd", CAPTIONS))}).split("train")


def test_pictures_are_mirrored_where_the_caption_allows(source):
    plain, changed = source.epoch(3, 1, 400), AugmentedSource(source, flip=True).epoch(3, 1, 400)
    before, words, lengths = plain.batch(slice(0, 400))
    after, same_words, same_lengths = changed.batch(slice(0, 400))
    assert np.array_equal(words, same_words) and np.array_equal(lengths, same_lengths)
    assert changed.captions() == plain.captions() and len(changed) == 400
    mirrored = np.array([not np.array_equal(a, b) for a, b in zip(before, after)])
    assert np.array_equal(after[mirrored], before[mirrored][..., ::-1])
    sided = np.array([caption in CAPTIONS[1:3] for caption in plain.captions()])
    assert not mirrored[sided].any() and 70 < mirrored[~sided].sum() < 130


def test_pictures_are_shifted(source):
    """By each number of pixels up to the limit, both ways; the pixels of the edge fill the gap."""
    plain, changed = source.epoch(3, 1, 400), AugmentedSource(source, shift=2).epoch(3, 1, 400)
    before, after = plain.batch(slice(0, 400))[0], changed.batch(slice(0, 400))[0]
    wide = np.pad(before, ((0, 0), (0, 0), (2, 2), (2, 2)), "edge")
    found = np.zeros((5, 5), int)
    for padded, picture in zip(wide, after):
        same = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[:, y : y + 5, x : x + 7], picture)]
        assert len(same) == 1
        found[same[0]] += 1
    assert found.min() > 2 and found.max() < 40


def test_words_are_dropped(source):
    plain, changed = source.epoch(3, 1, 400), AugmentedSource(source, word_dropout=0.25).epoch(3, 1, 400)
    before, words, lengths = plain.batch(slice(0, 400))
    after, others, same_lengths = changed.batch(slice(0, 400))
    assert np.array_equal(before, after) and np.array_equal(lengths, same_lengths)
    dropped = words != others
    assert (others[dropped] == source.vocabulary.index("[UNK]")).all()
    there = np.arange(words.shape[1]) < lengths[:, None]
    assert not dropped[~there].any() and 0.2 < dropped[there].mean() < 0.3


def test_a_change_depends_on_the_example_alone(source):
    def part(epoch, index):
        return AugmentedSource(source, flip=True, shift=2, word_dropout=0.5).epoch(3, epoch, 40).batch(index)

    whole, later = part(1, slice(0, 40)), part(2, slice(0, 40))
    pieces = [part(1, slice(i, i + 8)) for i in range(0, 40, 8)]
    assert np.array_equal(whole[0], np.concatenate([pictures for pictures, _, _ in pieces]))
    for i, (_, words, lengths) in enumerate(pieces):
        assert np.array_equal(words, whole[1][8 * i : 8 * i + 8, : words.shape[1]]) and len(lengths) == 8
    assert not np.array_equal(whole[0], later[0])


def test_a_device_composes_the_same_pictures(source):
    examples = AugmentedSource(source, flip=True, shift=2, word_dropout=0.5).epoch(0, 0, 40)
    assert isinstance(examples, Resident)
    pictures, words, lengths = examples.batch(slice(4, 30))
    parts = [torch.from_numpy(part) for part in examples.parts(slice(4, 30))]
    composed = examples.compose(torch.from_numpy(np.array(examples.images)), *parts)
    assert np.array_equal(composed.numpy(), pictures)
    assert all(map(np.array_equal, examples.texts(slice(4, 30)), (words, lengths)))


def test_a_trainer_changes_its_examples(source):
    """And goes on after a stop with the same ones."""
    torch.manual_seed(0)
    config = AlignDRAWConfig(
        image_size=(5, 7), channels=3, steps=1, encoder_units=2, decoder_units=2, latent_units=2, language_units=2,
        align_units=2, vocabulary_size=len(source.vocabulary),
    )  # fmt: skip
    recipe = TrainingConfig(epoch_size=8, batch_size=4, flip=True, shift=2, word_dropout=0.5)
    trainer = Trainer(AlignDRAW(config), source, recipe)
    assert trainer.source.vocabulary == source.vocabulary
    images, words = trainer._batch(1)[:2]
    wanted = AugmentedSource(source, flip=True, shift=2, word_dropout=0.5).epoch(0, 0, 8).batch(slice(4, 8))
    with pytest.raises(ValueError, match="word_dropout must be 0 for a model of sentence vectors, got 0.5"):
        Trainer(AlignDRAW(config.replace(align=False, sentence_units=3)), source, recipe)
    assert np.array_equal((255 * images).round().numpy(), wanted[0]) and np.array_equal(words.numpy(), wanted[1])


@pytest.mark.parametrize("share", [0.25, 0.7])
def test_words_are_left_out_where_none_stands_for_them(share):
    source = Scenes()
    plain, changed = source.epoch(3, 1, 400), AugmentedSource(source, word_dropout=share).epoch(3, 1, 400)
    _, words, lengths = plain.batch(slice(0, 400))
    _, fewer, left = changed.batch(slice(0, 400))
    lost = 0
    for caption, told, before, after in zip(words, fewer, lengths, left):
        rest = iter(caption[:before])
        assert all(word in rest for word in told[:after]) and not told[after:].any()  # in their order
        assert after > 1 or told[0] in caption[:before]
        lost += before - after
    assert left.min() >= 1 and abs(lost / lengths.sum() - share) < 0.03
