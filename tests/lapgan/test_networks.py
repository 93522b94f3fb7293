"""Generators and discriminators: layers, the order of their inputs, errors."""

import pytest
import torch

from aligndraw.lapgan.config import AdversarialConfig, LAPGANConfig, SharpenerConfig, SharpeningConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator, TopDiscriminator
from aligndraw.lapgan.generator import ResidualGenerator, TopGenerator


def shapes(network):
    return {name: list(parameter.shape) for name, parameter in network.named_parameters()}


def test_the_papers_sharpener():
    network = shapes(ResidualGenerator(SharpenerConfig()))
    assert network == {
        "sentence.0.weight": [1024, 4800],
        "sentence.0.bias": [1024],
        "convolutions.0.weight": [128, 5, 7, 7],
        "convolutions.0.bias": [128],
        "convolutions.2.weight": [128, 128, 7, 7],
        "convolutions.2.bias": [128],
        "convolutions.4.weight": [3, 128, 5, 5],
        "convolutions.4.bias": [3],
    }


@pytest.mark.parametrize(("side", "inputs"), [(28, 100 * 64), (32, 144 * 64)])
def test_lapgans_residual_discriminator(side, inputs):
    network = ResidualDiscriminator(SharpenerConfig(image_size=(side, side), sentence_units=10, hidden_channels=64))
    assert shapes(network)["layers.6.weight"] == [1, inputs]


def test_the_planes_of_the_residual_generator(config):
    generator = ResidualGenerator(config)
    sentences, coarse = torch.randn(4, 6), torch.rand(4, 2, 11, 14)
    noise = generator.noise(4)
    seen = []
    generator.convolutions.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert generator(sentences, noise, coarse).shape == (4, 2, 11, 14)
    (planes,) = seen
    weight, bias = generator.sentence[0].weight, generator.sentence[0].bias
    plane = (sentences @ weight.T + bias).clamp(min=0).reshape(4, 11, 14)
    assert torch.equal(planes[:, :1], noise)
    torch.testing.assert_close(planes[:, 1], plane)
    assert torch.equal(planes[:, 2:], coarse)


def test_the_top_generator(pyramid_config):
    generator = TopGenerator(pyramid_config)
    sentences, noise = torch.randn(4, 6), generator.noise(4)
    x = torch.cat([noise, sentences], 1)
    for layer in generator.layers[:3:2]:
        x = layer(x).clamp(min=0)
    expected = generator.layers[4](x).reshape(4, 2, 6, 7)
    torch.testing.assert_close(generator(sentences, noise), expected)


def test_noise_is_uniform(config, pyramid_config):
    for network, shape in (
        (ResidualGenerator(config), (500, 1, 11, 14)),
        (TopGenerator(pyramid_config), (500, 3)),
    ):
        noise = network.noise(500, torch.Generator().manual_seed(1))
        assert noise.shape == shape
        assert -1 <= noise.min() < -0.99 and 0.99 < noise.max() < 1
        assert abs(noise.square().mean() - 1 / 3) < 0.02
        assert torch.equal(noise, network.noise(500, torch.Generator().manual_seed(1)))


def test_discriminators_judge_image_and_sentence(config, pyramid_config):
    for network, size in ((ResidualDiscriminator(config), (11, 14)), (TopDiscriminator(pyramid_config), (6, 7))):
        network.eval()
        sentences = torch.randn(4, 6, requires_grad=True)
        images = torch.rand(4, 2, *size, requires_grad=True)
        logits = network(sentences, images)
        assert logits.shape == (4,)
        # Image and sentence count, and none for another example.
        for inputs in torch.autograd.grad(logits[1], (sentences, images)):
            assert not inputs[[0, 2, 3]].any()
            assert inputs[1].any()


def test_dropout_is_of_training_alone(config):
    network = ResidualDiscriminator(config)
    sentences, images = torch.randn(1, 6), torch.rand(1, 2, 11, 14)
    assert network(sentences, images) != network(sentences, images)
    network.eval()
    assert network(sentences, images) == network(sentences, images)


def test_schedule():
    config = AdversarialConfig()
    assert config.learning_rate_in(0) == 0.02
    assert config.learning_rate_in(2) == pytest.approx(0.02 / 1.00004**2, rel=1e-12)
    assert config.replace(decay=9.0).learning_rate_in(100) == 1e-6
    assert [config.momentum_in(epoch) for epoch in (0, 1, 10_000)] == [0, 8e-4, 0.7]
    assert config.replace(momentum=0.9).momentum_in(3) == 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SharpenerConfig(image_size=(8, 32)), r"image_size must be .* at least 9, got \(8, 32\)"),
        (lambda: SharpenerConfig(hidden_channels=0), "hidden_channels must be a whole number of at least 1, got 0"),
        (lambda: LAPGANConfig(noise_units=0), "noise_units must be"),
        (lambda: AdversarialConfig(batch_size=3), "batch_size must be even, got 3"),
        (lambda: AdversarialConfig(learning_rate=0.0), "learning_rate must be above 0, got 0.0"),
        (lambda: AdversarialConfig(decay=-1.0), "decay must not be negative, got -1.0"),
        (lambda: AdversarialConfig(momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: SharpeningConfig(noise=-1.0), "noise must not be negative, got -1.0"),
        (lambda: SharpeningConfig(l1_weight=-1.0), "l1_weight must not be negative, got -1.0"),
        (lambda: SharpeningConfig(coarse="half"), "coarse must be one of pyramid, reconstructions, got 'half'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
