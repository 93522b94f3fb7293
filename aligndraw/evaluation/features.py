"""A feature space for nearest pictures: the last fully connected layer of an image classifier.

The paper searches nearest pictures in that space of a VGG-like network for CIFAR-10 with batch normalisation and
dropout (cifar.torch). This is that network, for images of any size. Theirs reads YUV with local contrast normalisation;
this one reads RGB, each channel normalised to mean 0 and variance 1 over its training images.

    64 64 | 128 128 | 256 256 256 | 512 512 512 | 512 512 512 | 512, classes

Each number is a 3 x 3 convolution with batch normalisation and a ReLU, | is 2 x 2 max pooling, the last two layers are
fully connected. `aligndraw.training.features` trains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aligndraw.arguments import check_int
from aligndraw.module_files import SavedModule
from aligndraw.settings import Config, setting

NAMES = "features.safetensors", "features.json"

_BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # channels over those of the first block, convolutions
_EPS = 1e-3  # of batch normalisation


@dataclass(frozen=True)
class FeaturesConfig(Config):
    """The shape of a feature network; the defaults are those for CIFAR-10."""

    image_size: tuple[int, int] = setting((32, 32), "height and width of the images, in pixels")
    channels: int = setting(3, "channels of the images: 1 for grey, 3 for colour")
    classes: int = setting(10, "number of classes")
    hidden_channels: int = setting(
        64, "channels of the first convolutions; the last have eight times as many", formerly="planes"
    )
    dropout: float = setting(1.0, "factor of the dropout rates of 0.3 to 0.5; 0 for no dropout")

    def __post_init__(self) -> None:
        self._check()
        if not 0 <= self.dropout < 2:
            raise ValueError(f"dropout must be at least 0 and below 2, got {self.dropout!r}")


class FeatureNetwork(SavedModule):
    """Images to logits of their classes, and to features. `load` returns it in evaluation mode."""

    FILES, FORMAT, TITLE = NAMES, "aligndraw features 1", "feature network"

    mean: Tensor  # of each channel [C], of the training images
    deviation: Tensor

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.full((config.channels,), 0.5))
        self.register_buffer("deviation", torch.full((config.channels,), 0.25))
        layers: list[nn.Module] = []
        channels = config.channels
        for width, count in _BLOCKS:
            for i in range(count):
                layers += _convolution(channels, width * config.hidden_channels)
                channels = width * config.hidden_channels
                if i < count - 1:
                    layers.append(nn.Dropout(config.dropout * (0.3 if width == 1 else 0.4)))
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        height, width = (-(-side // 2 ** len(_BLOCKS)) for side in config.image_size)
        layers += [nn.Flatten(), nn.Dropout(config.dropout * 0.5), nn.Linear(channels * height * width, channels)]
        layers += [nn.BatchNorm1d(channels, _EPS), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout * 0.5)
        self.classes = nn.Linear(channels, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] in [0, 1] -> logits [B, classes]."""
        logits: Tensor = self.classes(self.dropout(self._hidden(images)))
        return logits

    @torch.no_grad()
    def features(
        self,
        images: NDArray[np.uint8],
        batch_size: int = 500,
        *,
        on_batch: Callable[[int], object] = lambda images: None,
    ) -> NDArray[np.float32]:
        """Returns the outputs of the last fully connected layer before the classes.

        Args:
            images: uint8 [n, C, H, W], in memory or mapped.
            batch_size: images per batch.
            on_batch: called with the number of images just done.

        Returns:
            [n, 8 hidden_channels], at least 0.

        Raises:
            ValueError: images of another shape.
        """
        check_int("batch_size", batch_size, 1)
        wanted = (self.config.channels, *self.config.image_size)
        if images.shape[1:] != wanted or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [n, C, H, W] = [n, {', '.join(map(str, wanted))}] for these features, "
                f"got {images.dtype} {list(images.shape)}"
            )
        training, parts = self.training, []
        self.eval()
        try:
            for start in range(0, len(images), batch_size):
                part = torch.from_numpy(np.asarray(images[start : start + batch_size])).to(self.mean.device)
                parts.append(self._hidden(part.to(self.mean.dtype) / 255).cpu())
                on_batch(len(part))
        finally:
            self.train(training)
        return torch.cat(parts).numpy()

    def record(self) -> dict[str, Any]:
        return {"features": self.config.to_dict()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> FeatureNetwork:
        return cls(FeaturesConfig.from_dict(record["features"])).eval()

    def _hidden(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.layers((images - self.mean[:, None, None]) / self.deviation[:, None, None])
        return hidden


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """Returns a 3 x 3 convolution with weights N(0, 2 / (9 outputs)), batch normalisation and a ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, 0, (2 / (9 * outputs)) ** 0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return [layer, nn.BatchNorm2d(outputs, _EPS), nn.ReLU()]
