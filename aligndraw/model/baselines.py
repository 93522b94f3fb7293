"""The paper's two variational auto-encoders: baselines with one latent, conditioned on a sentence (section 4.1.3).

    z ~ N(μ(x, s), σ(x, s)²),  x ~ N(σ(c(z, s)), 1),  prior N(0, I)

s is the vector of a caption: the last states of the model's own language LSTM, or the output of a sentence encoder
(`config.sentence_units`). The paper gives only their names and a least-squares loss on pixels; the sizes are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw import ops
from aligndraw.config import ConvolutionalVAEConfig, FullyConnectedVAEConfig, VAEConfig
from aligndraw.model.interface import Caption, Inference, Model
from aligndraw.model.latent import Posterior
from aligndraw.model.samples import Samples


class VAE(Model):
    """The base of both; a subclass supplies the networks before and behind the latent (`encode`, `decode`)."""

    def __init__(self, config: VAEConfig, hidden: int) -> None:
        super().__init__(config)
        self.posterior = Posterior(hidden, config.latent_units)

    def encode(self, images: Tensor, sentence: Tensor) -> Tensor:
        """x [B, C, H, W], s [B, d] -> the posterior's input, [B, hidden]."""
        raise NotImplementedError

    def decode(self, z: Tensor, sentence: Tensor) -> Tensor:
        """z [B, z], s [B, d] -> the picture before the sigmoid, less the learned canvas, [B, C, H, W]."""
        raise NotImplementedError

    def execution_mode(self) -> str:
        """As `Model.execution_mode`."""
        return "PyTorch's own layers"

    def infer(self, images: Tensor, caption: Caption, noise: Tensor) -> Inference:
        """As `Model.infer`, T = 1."""
        mu, log_sigma = self.posterior(self.encode(images, caption.sentence))
        standard = torch.zeros_like(mu)
        z, kl, log_ratio = ops.latent(mu, log_sigma, standard, standard, noise[:, 0])
        return Inference(self._canvas(z, caption), kl[:, None], log_ratio[:, None])

    def draw(self, caption: Caption, noise: Tensor) -> Samples:
        """As `Model.draw`: images, without steps."""
        canvas = self._canvas(noise[:, 0], caption)
        return Samples(self.canvas.clone().expand_as(canvas), canvas)

    @torch.no_grad()
    def reset_parameters(self, init: str = "paper") -> None:
        """As `Model.reset_parameters`; with "fan_in" layers before a ReLU have weights N(0, 2/inputs)."""
        super().reset_parameters(init)
        if init == "fan_in":
            for module in self._relu_layers():
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def _canvas(self, z: Tensor, caption: Caption) -> Tensor:
        return self.canvas + self.decode(z, caption.sentence).to(self.canvas.dtype)

    def _relu_layers(self) -> list[nn.Linear | nn.Conv2d | nn.ConvTranspose2d]:
        """Returns the layers whose outputs go through a ReLU."""
        raise NotImplementedError


class FullyConnectedVAE(VAE):
    """Two hidden layers of ReLUs on each side; the encoder reads [x, s], the decoder [z, s].

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: FullyConnectedVAEConfig) -> None:
        units, sentence, pixels = config.hidden_units, config.caption_units, config.channels
        pixels *= config.image_size[0] * config.image_size[1]
        super().__init__(config, units)
        self.encoder = _hidden(pixels + sentence, units)
        self.decoder = _hidden(config.latent_units + sentence, units)
        self.write = nn.Linear(units, pixels, bias=False)  # the canvas is its bias
        self.reset_parameters()

    def encode(self, images: Tensor, sentence: Tensor) -> Tensor:
        """As `VAE.encode`."""
        return self.encoder(torch.cat([images.flatten(1), sentence], 1))  # type: ignore[no-any-return]

    def decode(self, z: Tensor, sentence: Tensor) -> Tensor:
        """As `VAE.decode`."""
        pixels: Tensor = self.write(self.decoder(torch.cat([z, sentence], 1)))
        return pixels.view(-1, *self.canvas.shape)

    def _relu_layers(self) -> list[nn.Linear | nn.Conv2d | nn.ConvTranspose2d]:
        return [m for part in (self.encoder, self.decoder) for m in part if isinstance(m, nn.Linear)]


class ConvolutionalVAE(VAE):
    """Three 5 x 5 convolutions of stride 2, and their mirror image.

    The encoder reads the sentence as one more channel, ReLU(W s + b) of the image's size. The decoder reads [z, s].

    Args:
        config: the shape of the model; images of any size.
    """

    def __init__(self, config: ConvolutionalVAEConfig) -> None:
        height, width = config.image_size
        channels = [config.hidden_channels, 2 * config.hidden_channels, 4 * config.hidden_channels]
        sizes = [(-(-height // side), -(-width // side)) for side in (1, 2, 4, 8)]
        inner = channels[-1] * sizes[-1][0] * sizes[-1][1]
        super().__init__(config, inner)
        self.plane = nn.Linear(config.caption_units, height * width)
        inputs, outputs = [config.channels + 1, *channels], [config.channels, *channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 5, 2, 2) for a, b in zip(inputs, channels))
        self.inner = nn.Linear(config.latent_units + config.caption_units, inner)
        self.deconvolutions = nn.ModuleList(
            # The encoder has made n of a side of 2n or 2n − 1.
            nn.ConvTranspose2d(b, a, 5, 2, 2, (1 - size[0] % 2, 1 - size[1] % 2), bias=i > 0)
            for i, (a, b, size) in reversed(list(enumerate(zip(outputs, channels, sizes))))
        )  # the last one's bias is the canvas
        self._inner_shape = (channels[-1], *sizes[-1])
        self.reset_parameters()

    def encode(self, images: Tensor, sentence: Tensor) -> Tensor:
        """As `VAE.encode`."""
        plane = self.plane(sentence).relu().view(-1, 1, *self.config.image_size)
        x = torch.cat([images, plane.to(images.dtype)], 1)
        for layer in self.convolutions:
            x = layer(x).relu()
        return x.flatten(1)

    def decode(self, z: Tensor, sentence: Tensor) -> Tensor:
        """As `VAE.decode`."""
        x: Tensor = self.inner(torch.cat([z, sentence], 1)).relu().view(-1, *self._inner_shape)
        for layer in self.deconvolutions[:-1]:
            x = layer(x).relu()
        pixels: Tensor = self.deconvolutions[-1](x)
        return pixels

    def _relu_layers(self) -> list[nn.Linear | nn.Conv2d | nn.ConvTranspose2d]:
        return [self.plane, *self.convolutions, self.inner, *self.deconvolutions[:-1]]


def _hidden(inputs: int, units: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU())
