"""Retrieval: ranks against their definition, and the likelihood ratio against the model step by step."""

import math

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import Scenes, to_tensors
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.evaluation.bound import clipped
from aligndraw.evaluation.retrieval import (
    Likelihoods,
    Reference,
    Retrieval,
    encode_examples,
    mean_caption,
    read_shortlists,
    retrieve,
    shortlists,
)
from aligndraw.noise import stream

TINY = AlignDRAWConfig(
    image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY),
    steps=3, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4,
)  # fmt: skip
EXAMPLES = Scenes("test").epoch(0, size=12)
IMAGES, WORDS, LENGTHS = EXAMPLES.batch(slice(0, 6))
WORDS, LENGTHS = torch.from_numpy(WORDS), torch.from_numpy(LENGTHS)
CANDIDATES = np.array([[0, 3, 5], [1, 2, 0], [2, 4, 1], [3, 0, 1], [4, 5, 0], [5, 4, 3]])


def tiny(align):
    torch.manual_seed(0)
    model = AlignDRAW(TINY.replace(align=align)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("align", [True, False])
def test_the_bounds(align):
    """One image and one caption at a time, with the context s spelled out for ȳ, in float64."""
    model, samples = tiny(align), 2
    mean = mean_caption(model, EXAMPLES, batch_size=5)
    sentences = []
    for i in range(len(EXAMPLES)):
        _, words, lengths = to_tensors(EXAMPLES, slice(i, i + 1))
        h_lang, last = model.language(words, lengths)
        sentences.append(h_lang[0].mean(0) if align else last[0])
    average = torch.stack(sentences).mean(0)
    torch.testing.assert_close(mean.words[0, 0], average, rtol=1e-12, atol=1e-14)
    done = []
    likelihoods = Likelihoods(model, IMAGES, samples, seed=7, batch_size=8, on_batch=done.append)
    given = likelihoods.conditional(WORDS, LENGTHS, CANDIDATES)
    assert sum(done) == 18 and max(done) == 4
    usual = likelihoods.baseline(Reference(mean))
    assert sum(done) == 18 + 6
    marginal = likelihoods.baseline(Reference(encode_examples(model, EXAMPLES)), np.array([4, 1]))
    assert sum(done) == 18 + 6 + 2 * 12 and usual.shape == (6,) and marginal.shape == (2,)

    def loss(model, i, words):
        image = torch.from_numpy(IMAGES[i : i + 1]).double() / 255
        noise = torch.randn(samples, 3, 3, generator=stream(7, i), dtype=torch.float64)
        return model(image, words, noise=noise, samples=samples).loss.item()

    for j, row in enumerate(CANDIDATES):
        for k, i in enumerate(row):
            assert given[j, k].item() == pytest.approx(-loss(model, i, WORDS[j : j + 1, : LENGTHS[j]]), rel=1e-9)
    constant = tiny(False)  # sees s = the vector that it is given, at every step
    constant.load_state_dict(model.state_dict(), strict=False)
    constant.encode_captions = lambda *_: mean._replace(keys=None, words=average[None, None], sentence=average[None])
    for i in range(6):
        assert usual[i].item() == pytest.approx(-loss(constant, i, WORDS[:1]), rel=1e-9)
    _, words, lengths = to_tensors(EXAMPLES, slice(None))
    for got, i in zip(marginal, (4, 1)):
        each = [-loss(model, i, words[r : r + 1, : lengths[r]]) for r in range(12)]
        assert got.item() == pytest.approx(max(each) + math.log(sum(math.exp(v - max(each)) for v in each) / 12))


def test_after_sharpening():
    """Each caption's own sentence sharpens its likelihood, that of the reference the other; KLs are the same."""
    model, samples = tiny(False), 2
    mean = mean_caption(model, EXAMPLES)
    sentences, average = torch.linspace(0.1, 0.6, 6)[:, None], torch.tensor([[0.35]])

    def network(images, vectors):
        return images + vectors[:, :, None, None]

    likelihoods = Likelihoods(model, IMAGES, samples, seed=7, batch_size=6, sharpen=network, epsilon=1e-3)
    given = likelihoods.conditional(WORDS, LENGTHS, CANDIDATES, sentences)
    usual = likelihoods.baseline(Reference(mean, average))

    def bound(i, caption, shift):
        refine = clipped(lambda drawn: drawn + shift, 1e-3)
        image = torch.from_numpy(IMAGES[i : i + 1]).double() / 255
        return -model.bound(image, caption, None, [stream(7, i)], samples, refine).loss.item()

    for j, row in enumerate(CANDIDATES):
        caption = model.encode_captions(WORDS[j : j + 1], LENGTHS[j : j + 1])
        for k, i in enumerate(row):
            assert given[j, k].item() == pytest.approx(bound(i, caption, sentences[j]), rel=1e-9)
    for i in range(6):
        assert usual[i].item() == pytest.approx(bound(i, mean, average[0]), rel=1e-9)
    with pytest.raises(ValueError, match="sentences must be given"):
        likelihoods.conditional(WORDS, LENGTHS, CANDIDATES)


def test_no_dependence_on_batches():
    model = tiny(True)
    reference = Reference(encode_examples(model, EXAMPLES))
    one, other = (Likelihoods(model, IMAGES, batch_size=size) for size in (1, 100))
    for take in (lambda of: of.conditional(WORDS, LENGTHS, CANDIDATES), lambda of: of.baseline(reference)):
        torch.testing.assert_close(take(one), take(other), rtol=1e-9, atol=1e-9)


def test_refused():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        Likelihoods(tiny(True), IMAGES, batch_size=0)
    with pytest.raises(ValueError, match=r"candidates must be \[k, s\] for 6 captions, got \[5, 3\]"):
        Likelihoods(tiny(True), IMAGES).conditional(WORDS, LENGTHS, CANDIDATES[:5])


def test_chance_and_perfection():
    generator = torch.Generator().manual_seed(0)
    scores, true = torch.randn(4000, 100, generator=generator), torch.randint(100, (4000,), generator=generator)
    random = Retrieval.of(scores, true)
    for count in (1, 5, 10, 50):
        assert random.recall(count).mean == pytest.approx(count / 100, abs=4 * (0.25 / 4000) ** 0.5)
    assert 45 <= random.median_rank <= 55
    scores[torch.arange(4000), true] = 10
    perfect = Retrieval.of(scores, true)
    assert perfect.recall(1).mean == 1 and perfect.median_rank == 1
    assert "R@5 100.0 ± 0.0 (chance 5)" in str(perfect) and perfect.to_dict()["R@1"]["hits"] == 4000


def test_ties_count_against_the_model():
    scores = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
    found = Retrieval.of(scores, torch.tensor([0, 0, 1]))
    assert found.ranks.tolist() == [1, 0, 2]
    assert found.recall(1).hits == 1 and found.recall(5).hits == 3


def test_the_median_of_an_even_number():
    """Ranks 0, 1, 2, 5: the median 1.5 is cut to 1, and counted from 1."""
    assert Retrieval(torch.tensor([5, 0, 2, 1]), 6).median_rank == 2


def test_scores_that_are_no_numbers():
    with pytest.raises(ValueError, match="finite"):
        Retrieval.of(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]))


def test_retrieval_of_images_with_several_captions():
    """Each caption looks for its image in the shortlist of that image."""
    model = tiny(True)
    references = Reference(mean_caption(model, EXAMPLES)), Reference(encode_examples(model, EXAMPLES))
    lists = np.array([[0, 1, 2], [2, 1, 0], [1, 0, 2]])
    index = np.array([2, 0, 2, 1])
    likelihoods = Likelihoods(model, IMAGES[:3])
    found = retrieve(likelihoods, references, WORDS[:4], LENGTHS[:4], index, lists)
    given = likelihoods.conditional(WORDS[:4], LENGTHS[:4], np.array([[0, 1, 2]] * 4))
    for got, reference in zip(found, references):
        scores = given - likelihoods.baseline(reference)
        ranks = [(scores[j] > scores[j, i]).sum().item() for j, i in enumerate(index)]
        assert got.ranks.tolist() == ranks and got.candidates == 3
    images, *captions = EXAMPLES.batch(slice(None))
    mean, marginal = retrieve(Likelihoods(model, images), references, *map(torch.from_numpy, captions))
    assert mean.candidates == 12 and mean.ranks.tolist() != marginal.ranks.tolist()


def test_shortlists():
    """Itself first, then by distance; equal images do not push each other out."""
    features = np.array([[0.0, 0], [3, 4], [0, 1], [0, 0], [0, 0]])
    assert shortlists(features, 3).tolist() == [[0, 3, 4], [1, 2, 0], [2, 0, 3], [3, 0, 4], [4, 0, 3]]
    assert shortlists(features, 2).tolist() == [[0, 3], [1, 2], [2, 0], [3, 0], [4, 0]]
    with pytest.raises(ValueError, match="size 6"):
        shortlists(features, 6)
    features[1, 0] = np.nan
    with pytest.raises(ValueError, match="features must be finite numbers"):
        shortlists(features, 3)


def test_shortlists_from_a_file(tmp_path):
    path = tmp_path / "lists.npy"
    np.save(path, np.array([[0, 1], [0, 1]], np.int32))
    assert read_shortlists(path, 2).tolist() == [[0, 1], [0, 1]]
    for wrong, message in (
        (np.zeros((2, 2)), "whole numbers"),
        (np.array([[0, 2], [1, 0]]), "positions from 0 to 1, got 0 to 2"),
        (np.array([[0, 1], [0, 0]]), "image 1 in row 1"),
        (np.array([[0, 0], [0, 1]]), "image 0 in row 0, and none twice"),
        (np.array([{}, {}], dtype=object), "is no .npy file of whole numbers"),
    ):
        np.save(path, wrong, allow_pickle=True)
        with pytest.raises(ValueError, match=message):
            read_shortlists(path, 2)


def test_the_released_conventions_are_refused():
    model = AlignDRAW(TINY.replace(conventions="released"))
    with pytest.raises(ValueError, match="paper's conventions"):
        mean_caption(model, EXAMPLES)
    with pytest.raises(ValueError, match="paper's conventions"):
        Likelihoods(model, IMAGES)
