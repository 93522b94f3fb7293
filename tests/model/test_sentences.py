"""skipthoughtDRAW, and what noalignDRAW and alignDRAW have in common with it."""

import pytest
import torch

from aligndraw import use_backend
from aligndraw.backends import missing_reason
from aligndraw.model.interface import Caption


def matching(tiny, model, **changes):
    """A model of other captions with the parameters of `model` that both have."""
    other = tiny(**changes)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k in other.state_dict()}, strict=False)
    return other


def test_noalign_with_its_sentence_given(tiny, batch):
    """The same numbers come out when the vector comes from outside; so it does of pictures."""
    images, words, lengths = batch
    model = tiny(align=False)
    given = matching(tiny, model, align=False, sentence_units=12)
    assert given.language is None and given.align is None and not given.attends
    sentence = model.encode_captions(words, lengths).sentence.detach()
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    got, wanted = given(images, sentence, noise=noise), model(images, words, lengths, noise=noise)
    for name in ("kl_steps", "nll", "log_weight"):
        torch.testing.assert_close(getattr(got, name), getattr(wanted, name), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        given.sample(sentence, noise=noise).images, model.sample(words, lengths, noise=noise).images
    )
    assert given.sample(sentence, noise=noise).weights is None


@pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++")
def test_all_steps_as_one_op(tiny, batch):
    images, _, _ = batch
    model = tiny(align=False, sentence_units=9)
    vectors = torch.randn(3, 9, dtype=torch.float64)
    assert model.execution_mode() == "all steps as one op" and model.fallback_reason("unroll_prior") == ""
    fused = model(images, vectors, generator=0)
    fused.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with use_backend("reference"):
        assert "step by step" in model.execution_mode()
        plain = model(images, vectors, generator=0)
        plain.loss.backward()
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-10, atol=0)
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-8, atol=1e-10, msg=name)


def test_uniform_attention_is_the_mean_of_the_words(tiny, batch):
    """alignDRAW whose score v is 0 is noalignDRAW on the mean of h_lang."""
    images, words, lengths = batch
    model = tiny()
    with torch.no_grad():
        model.align.score.zero_()
    constant = matching(tiny, model, align=False, sentence_units=12)
    caption = model.encode_captions(words, lengths)
    mean = torch.stack([h[:n].mean(0) for h, n in zip(caption.words, lengths.tolist())])
    torch.testing.assert_close(caption.mean_words(), mean)
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    got, wanted = constant(images, mean, noise=noise), model(images, words, lengths, noise=noise)
    torch.testing.assert_close(got.kl_steps, wanted.kl_steps, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got.nll, wanted.nll, rtol=1e-10, atol=0)
    uniform = model.sample(words, lengths, noise=noise).weights[:, 0]
    torch.testing.assert_close(uniform.sum(1), torch.ones(3).double())
    assert uniform[1, :3].tolist() == pytest.approx([1 / 3] * 3) and (uniform[1, 3:] == 0).all()


def test_a_vector_in_place_of_words(tiny):
    """As a caption of one word, to which all attention goes."""
    model, vector = tiny(), torch.randn(2, 12, dtype=torch.float64)
    caption = model.caption_from_vectors(vector)
    assert isinstance(caption, Caption) and caption.lengths.tolist() == [1, 1]
    context, weights = model.align(torch.randn(2, 10).double(), caption.keys, caption.words, caption.lengths)
    torch.testing.assert_close(context, vector)
    assert weights.tolist() == [[1], [1]]


def test_refused(tiny):
    with pytest.raises(ValueError, match="align must be false for vectors of sentences"):
        tiny(sentence_units=3)
    with pytest.raises(ValueError, match="sentence_units must be a whole number of at least 0, got -1"):
        tiny(align=False, sentence_units=-1)
    with pytest.raises(ValueError, match="sentences must be text, got 3"):
        tiny(align=False, sentences=3)
    with pytest.raises(ValueError, match=r"vectors of sentences, floating point \[B, 3\], got float32 \[2, 4\]"):
        tiny(align=False, sentence_units=3).encode_captions(torch.randn(2, 4))
