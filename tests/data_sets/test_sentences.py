"""Examples whose captions are vectors: those of the captions' text, made together whatever came before."""

import numpy as np
import pytest
import torch

from aligndraw.data import MNISTCaptions, Scenes, SentenceReader, all_captions, load_digits, sentences, to_tensors


class Encoder:
    """Length and first letter of a caption, and how many were read together with it."""

    units = 3

    def __init__(self):
        self.calls = []

    def encode(self, captions):
        self.calls.append(list(captions))
        return torch.tensor([[len(c), ord(c[0]), len(captions)] for c in captions], dtype=torch.float32)


def vectors_of(examples, *slices):
    return [torch.from_numpy(examples.batch(index)[1]) for index in slices]


def test_pictures_with_vectors():
    encoder, examples = Encoder(), Scenes().epoch(0, size=6)
    read = SentenceReader(encoder).examples(examples)
    images, vectors, lengths = to_tensors(read, slice(1, 4))
    assert torch.equal(images, to_tensors(examples, slice(1, 4))[0]) and lengths.tolist() == [1, 1, 1]
    assert vectors.dtype == torch.float32 and vectors[:, 0].tolist() == [len(c) for c in examples.captions()[1:4]]
    assert len(read) == 6 and read.captions(slice(2)) == examples.captions()[:2]
    assert SentenceReader(encoder).encode_batch(["ab", "c"])[0].tolist() == [[2, 97, 2], [1, 99, 2]]


def test_the_same_bits_from_any_start(monkeypatch):
    """Of an epoch of scenes, in blocks of its order: a batch's vectors do not depend on the batches before it."""
    monkeypatch.setattr(sentences, "BLOCK", 4)
    first, later = (SentenceReader(Encoder()).source(Scenes()).epoch(0, 1, 11) for _ in range(2))
    through = vectors_of(first, slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 11))
    assert torch.equal(torch.cat(through[2:]), torch.cat(vectors_of(later, slice(6, 9), slice(9, 11))))
    assert {int(v) for v in torch.cat(through)[:, 2]} == {4, 3}


def test_a_small_set_is_read_once(monkeypatch):
    """Captions that can be listed, each once for all epochs, in blocks of that list."""
    monkeypatch.setattr(sentences, "BLOCK", 32)
    encoder, source = Encoder(), MNISTCaptions(load_digits())
    read = SentenceReader(encoder).source(source)
    for epoch in range(2):
        examples = read.epoch(0, epoch, 300)
        (vectors,) = vectors_of(examples, slice(0, 300))
        assert vectors[:, 0].tolist() == [len(c) for c in examples.captions()]
    done = [caption for call in encoder.calls for caption in call]
    assert len(done) == len(set(done)) and read.vocabulary == source.vocabulary
    listed = all_captions("seen")
    assert sorted(encoder.calls) == sorted(listed[i : i + 32] for i in range(0, len(listed), 32))


def test_memory(monkeypatch):
    """What does not fit is forgotten, the oldest first, and made again to the same bits."""
    monkeypatch.setattr(sentences, "BLOCK", 4)
    monkeypatch.setattr(sentences, "CACHE_BYTES", 2 * 4 * 3 * 4)
    encoder = Encoder()
    source = MNISTCaptions(load_digits())
    read = SentenceReader(encoder).source(source)  # more captions than fit: those of an epoch instead
    examples = read.epoch(0, 0, 12)
    assert np.array_equal(examples.batch(slice(0, 12))[1], examples.batch(slice(0, 12))[1])
    assert len(encoder.calls) > -(-len(set(examples.captions())) // 4)
    assert set().union(*encoder.calls) == set(examples.captions())


@pytest.mark.parametrize("source", [Scenes(), MNISTCaptions(load_digits())])
def test_all_captions(source):
    """Every caption that an epoch has is among those listed, if any are."""
    listed = source.all_captions()
    assert listed is None or set(source.epoch(3, size=500).captions()) <= set(listed)
    examples = source.epoch(0, size=20)
    assert examples.captions(slice(5, 9)) == examples.captions()[5:9]
