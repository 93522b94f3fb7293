"""The variational auto-encoders: their bound against one written out, their gradients, shapes and folders."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional

from aligndraw.config import ConvolutionalVAEConfig, FullyConnectedVAEConfig
from aligndraw.model import build_model
from aligndraw.model.saved import load_model, save_model
from aligndraw.noise import stream
from aligndraw.text import Vocabulary

SIZES = {"image_size": (9, 6), "channels": 2, "latent_units": 5, "language_units": 3, "vocabulary_size": 12}
CONFIGS = {
    "fc-vae": FullyConnectedVAEConfig(hidden_units=7, **SIZES),
    "conv-vae": ConvolutionalVAEConfig(hidden_channels=2, **SIZES),
}


def make(kind, **changes):
    torch.manual_seed(0)
    model = build_model(CONFIGS[kind].replace(**changes)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.fixture
def images():
    return torch.rand(3, 2, 9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


WORDS, LENGTHS = torch.tensor([[1, 2, 3], [4, 5, 0], [11, 0, 0]]), torch.tensor([3, 2, 1])


def posterior(model, images, s):
    """μ, σ by the weights alone."""
    w = model.state_dict()
    if model.config.KIND == "fc-vae":
        h = torch.cat([images.flatten(1), s], 1)
        for i in (0, 2):
            h = functional.linear(h, w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"]).clamp(min=0)
    else:
        plane = functional.linear(s, w["plane.weight"], w["plane.bias"]).clamp(min=0)
        h = torch.cat([images, plane.view(len(s), 1, 9, 6)], 1)
        for i in range(3):
            h = functional.conv2d(h, w[f"convolutions.{i}.weight"], w[f"convolutions.{i}.bias"], 2, 2).clamp(min=0)
        assert h.shape == (len(s), 8, 2, 1)
        h = h.flatten(1)
    mu, log_variance = (
        functional.linear(h, w[f"posterior.{name}.weight"], w[f"posterior.{name}.bias"])
        for name in ("mu", "log_variance")
    )
    return mu, (log_variance / 2).exp()


def mean(model, z, s):
    """The mean of the pixels by the weights alone."""
    w, h = model.state_dict(), torch.cat([z, s], 1)
    if model.config.KIND == "fc-vae":
        for i in (0, 2):
            h = functional.linear(h, w[f"decoder.{i}.weight"], w[f"decoder.{i}.bias"]).clamp(min=0)
        h = (h @ w["write.weight"].T).view(-1, 2, 9, 6)
    else:
        h = functional.linear(h, w["inner.weight"], w["inner.bias"]).clamp(min=0).view(-1, 8, 2, 1)
        for i, size in enumerate([(3, 2), (5, 3), (9, 6)]):
            # A transposed convolution is the gradient of a convolution.
            kernel = w[f"deconvolutions.{i}.weight"]
            shape = (len(h), kernel.shape[1], *size)
            h = torch.nn.grad.conv2d_input(shape, kernel, h, 2, 2)
            if i < 2:
                h = (h + w[f"deconvolutions.{i}.bias"][:, None, None]).clamp(min=0)
    return (h + w["canvas"]).sigmoid()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("samples", [1, 3])
def test_the_bound(kind, samples, images):
    """KL and likelihood from torch's distributions, σ² = 1 with its constant; the importance-weighted bound too."""
    model = make(kind)
    noise = torch.randn(3 * samples, 1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = model(images, WORDS, LENGTHS, noise=noise, samples=samples)
    with torch.no_grad():
        for i in range(3):
            s = model.language(WORDS[i : i + 1, : LENGTHS[i]], LENGTHS[i : i + 1])[1]
            q = Normal(*posterior(model, images[i : i + 1], s))
            epsilon = noise[i * samples : (i + 1) * samples, 0]
            z = q.mean + q.stddev * epsilon
            x = Independent(Normal(mean(model, z, s.expand(samples, -1)), 1.0), 3)
            prior = Normal(torch.zeros(5).double(), 1.0)
            log_likelihood = x.log_prob(images[i])
            kl = kl_divergence(q, prior).sum()
            weight = log_likelihood + (prior.log_prob(z) - q.log_prob(z)).sum(1)
            assert got.nll[i].item() == pytest.approx(-log_likelihood.mean().item(), rel=1e-12)
            assert got.kl[i].item() == pytest.approx(kl.item(), rel=1e-12)
            wanted = (weight.logsumexp(0) - math.log(samples)).item()
            assert got.log_weight[i].item() == pytest.approx(wanted, rel=1e-12)
    assert got.kl_steps.shape == (3, 1) and torch.equal(got.kl_steps.sum(1), got.kl)


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients(kind, images):
    """Every parameter takes part, and its gradient is what a small step changes."""
    model = make(kind)
    noise = torch.randn(3, 1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss():
        return model(images, WORDS, LENGTHS, noise=noise).loss

    loss().backward()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        slope = (parameter.grad * direction).sum().item()
        assert slope != 0, name
        with torch.no_grad():
            parameter += 1e-6 * direction
            above = loss()
            parameter -= 2e-6 * direction
            below = loss()
            parameter += 1e-6 * direction
        assert (above - below).item() / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_pictures(kind):
    """The mean under a latent from the prior; nothing of steps."""
    model = make(kind)
    drawing = model.sample(WORDS, LENGTHS, generator=7, temperature=0.5)
    with torch.no_grad():
        s = model.language(WORDS, LENGTHS)[1]
        z = torch.stack([torch.randn(1, 5, dtype=torch.float64, generator=stream(7, i))[0] for i in range(3)])
        torch.testing.assert_close(drawing.images, mean(model, z / 2, s), rtol=1e-12, atol=1e-14)
    assert (drawing.windows, drawing.patches, drawing.weights) == (None, None, None) and not model.attends
    with pytest.raises(ValueError, match="draw in steps for there to be canvases"):
        _ = drawing.canvases
    with pytest.raises(ValueError, match="steps must be 1 for a model that does not draw in steps, got 4"):
        model.sample(WORDS, LENGTHS, steps=4)
    with pytest.raises(ValueError, match=r"noise must have shape \[B, T, z\] = \[3, T, 5\], got \[3, 1, 4\]"):
        model.sample(WORDS, LENGTHS, noise=torch.zeros(3, 1, 4).double())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("size", [(1, 1), (8, 16), (7, 32), (60, 60)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(kind, size, channels):
    model = make(kind, image_size=size, channels=channels).float()
    images = torch.rand(2, channels, *size)
    bound = model(images, WORDS[:2], LENGTHS[:2], generator=0)
    bound.loss.backward()
    assert bound.nll.isfinite().all()
    assert model.sample(WORDS[:2], LENGTHS[:2]).images.shape == images.shape


@pytest.mark.parametrize("kind", CONFIGS)
def test_vectors_of_sentences(kind, images):
    """No language model; the vector is the sentence."""
    model, read = make(kind, sentence_units=6), make(kind)
    assert model.language is None
    left = read.load_state_dict(model.state_dict(), strict=False)
    assert left.unexpected_keys == [] and all(name.startswith("language.") for name in left.missing_keys)
    vectors = read.encode_captions(WORDS, LENGTHS).sentence.detach()
    got, wanted = model(images, vectors, generator=1), read(images, WORDS, LENGTHS, generator=1)
    torch.testing.assert_close(got.loss, wanted.loss, rtol=1e-12, atol=0)
    for wrong, told in ((vectors[:, :5], r"float64 \[3, 5\]"), (WORDS, r"int64 \[3, 3\]")):
        with pytest.raises(ValueError, match=r"vectors of sentences, floating point \[B, 6\], got " + told):
            model(images, wrong)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder(kind, images, tmp_path):
    model = make(kind).float()
    words = Vocabulary(tuple("abcdefghijkl"))
    save_model(model, words, tmp_path, notes={"updates": 7})
    loaded, vocabulary, notes = load_model(tmp_path)
    assert loaded.config == model.config and vocabulary == words and notes == {"updates": 7}
    before, after = (m(images, WORDS, LENGTHS, generator=0).loss for m in (model, loaded))
    assert torch.equal(before, after)


@pytest.mark.parametrize("kind", CONFIGS)
def test_fresh_parameters(kind):
    """N(0, 0.01²), or signals that neither die nor grow through the ReLUs."""
    torch.manual_seed(0)
    model = build_model(CONFIGS[kind].replace(image_size=(32, 32)))
    weights = torch.cat([p.flatten() for n, p in model.named_parameters() if n != "canvas"])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05) and (model.canvas == 0).all()
    model.reset_parameters("fan_in")
    first = model.encoder[0] if kind == "fc-vae" else model.inner
    assert first.weight.std().item() == pytest.approx((2 / first.in_features) ** 0.5, rel=0.15)
    assert (first.bias == 0).all()


def test_a_configuration_of_another_kind():
    with pytest.raises(ValueError, match="FullyConnectedVAEConfig is of kind 'fc-vae', got 'conv-vae'"):
        FullyConnectedVAEConfig.from_dict(CONFIGS["conv-vae"].to_dict())
    with pytest.raises(TypeError, match="must be of a model, got int"):
        build_model(3)
