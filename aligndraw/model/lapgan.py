"""LAPGAN as a model by itself: pictures from sentences without an `AlignDRAW` (a baseline of the paper, 4.1.3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aligndraw.arguments import check_real
from aligndraw.json_files import entry
from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import LAPGANConfig
from aligndraw.lapgan.generator import ResidualGenerator, TopGenerator
from aligndraw.model.language import LanguageModel
from aligndraw.model.samples import Samples
from aligndraw.module_files import SavedModule
from aligndraw.printable import counted
from aligndraw.text import Vocabulary

NAMES = "lapgan.safetensors", "lapgan.json"


class GeneratedImages(Samples):
    """Samples without steps: it has `images` alone."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.patches = self.windows = self.weights = None


class LAPGAN(SavedModule):
    """A pyramid of two levels: x_2 = G_2(s, ε_2), of half the size; x_1 = up(x_2) + G_1(s, ε_1, up(x_2)).

    Each level trains independently on real images (`aligndraw.training.adversarial.PyramidTrainer`): `top` on those
    from `pyramid.down`, `residual` on full-size ones.

    Args:
        vocabulary: of the captions.
        language: of another model; its last states are the sentences. The LAPGAN keeps a copy, which is not trained.
            None where a sentence encoder reads the captions.
    """

    FILES, FORMAT, TITLE = NAMES, "aligndraw lapgan 2", "LAPGAN"
    attends = mixes_captions = has_bound = False

    def __init__(self, config: LAPGANConfig, vocabulary: Vocabulary, language: LanguageModel | None = None) -> None:
        super().__init__()
        if language is not None and language.released:
            raise ValueError("language must be of the paper's conventions: the released ones mix a batch's captions")
        if language is not None and len(language.forward_lstm.words) != len(vocabulary):
            words = len(language.forward_lstm.words)
            raise ValueError(
                f"vocabulary must have the {counted(words, 'word')} of the language model, got {len(vocabulary)}"
            )
        self.config, self.vocabulary = config, vocabulary
        self.top = TopGenerator(config)
        self.residual = ResidualGenerator(config)
        self.language = None if language is None else copy.deepcopy(language).requires_grad_(False)

    def forward(self, sentences: Tensor, top_noise: Tensor, noise: Tensor) -> Tensor:
        """Returns the images of sentences.

        Args:
            sentences: [B, d].
            top_noise: [B, noise_units], ε_2.
            noise: [B, 1, H, W], ε_1.

        Returns:
            [B, C, H, W], not clipped to [0, 1].
        """
        coarse = pyramid.up(self.top(sentences, top_noise), self.config.image_size)
        residuals: Tensor = self.residual(sentences, noise, coarse)
        return coarse + residuals

    @torch.no_grad()
    def generate(self, sentences: Tensor, generators: Sequence[torch.Generator], temperature: float = 1.0) -> Tensor:
        """Draws one image per sentence: sentences [B, d] -> [B, C, H, W] in [0, 1].

        Args:
            generators: of the noise, one per image, on the CPU, so that a seed gives the same pictures on every device.
            temperature: factor of the noise.

        Raises:
            ValueError: sentences of another shape, or another number of generators.
        """
        check_real("temperature", temperature, 0)
        if list(sentences.shape) != [len(generators), self.config.sentence_units]:
            wanted = [len(generators), self.config.sentence_units]
            raise ValueError(f"sentences must have shape {wanted}, got {list(sentences.shape)}")
        drawn = [(self.top.noise(1, g), self.residual.noise(1, g)) for g in generators]
        noises = (torch.cat(parts).to(sentences) * temperature for parts in zip(*drawn))
        return self(sentences, *noises).clamp(0, 1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(
        self,
        captions: Tensor,
        lengths: Tensor | None = None,
        *,
        generator: Sequence[torch.Generator],
        temperature: float = 1.0,
        steps: int | None = None,
    ) -> Samples:
        """Draws one picture per caption.

        Args:
            captions: word ids, int64 [B, N]; or, without a language model, sentence vectors [B, d].
            lengths: words of each caption, int64 [B]; all N when None.
            generator, temperature: as in `generate`.
            steps: must be None.

        Raises:
            ValueError: shapes do not fit, or `steps` is given.
        """
        if steps is not None:
            raise ValueError(f"steps must be left out: a LAPGAN does not draw in steps, got {steps}")
        if self.language is not None:
            if lengths is None:
                lengths = captions.new_full(captions.shape[:1], captions.shape[1])
            captions = self.language(captions, lengths)[1]
        return GeneratedImages(self.generate(captions, generator, temperature))

    def record(self) -> dict[str, Any]:
        language = None
        if self.language is not None:
            vocabulary_size, gates = self.language.forward_lstm.words.shape
            language = {"vocabulary_size": vocabulary_size, "units": gates // 4}
        return {"lapgan": self.config.to_dict(), "language": language, "vocabulary": self.vocabulary.to_dict()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LAPGAN:
        vocabulary = Vocabulary.from_dict(record["vocabulary"])
        config = LAPGANConfig.from_dict(record["lapgan"])
        if entry(record, "language", dict, type(None)) is None:
            return cls(config, vocabulary)
        sizes = (entry(record["language"], name, int) for name in ("vocabulary_size", "units"))
        return cls(config, vocabulary, LanguageModel(*sizes))
