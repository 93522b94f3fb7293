"""Sentence encoders: captions to vectors.

| specification | vectors | d |
|---|---|---|
| caption | the last states of the model's own language LSTM, forward and backward | 2m |
| combined-skip:DIR, uni-skip:DIR, bi-skip:DIR | skip-thoughts (`aligndraw.text.skipthoughts`) | 4800, 2400, 2400 |
| vectors:FILE | precomputed, in an .npz archive | theirs |
| transformer:NAME | a model of the package sentence-transformers | its |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aligndraw.arguments import check_path
from aligndraw.files import load_archive, reading
from aligndraw.printable import counted
from aligndraw.text.skipthoughts import SkipThoughts
from aligndraw.text.vocabulary import CaptionError, Vocabulary, check_captions

KINDS = "caption, combined-skip:DIR, uni-skip:DIR, bi-skip:DIR, vectors:FILE or transformer:NAME"
_BATCH_SIZE = 256  # captions


class SentenceEncoder(Protocol):
    """Encodes captions as vectors.

    Attributes:
        units: d.
    """

    @property
    def units(self) -> int: ...

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Returns float32 [n, d] on the CPU, one row per caption.

        Raises:
            CaptionError: a lone string, no captions, or one that it cannot encode.
        """
        ...


def open_encoder(
    specification: str, language: nn.Module | None = None, vocabulary: Vocabulary | None = None
) -> SentenceEncoder:
    """Returns the encoder of a specification in the table above.

    Args:
        language, vocabulary: of a model, for "caption".

    Raises:
        ValueError: there is no such encoder, it needs a model or a package that is missing, or its files are damaged.
        FileNotFoundError: its files are missing.
    """
    kind, _, where = specification.partition(":") if isinstance(specification, str) else ("", "", "")
    if specification == "caption":
        if language is None or vocabulary is None:
            raise ValueError("sentences 'caption' are those of a model, and none is given")
        return CaptionState(language, vocabulary)
    if where and kind.endswith("-skip"):
        return SkipThoughts(where, kind.removesuffix("-skip"))
    if where and kind == "vectors":
        return StoredVectors(where)
    if where and kind == "transformer":
        return Transformer(where)
    raise ValueError(f"sentences must be {KINDS}, got {specification!r}")


def absolute_specification(specification: str) -> str:
    """Returns the specification with an absolute path."""
    kind, _, where = specification.partition(":")
    if where and (kind == "vectors" or kind.endswith("-skip")):
        return f"{kind}:{os.path.abspath(where)}"
    return specification


class CaptionState:
    """The last states of a model's language LSTM, in both directions.

    Args:
        language: an `aligndraw.model.language.LanguageModel`.
    """

    def __init__(self, language: Any, vocabulary: Vocabulary) -> None:
        self._language, self._vocabulary = language, vocabulary
        self.units = 2 * int(language.h0.shape[0])

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """As `SentenceEncoder`; a `CaptionError` names unknown words, unless the vocabulary has `UNKNOWN`."""
        captions = check_captions(captions)
        # The language model of the released conventions mixes the captions of a batch.
        batch_size = 1 if getattr(self._language, "released", False) else _BATCH_SIZE
        device = next(self._language.parameters()).device
        rows = []
        for i in range(0, len(captions), batch_size):
            ids, lengths = self._vocabulary.encode_batch(captions[i : i + batch_size])
            rows.append(self._language(ids.to(device), lengths.to(device))[1].float().cpu())
        return torch.cat(rows)


class StoredVectors:
    """Vectors of an .npz archive: `captions`, strings [n], and `vectors`, floats [n, d], one per caption."""

    def __init__(self, path: str | Path) -> None:
        self._path = check_path("path", path)
        with reading(path, "no .npz archive of captions and vectors"):
            captions, vectors = load_archive(path, "captions", "vectors")
            if vectors.dtype.kind != "f":
                raise ValueError(f"vectors must hold floating-point numbers, got {vectors.dtype}")
            self._vectors = torch.from_numpy(vectors).float()
            if captions.dtype.kind != "U":
                raise ValueError(f"captions must be text, got {captions.dtype}")
        if self._vectors.dim() != 2 or captions.shape != self._vectors.shape[:1]:
            raise ValueError(
                f"{path} must hold captions [n] and vectors [n, d], "
                f"got {list(captions.shape)} and {list(self._vectors.shape)}"
            )
        bad = (~self._vectors.isfinite().all(1)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{path} must hold finite numbers, got others in {len(bad)} of {counted(len(captions), 'vector')}: "
                f"the first is row {bad[0]}, of the caption {str(captions[bad[0]])!r}"
            )
        self._rows = {str(caption): i for i, caption in enumerate(captions)}
        self.units = int(self._vectors.shape[1])

    def encode(self, captions: Sequence[str]) -> Tensor:
        """As `SentenceEncoder`."""
        captions = check_captions(captions)
        for caption in captions:
            if caption not in self._rows:
                raise CaptionError(f"{self._path} has no vector of the caption {caption!r}")
        return self._vectors[[self._rows[caption] for caption in captions]]


class Transformer:
    """A model of the package sentence-transformers, by name or folder."""

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ValueError(
                "sentences 'transformer' need the package sentence-transformers: "
                f'pip install "aligndraw[sentences]" ({error})'
            ) from error
        self._model = SentenceTransformer(name, device="cpu")
        self.units = int(self._model.get_sentence_embedding_dimension())

    def encode(self, captions: Sequence[str]) -> Tensor:
        """As `SentenceEncoder`."""
        return torch.from_numpy(self._model.encode(check_captions(captions), convert_to_numpy=True)).float()
