"""The scene reader: a small network that reads object, colour, sky, ground, size, side and flying from a picture.

`aligndraw.training.scene_reader` trains it; docs/evaluation.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw.data.scene import ATTRIBUTES, SIDE
from aligndraw.evaluation.reader import WEIGHTS, Reader, convolution

UNSURE = -1  # the reading of an attribute none of whose values has a probability above 1/2

_VALUES = [len(values) for values in ATTRIBUTES.values()]


class SceneReader(Reader):
    """Pictures [B, 3, 32, 32] to logits [B, 40]: the values of all seven attributes, in the order of `ATTRIBUTES`."""

    title, format = "scene reader", "aligndraw scene reader 1"
    shipped = WEIGHTS / "scenes-reader" / "reader.safetensors"

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Sequential(
            *convolution(3, 24, 5, stride=2),  # [B, 24, 16, 16]
            *convolution(24, 48, 3),
            nn.MaxPool2d(2),  # [B, 48, 8, 8]
            *convolution(48, 64, 3),
            *convolution(64, 64, 3),
            nn.MaxPool2d(2),  # [B, 64, 4, 4]
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 8) ** 2, 128),
            nn.ReLU(),
            nn.Linear(128, sum(_VALUES)),
        )
        # Faster on a CPU; the type stubs of Module.to lack it.
        self.layers = layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """pictures [B, 3, 32, 32] in [0, 1] -> logits [B, 40].

        Raises:
            ValueError: pictures of another shape.
        """
        if images.dim() != 4 or images.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"images must have shape [B, 3, {SIDE}, {SIDE}], got {list(images.shape)}")
        logits: Tensor = self.layers(images - 0.5)
        return logits

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Returns int64 [B, 7], positions of the values in `ATTRIBUTES`, or `UNSURE`; arguments as in `forward`."""
        probable = [part.softmax(1).max(1) for part in by_attribute(self(images))]
        return torch.stack([value.where(p > 0.5, UNSURE) for p, value in probable], 1)


def by_attribute(logits: Tensor) -> tuple[Tensor, ...]:
    """Logits [B, 40] -> logits of each attribute, [B, values]."""
    parts: tuple[Tensor, ...] = logits.split(_VALUES, 1)
    return parts
