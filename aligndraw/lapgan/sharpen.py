"""The sharpener: what a blurry image lacks, given what its caption says, added to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from aligndraw.files import read_module, write_module
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.generator import ResidualGenerator

NAMES = "sharpener.safetensors", "sharpener.json"

_FORMAT = "aligndraw sharpener 1"


class Sharpener(nn.Module):
    """sharp = clip(blurry + G(s, ε, blurry), 0, 1), the paper's last step (section 3.3); noise ε = 0 by default.

    `aligndraw.lapgan.fast.FastSharpener` computes the same with ε = 0, faster.

    Attributes:
        notes: how the sharpener came about, anything that JSON can hold.
    """

    def __init__(self, config: SharpenerConfig) -> None:
        super().__init__()
        self.config = config
        self.notes: dict[str, Any] = {}
        self.generator = ResidualGenerator(config)

    def forward(self, images: Tensor, sentences: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sharpens images.

        Args:
            images: [B, C, H, W] in [0, 1].
            sentences: [B, d].
            noise: [B, 1, H, W], such as `generator.noise(B)`; zeros when None.

        Returns:
            [B, C, H, W] in [0, 1].

        Raises:
            ValueError: another shape.
        """
        check_inputs(self.config, images, sentences)
        if noise is None:
            noise = images.new_zeros(len(images), 1, *self.config.image_size)
        residuals: Tensor = self.generator(sentences, noise, images)
        return (images + residuals).clamp(0, 1)

    def save(self, folder: str | Path) -> None:
        """Writes `sharpener.safetensors` and `sharpener.json` into a folder, which is made if need be.

        Raises:
            OSError: it cannot be written; each file appears whole or not at all.
        """
        record = {"format": _FORMAT, "sharpener": self.config.to_dict(), "notes": self.notes}
        write_module(self, Path(folder), NAMES, record)

    @classmethod
    def load(cls, folder: str | Path) -> Sharpener:
        """Reads what `save` wrote: in float32, on the CPU.

        Raises:
            FileNotFoundError: there is no sharpener in the folder.
            ValueError: a file is damaged, foreign, or does not fit the other.
        """

        def build(record: dict[str, Any]) -> Sharpener:
            return cls(SharpenerConfig.from_dict(record["sharpener"]))

        sharpener, record = read_module(Path(folder), NAMES, "sharpener", _FORMAT, build)
        if not all(p.isfinite().all() for p in sharpener.parameters()):
            raise ValueError(f"the sharpener in {folder} is damaged: some parameters are not finite")
        sharpener.notes = record["notes"]
        return sharpener


def check_inputs(config: SharpenerConfig, images: Tensor, sentences: Tensor) -> None:
    """Raises ValueError where images or sentences are not those of a configuration."""
    wanted = [config.channels, *config.image_size]
    if images.dim() != 4 or list(images.shape[1:]) != wanted:
        raise ValueError(f"images must have shape [B, {str(wanted)[1:]}, got {list(images.shape)}")
    if list(sentences.shape) != [len(images), config.sentence_units]:
        raise ValueError(
            f"sentences must have shape {[len(images), config.sentence_units]}, got {list(sentences.shape)}"
        )
