"""Derivatives of whole models under torch.func and in forward mode, which were 0 or refused."""

import pytest
import torch
from torch.func import functional_call, grad, jvp, vmap

import aligndraw
from aligndraw.config import ConvolutionalVAEConfig, FullyConnectedVAEConfig, RefinedConfig
from aligndraw.model import build_model
from aligndraw.model.refined import _Clip
from aligndraw.nn import LSTMCell

SMALL = {"image_size": (9, 7), "channels": 2, "language_units": 6, "vocabulary_size": 12}
KINDS = ["one op", "step by step", "noalign", "refined", "fully connected", "convolutional"]


@pytest.fixture(params=KINDS)
def model(request, tiny):
    torch.manual_seed(0)
    model = {
        "one op": tiny,
        "step by step": tiny,
        "noalign": lambda: tiny(align=False),
        "refined": lambda: build_model(RefinedConfig(**vars(tiny(image_size=(9, 10)).config), hidden_channels=4)),
        "fully connected": lambda: build_model(FullyConnectedVAEConfig(hidden_units=8, latent_units=5, **SMALL)),
        "convolutional": lambda: build_model(ConvolutionalVAEConfig(hidden_channels=2, latent_units=5, **SMALL)),
    }[request.param]().double()
    if request.param == "step by step":
        model.prior.register_forward_hook(lambda *_: None)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    return model


@pytest.fixture
def inputs(model, batch):
    torch.manual_seed(2)
    images = torch.rand(3, 2, *model.config.image_size, dtype=torch.float64)
    return images, *batch[1:], torch.randn(3, model.config.steps, model.config.latent_units, dtype=torch.float64)


def direction(tensor):
    return torch.arange(tensor.numel()).cos().reshape(tensor.shape).to(tensor.dtype)


def test_forward_mode_with_frozen_parameters(model, inputs):
    images, captions, lengths, noise = inputs
    model.requires_grad_(False)

    def loss(images, noise):
        bound = model(images, captions, lengths, noise=noise)
        return bound.loss + bound.log_weight.sum()

    leaves = images.requires_grad_(), noise.requires_grad_()
    truth = sum((g * direction(g)).sum() for g in torch.autograd.grad(loss(*leaves), leaves))
    at = tuple(t.detach() for t in leaves)
    _, found = jvp(loss, at, tuple(map(direction, at)))
    assert truth != 0
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=0)


def test_forward_mode_through_a_picture(model, inputs):
    """`sample` records no gradient, but forward mode goes through it."""
    _, captions, lengths, noise = inputs

    def picture(noise, **parameters):
        return functional_call(model, parameters, (captions, lengths), {"noise": noise})

    drawn = model.sample(captions, lengths, noise=noise)
    assert not (drawn.canvases if drawn.windows is not None else drawn.images).requires_grad
    model.forward = type(model).sample.__get__(model)
    tangents = {name: direction(p) for name, p in model.named_parameters()}
    values = {name: p.detach() for name, p in model.named_parameters()}
    _, (slope, canvases) = jvp(
        lambda n, p: (lambda d: (d.images, d.canvases if d.windows is not None else d.images))(picture(n, **p)),
        (noise, values),
        (direction(noise), tangents),
    )

    def moved(by):
        there = picture(noise + by * direction(noise), **{n: p + by * tangents[n] for n, p in values.items()})
        return there.images, there.canvases if there.windows is not None else there.images

    ahead, behind = moved(1e-7), moved(-1e-7)
    for found, high, low in zip((slope, canvases), ahead, behind):
        assert found.abs().max() > 1e-3
        torch.testing.assert_close(found, (high - low) / 2e-7, rtol=1e-5, atol=1e-6)


def test_gradient_of_each_example(model, inputs):
    images, captions, lengths, noise = inputs
    values = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, *example):
        image, caption, length, epsilon = (t[None] for t in example)
        return functional_call(model, parameters, (image, caption, length), {"noise": epsilon}).loss

    found = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))(values, images, captions, lengths, noise)
    for i in range(3):
        model.zero_grad()
        model(images[i : i + 1], captions[i : i + 1], lengths[i : i + 1], noise=noise[i : i + 1]).loss.backward()
        for name, parameter in model.named_parameters():
            truth = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found[name][i], truth, rtol=1e-8, atol=1e-10)


def test_values_are_checked_of_every_example(tiny, batch):
    model, (images, captions, lengths) = tiny(), batch

    def loss(image, caption, length):
        return model(image[None], caption[None], length[None], noise=torch.zeros(1, 4, 5, dtype=torch.float64)).loss

    for wrong, message in (((images - 1, captions, lengths), "images must lie in"),
                           ((images, captions + 12, lengths), "captions must hold word ids"),
                           ((images, captions, lengths + 9), "lengths must be from 1 to N = 6")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            vmap(loss)(*wrong)


@pytest.mark.parametrize("backend", ["reference", None])
def test_forward_mode_of_a_cell(backend):
    torch.manual_seed(0)
    cell = LSTMCell(4, 3).double()
    x, h, c = torch.randn(2, 4).double(), torch.randn(2, 3).double(), torch.randn(2, 3).double()

    def step(*inputs):
        return cell(inputs[0], inputs[1:])[0].square().sum()

    leaves = tuple(t.requires_grad_() for t in (x, h, c))
    truth = sum((g * direction(g)).sum() for g in torch.autograd.grad(step(*leaves), leaves))
    at = tuple(t.detach() for t in leaves)
    if backend is None:
        found = jvp(step, at, tuple(map(direction, at)))[1]
    else:
        with aligndraw.use_backend(backend):
            found = jvp(step, at, tuple(map(direction, at)))[1]
    assert truth != 0
    torch.testing.assert_close(found, truth)


def test_the_gradient_of_a_picture(tiny, batch):
    """`draw` gave pictures without gradients where all steps are one op."""
    _, captions, lengths = batch
    noise = torch.ones(3, 4, 5, dtype=torch.float64)
    found = []
    for hooked in (False, True):
        model = tiny()
        if hooked:
            model.prior.register_forward_hook(lambda *_: None)
        drawing = model.draw(model.encode_captions(captions, lengths), noise)
        (drawing.canvases.sin().sum() + drawing.images.sum()).backward()
        found.append([0.0 if p.grad is None else p.grad.sum().item() for p in model.parameters()])
    assert sum(g != 0 for g in found[0]) > 10
    assert found[0] == pytest.approx(found[1], rel=1e-9, abs=1e-12)


def test_forward_mode_of_clipped_pixels():
    """A pixel that is clipped does not move, whatever its gradient would be."""
    x = torch.tensor([-0.5, 0.5, 1.5])
    found = jvp(lambda x: _Clip.apply(x, 0.1), (x,), (torch.ones(3),))[1]
    assert found.tolist() == [0, 1, 0]
