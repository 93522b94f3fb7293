"""The digit reader: the digit, or nothing, at each of the eight places of a picture.

One small network looks at a window around each place, so it reads all places alike: a digit is as legible at a place
where no training picture of a model has it as anywhere else. `aligndraw.training.digit_reader` trains it;
docs/evaluation.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw.data import PLACES
from aligndraw.data.digits import SIDE
from aligndraw.data.mnist_captions import CANVAS
from aligndraw.files import atomic_write, load_tensors, save_tensors
from aligndraw.json_files import naming, parse_json
from aligndraw.module_files import check_kinds

NOTHING = 10  # the reading of a place without a digit
WEIGHTS = Path(__file__).parents[1] / "weights"
SHIPPED = WEIGHTS / "reader" / "reader.safetensors"

_R = TypeVar("_R", bound="Reader")
_MARGIN = 2  # pixels seen on each side of a digit that stands in the middle of its place
WINDOW = SIDE + 2 * _MARGIN  # side of the window of a place, in pixels
_PAD = 1  # pixels by which the outermost windows exceed the canvas
_STARTS = [
    (sum(place.rows) // 2 - _MARGIN + _PAD, sum(place.columns) // 2 - _MARGIN + _PAD) for place in PLACES.values()
]


class Reader(nn.Module):
    """A network that reads pictures, stored in one file with a record of its accuracy.

    Attributes:
        record: how the reader came about and how well it reads; empty for a new one.
    """

    title: ClassVar[str]  # its name in messages
    format: ClassVar[str]  # the entry "format" of its file
    shipped: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.record: Mapping[str, Any] = {}

    def save(self, path: Path) -> None:
        """Writes the weights and the record, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        metadata = {"format": self.format, "record": json.dumps(self.record)}
        with atomic_write(path) as temporary:
            save_tensors(temporary, self.state_dict(), metadata)

    @classmethod
    def load(cls: type[_R], path: Path | None = None) -> _R:
        """Returns the reader that `save` wrote, by default the one of the package; in evaluation mode, on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or something else.
        """
        path = path or cls.shipped
        if not path.is_file():
            raise FileNotFoundError(f"there is no {cls.title} {path}")
        reader = cls()
        tensors, metadata = load_tensors(path)
        with naming(path, f"damaged or no {cls.title}"):
            if metadata.get("format") != cls.format:
                raise ValueError(f"it does not say that its format is {cls.format}")
            reader.record = parse_json(metadata["record"])
            if not isinstance(reader.record, dict):
                raise ValueError("its record is no JSON object")
            check_kinds(tensors, reader.state_dict())
            try:
                reader.load_state_dict(tensors)
            except RuntimeError as error:
                raise ValueError(str(error)) from error
        return reader.eval()


class DigitReader(Reader):
    """Pictures [B, 1, 60, 60] to logits [B, 8, 11]: the places of `PLACES`; digits 0…9, nothing."""

    title, format, shipped = "digit reader", "aligndraw reader 1", SHIPPED

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Sequential(
            *convolution(1, 24, 5, stride=2),  # [8B, 24, 16, 16]
            *convolution(24, 48, 3),
            nn.MaxPool2d(2),  # [8B, 48, 8, 8]
            *convolution(48, 64, 3),
            *convolution(64, 64, 3),
            nn.MaxPool2d(2),  # [8B, 64, 4, 4]
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * (WINDOW // 8) ** 2, 64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, NOTHING + 1),
        )
        # A quarter faster on a CPU; the type stubs of Module.to lack it.
        self.layers = layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """pictures [B, 1, 60, 60] in [0, 1] -> logits [B, 8, 11].

        Raises:
            ValueError: pictures of another shape.
        """
        windows = self.windows(images)
        logits: Tensor = self.layers(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        return logits

    @staticmethod
    def windows(images: Tensor) -> Tensor:
        """Returns the windows of all places, [B, 8, 1, 32, 32]; arguments as in `forward`."""
        if images.dim() != 4 or images.shape[1:] != (1, CANVAS, CANVAS):
            raise ValueError(f"images must have shape [B, 1, {CANVAS}, {CANVAS}], got {list(images.shape)}")
        padded = functional.pad(images, (_PAD,) * 4)
        return torch.stack([padded[:, :, y : y + WINDOW, x : x + WINDOW] for y, x in _STARTS], 1)

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Returns readings int64 [B, 8] of pictures; arguments as in `forward`."""
        return readings(self(images))


def readings(logits: Tensor) -> Tensor:
    """Logits [..., 11] -> readings int64 [...]: the digit whose probability exceeds 1/2, else `NOTHING`."""
    probability, digit = logits.softmax(-1)[..., :NOTHING].max(-1)
    return digit.where(probability > 0.5, NOTHING)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Returns a convolution with normalisation and ReLU; its output is as large as its input over the stride."""
    return (
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
