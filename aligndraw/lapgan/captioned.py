"""A sharpener together with the sentence encoder of its captions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aligndraw.json_files import entry, naming
from aligndraw.lapgan.fast import FastSharpener
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.text import Vocabulary
from aligndraw.text.sentences import SentenceEncoder, open_encoder
from aligndraw.text.vocabulary import check_captions


class CaptionedSharpener:
    """Sharpens images, given their captions: `CaptionedSharpener.load("sharpener", ...)(captions, images)`.

    Args:
        encoder: the one that the sharpener was trained with.
        dtype: of the convolutions.

    Attributes:
        sharpener: as it was given.
        network: maps images and sentences to sharp images.
    """

    def __init__(self, sharpener: Sharpener, encoder: SentenceEncoder, dtype: torch.dtype = torch.float32) -> None:
        self.config, self.sharpener = sharpener.config, sharpener
        self.network, self._encoder = FastSharpener(sharpener, dtype), encoder

    def to(self, device: torch.device | str) -> CaptionedSharpener:
        """Returns it on a device; the encoder stays where it is."""
        return CaptionedSharpener(self.sharpener.to(device), self._encoder, self.network.dtype)

    def __call__(self, captions: Sequence[str], images: Tensor) -> Tensor:
        """Returns sharp images.

        Args:
            captions: n of them.
            images: [n, C, H, W] in [0, 1].

        Raises:
            ValueError: a caption cannot be encoded, or the images are of another shape.
        """
        return self.network(images, self.sentences(captions).to(images.device))

    def sentences(self, captions: Sequence[str]) -> Tensor:
        """Returns the encoded captions, float32 [n, d] on the CPU; errors are those of the encoder."""
        captions = check_captions(captions)
        each = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}  # equal captions are encoded once
        return self._encoder.encode(list(each))[[each[caption] for caption in captions]]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        language: nn.Module | None,
        vocabulary: Vocabulary,
        *,
        sentences: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> CaptionedSharpener:
        """Reads a sharpener, and opens the encoder that it was trained with.

        Args:
            language, vocabulary: of the drawing model; None where it has no language model.
            sentences: as for `aligndraw.text.sentences.open_encoder`, where the encoder's files have moved.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the encoder is not the one of the training.
        """
        sharpener = Sharpener.load(folder)
        with naming(Path(folder), "no sharpener of captions"):
            trained = entry(sharpener.notes, "sentences", dict, default={})
            specification = sentences or entry(trained, "specification", str, type(None), default=None)
        if specification is None:
            raise ValueError(
                f"the sharpener in {folder} does not name its sentence encoder: aligndraw sharpen takes "
                "--sentences, and sharpener_from_released notes it (sentences=...)"
            )
        wanted = trained.get("language")
        if specification == "caption" and language and wanted not in (None, checksum(language)):
            raise ValueError(
                f"the sharpener in {folder} was trained with captions as another model reads them: give that model"
            )
        return cls(sharpener.to(device), open_encoder(specification, language, vocabulary), dtype)


def sentence_notes(specification: str, language: nn.Module | None = None) -> dict[str, Any]:
    """Returns the entry "sentences" of a sharpener's notes, which `load` reads."""
    return {"specification": specification, "language": language and checksum(language)}


def checksum(model: nn.Module) -> str:
    """Returns the SHA-256 of the parameters of a model."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
