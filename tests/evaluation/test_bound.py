"""The scored bound, against the model's own numbers taken one image at a time."""

import math

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import evaluation_scenes, evaluation_sets, load_digits, to_tensors
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.evaluation.bound import Estimate, estimate_bound
from aligndraw.noise import stream

TINY = AlignDRAWConfig(steps=3, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = AlignDRAW(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def examples():
    return evaluation_sets(load_digits(), "test", size=9)["seen"]


def test_one_image_at_a_time(model, examples):
    """Each image gets the noise of its own stream, so that the batch size does not matter."""
    done = []
    report = estimate_bound(model, examples, samples=4, seed=3, batch_size=4, on_batch=done.append)
    assert done == [4, 4, 1]
    rows = []
    for i in range(9):
        image, caption, _ = to_tensors(examples, slice(i, i + 1))
        noise = torch.randn(4, 3, 3, generator=stream(3, i))
        ones = [model(image, caption, noise=n[None]) for n in noise]
        weights = [math.exp(o.log_weight.item() + 2000) for o in ones]
        rows.append(
            (
                sum(o.kl.item() for o in ones) / 4,
                sum(o.nll.item() for o in ones) / 4,
                2000 - math.log(sum(weights) / 4),
                torch.stack([o.kl_steps[0] for o in ones]).mean(0),
            )
        )
    for name, column in (("kl", 0), ("nll", 1), ("importance", 2)):
        assert getattr(report, name).mean == pytest.approx(sum(r[column] for r in rows) / 9, rel=1e-5)
    assert report.bound.mean == pytest.approx(report.kl.mean + report.nll.mean)
    assert report.kl_steps == pytest.approx(torch.stack([r[3] for r in rows]).mean(0).tolist(), rel=1e-4)


def test_captions_of_different_lengths():
    """The bound of an image does not depend on the captions that its own is padded with."""
    torch.manual_seed(0)
    model = AlignDRAW(TINY.replace(image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    examples = evaluation_scenes(size=7)["seen"]
    assert len(set(examples.batch(slice(None))[2].tolist())) > 1
    alone, together = (estimate_bound(model, examples, batch_size=n) for n in (1, 7))
    assert alone.bound.mean == pytest.approx(together.bound.mean, rel=1e-6)
    assert alone.kl.mean == pytest.approx(together.kl.mean, rel=1e-5)


def brighter(captions, images):
    """A sharpener that looks at the captions, and makes pixels of 0 and of 1."""
    shift = torch.tensor([0.4 if "right" in caption.split() else -0.3 for caption in captions])
    return (images + shift[:, None, None, None]).clamp(0, 1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_after_sharpening(model, examples, likelihood):
    """The likelihood of the sharpened picture, clipped; the KL is that of the same latents."""
    other = AlignDRAW(TINY.replace(likelihood=likelihood, observation_variance=0.5))
    other.load_state_dict(model.state_dict())
    epsilon, options = 1e-4, {"samples": 3, "seed": 3, "batch_size": 4}
    report = estimate_bound(other, examples, **options, sharpen=brighter, epsilon=epsilon)
    plain = estimate_bound(other, examples, **options)
    assert report.kl == plain.kl and report.kl_steps == plain.kl_steps and report.nll != plain.nll
    nlls, captions, canvases = [], examples.captions(), []
    other._nll = lambda canvas, images, refine: canvases.append(canvas) or torch.zeros(len(canvas))
    for i in range(9):
        image, words, _ = to_tensors(examples, slice(i, i + 1))
        other(image, words, generator=[stream(3, i)], samples=3)
        mean = brighter([captions[i]] * 3, canvases.pop().sigmoid()).double().clamp(epsilon, 1 - epsilon)
        if likelihood == "bernoulli":
            terms = -(image * mean.log() + (1 - image) * (1 - mean).log())
        else:
            terms = (image - mean) ** 2 / (2 * 0.5) + math.log(2 * math.pi * 0.5) / 2
        assert mean.min() == epsilon or mean.max() == 1 - epsilon
        nlls.append(terms.sum((1, 2, 3)).mean().item())
    assert {"right" in caption.split() for caption in captions} == {True, False}
    assert report.nll.mean == pytest.approx(sum(nlls) / 9, rel=1e-5)


def test_more_samples_tighten_the_importance_weighted_bound(model, examples):
    """In expectation: over 200 samples an image, the bound of groups of 8 is below that of single ones."""
    singles = [estimate_bound(model, examples, 1, seed).importance.mean for seed in range(200)]
    groups = [estimate_bound(model, examples, 8, 1000 + seed).importance.mean for seed in range(25)]
    assert sum(groups) / 25 < sum(singles) / 200


def test_standard_error():
    values = torch.tensor([1.0, 2.0, 4.0, 9.0])
    estimate = Estimate.of(values)
    assert estimate.mean == 4.0
    assert estimate.error == pytest.approx(values.std().item() / 2)
    assert str(estimate) == "4.00 ± 1.78"
    assert estimate.to_dict() == {"mean": 4.0, "error": estimate.error}
    assert Estimate.of(values[:1]).to_dict() == {"mean": 1.0, "error": None}  # JSON has nothing else for it


def test_errors(model, examples):
    with pytest.raises(ValueError, match="samples must be a whole number of at least 1, got 0"):
        estimate_bound(model, examples, samples=0)
    with pytest.raises(ValueError, match="epsilon must be above 0 and below 0.5, got 0"):
        estimate_bound(model, examples, sharpen=brighter, epsilon=0)
