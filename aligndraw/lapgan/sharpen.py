"""The sharpener: adds to a blurry image the details that its caption implies."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.generator import ResidualGenerator
from aligndraw.module_files import SavedModule

NAMES = "sharpener.safetensors", "sharpener.json"


class Sharpener(SavedModule):
    """sharp = clip(blurry + G(s, ε, blurry), 0, 1), the paper's last step (section 3.3); noise ε = 0 by default.

    `aligndraw.lapgan.fast.FastSharpener` computes the same with ε = 0, faster.
    """

    FILES, FORMAT, TITLE = NAMES, "aligndraw sharpener 1", "sharpener"

    def __init__(self, config: SharpenerConfig) -> None:
        super().__init__()
        self.config = config
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

    def record(self) -> dict[str, Any]:
        return {"sharpener": self.config.to_dict()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Sharpener:
        return cls(SharpenerConfig.from_dict(record["sharpener"]))


def check_inputs(config: SharpenerConfig, images: Tensor, sentences: Tensor) -> None:
    """Raises ValueError where images or sentences do not fit a configuration."""
    wanted = [config.channels, *config.image_size]
    if images.dim() != 4 or list(images.shape[1:]) != wanted:
        raise ValueError(f"images must have shape [B, {str(wanted)[1:]}, got {list(images.shape)}")
    if list(sentences.shape) != [len(images), config.sentence_units]:
        raise ValueError(
            f"sentences must have shape {[len(images), config.sentence_units]}, got {list(sentences.shape)}"
        )
