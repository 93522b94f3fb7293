"""The two generators of a conditional Laplacian pyramid (Denton et al., 2015): of residuals, and of small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import LAPGANConfig, SharpenerConfig


class ResidualGenerator(nn.Module):
    """Residuals of a coarse image, given a sentence: three same-size convolutions, 7 x 7, 7 x 7 and 5 x 5.

    The input channels are noise | ReLU(W s + b) reshaped to H x W | coarse image.
    """

    def __init__(self, config: SharpenerConfig) -> None:
        super().__init__()
        self.size = config.image_size
        self.sentence = SentenceChannel(config)
        self.convolutions = nn.Sequential(
            nn.Conv2d(2 + config.channels, config.hidden_channels, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(config.hidden_channels, config.hidden_channels, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(config.hidden_channels, config.channels, 5, padding=2),
        )

    def forward(self, sentences: Tensor, noise: Tensor, coarse: Tensor) -> Tensor:
        """sentences [B, d], noise [B, 1, H, W], coarse images [B, C, H, W] -> residuals [B, C, H, W]."""
        residuals: Tensor = self.convolutions(torch.cat([noise, self.sentence(sentences), coarse], 1))
        return residuals

    def generate(self, sentences: Tensor, noise: Tensor, images: Tensor) -> Tensor:
        """Returns images [B, C, H, W] that replace the finest details of given ones."""
        return self.sharpen(sentences, noise, pyramid.coarse(images))

    def sharpen(self, sentences: Tensor, noise: Tensor, coarse: Tensor) -> Tensor:
        """Returns coarse images [B, C, H, W] plus their residuals, not clipped."""
        residuals: Tensor = self(sentences, noise, coarse)
        return coarse + residuals

    def noise(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns noise uniform in [−1, 1), [batch, 1, H, W], as in LAPGAN's training; drawn on the CPU."""
        return _uniform((batch, 1, *self.size), generator)


class TopGenerator(nn.Module):
    """Images of the coarsest level, h x w: [noise, sentence] -> two layers of ReLU units -> pixels."""

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__()
        self.noise_units, units = config.noise_units, config.generator_units
        self.shape = (config.channels, *pyramid.halved(config.image_size))
        h, w = self.shape[1:]
        self.layers = nn.Sequential(
            nn.Linear(config.noise_units + config.sentence_units, units),
            nn.ReLU(),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Linear(units, config.channels * h * w),
        )

    def forward(self, sentences: Tensor, noise: Tensor) -> Tensor:
        """sentences [B, d], noise [B, noise_units] -> images [B, C, h, w]."""
        images: Tensor = self.layers(torch.cat([noise, sentences], 1)).unflatten(1, self.shape)
        return images

    def generate(self, sentences: Tensor, noise: Tensor, images: Tensor) -> Tensor:
        """Returns images [B, C, h, w] from noise and sentences alone."""
        small: Tensor = self(sentences, noise)
        return small

    def noise(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns noise uniform in [−1, 1), [batch, noise_units]; drawn on the CPU."""
        return _uniform((batch, self.noise_units), generator)


class SentenceChannel(nn.Sequential):
    """Sentences [B, d] as one channel of an image: ReLU(W s + b), [B, 1, H, W]."""

    def __init__(self, config: SharpenerConfig) -> None:
        height, width = config.image_size
        super().__init__(
            nn.Linear(config.sentence_units, height * width), nn.ReLU(), nn.Unflatten(1, (1, height, width))
        )


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1
