"""LAPGAN as a model of its own: pictures of sentences without an `AlignDRAW` (a baseline in the paper, 4.1.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import LAPGANConfig
from aligndraw.lapgan.generator import ResidualGenerator, TopGenerator
from aligndraw.model.saved import read_module, write_module

NAMES = "lapgan.safetensors", "lapgan.json"

_FORMAT = "aligndraw lapgan 1"


class LAPGAN(nn.Module):
    """A pyramid of two levels: x_2 = G_2(s, ε_2), of half the size; x_1 = up(x_2) + G_1(s, ε_1, up(x_2)).

    Each level is trained by itself on real images (`aligndraw.lapgan.training.AdversarialTrainer`): `top` on those that
    `pyramid.down` makes, `residual` on whole ones.
    """

    def __init__(self, config: LAPGANConfig) -> None:
        super().__init__()
        self.config = config
        self.notes: dict[str, Any] = {}
        self.top = TopGenerator(config)
        self.residual = ResidualGenerator(config)

    def forward(self, sentences: Tensor, top_noise: Tensor, noise: Tensor) -> Tensor:
        """Images of sentences.

        Args:
            sentences: [B, d].
            top_noise: [B, noise_units], ε_2.
            noise: [B, 1, H, W], ε_1.

        Returns:
            [B, C, H, W], as the generators leave them: not confined to [0, 1].
        """
        coarse = pyramid.up(self.top(sentences, top_noise), self.config.image_size)
        residuals: Tensor = self.residual(sentences, noise, coarse)
        return coarse + residuals

    @torch.no_grad()
    def sample(self, sentences: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws an image [C, H, W] in [0, 1] of each sentence: sentences [B, d] -> [B, C, H, W].

        Args:
            generator: of the noise, on the CPU, so that a seed gives the same pictures on every device.

        Raises:
            ValueError: sentences of another shape.
        """
        if sentences.dim() != 2 or sentences.shape[1] != self.config.sentence_units:
            raise ValueError(
                f"sentences must have shape [B, {self.config.sentence_units}], got {list(sentences.shape)}"
            )
        noises = (part.noise(len(sentences), generator).to(sentences.device) for part in (self.top, self.residual))
        return self(sentences, *noises).clamp(0, 1)  # type: ignore[no-any-return]

    def save(self, folder: str | Path) -> None:
        """Writes `lapgan.safetensors` and `lapgan.json` into a folder, which is made if need be.

        Raises:
            OSError: it cannot be written; each file appears whole or not at all.
        """
        record = {"format": _FORMAT, "lapgan": self.config.to_dict(), "notes": self.notes}
        write_module(self, Path(folder), NAMES, record)

    @classmethod
    def load(cls, folder: str | Path) -> LAPGAN:
        """Reads what `save` wrote: in float32, on the CPU.

        Raises:
            FileNotFoundError: there is no LAPGAN in the folder.
            ValueError: a file is damaged, foreign, or does not fit the other.
        """

        def build(record: dict[str, Any]) -> LAPGAN:
            return cls(LAPGANConfig.from_dict(record["lapgan"]))

        model, record = read_module(Path(folder), NAMES, "LAPGAN", _FORMAT, build)
        model.notes = record.get("notes", {})
        return model
