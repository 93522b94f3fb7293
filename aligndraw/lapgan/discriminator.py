"""The two discriminators: logits that an image is real, given a sentence.

The discriminator of a residual level judges the finer image, coarse + residual.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import LAPGANConfig, SharpenerConfig
from aligndraw.lapgan.generator import SentenceChannel


class ResidualDiscriminator(nn.Module):
    """Two 5 x 5 convolutions without padding, the second with stride 2, dropout and one linear unit.

    The input channels are image | ReLU(W s + b) reshaped to H x W; W and b are not those of the generator.
    """

    def __init__(self, config: SharpenerConfig) -> None:
        super().__init__()
        height, width = ((side - 9) // 2 + 1 for side in config.image_size)
        self.sentence = SentenceChannel(config)
        self.layers = nn.Sequential(
            nn.Conv2d(config.channels + 1, config.hidden_channels, 5),
            nn.ReLU(),
            nn.Conv2d(config.hidden_channels, config.hidden_channels, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(config.hidden_channels * height * width, 1),
        )

    def forward(self, sentences: Tensor, images: Tensor) -> Tensor:
        """sentences [B, d], images [B, C, H, W] -> logits [B]."""
        logits: Tensor = self.layers(torch.cat([images, self.sentence(sentences)], 1)).squeeze(1)
        return logits


class TopDiscriminator(nn.Module):
    """[pixels, sentence] -> two layers of ReLU units with dropout -> one linear unit."""

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__()
        h, w = pyramid.halved(config.image_size)
        units = config.discriminator_units
        self.layers = nn.Sequential(
            nn.Linear(config.channels * h * w + config.sentence_units, units),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(units, 1),
        )

    def forward(self, sentences: Tensor, images: Tensor) -> Tensor:
        """sentences [B, d], images [B, C, h, w] -> logits [B]."""
        # Centred on 0, as LAPGAN standardises pixels; otherwise the mean brightness hides the differences.
        logits: Tensor = self.layers(torch.cat([2 * images.flatten(1) - 1, sentences], 1)).squeeze(1)
        return logits
