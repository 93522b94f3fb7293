"""Training examples changed at random: mirrored pictures and unknown words, for data sets of few pictures.

Example i of an epoch is changed as (seed, epoch, i) determine, whatever its batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.data.batches import Examples, Resident, Source
from aligndraw.text import UNKNOWN, Vocabulary

_SIDES = re.compile(r"\b(?:left|right)", re.IGNORECASE)


class AugmentedSource:
    """The examples of a source, changed at random.

    Args:
        source: of examples with word ids; without `word_dropout` also with sentence vectors.
        flip: mirrors each picture left-right with probability 1/2, where its caption names neither left nor right.
        word_dropout: share of the words that become `[UNK]`, which the vocabulary must have.

    Raises:
        ValueError: the vocabulary has no `[UNK]`.
    """

    def __init__(self, source: Source, flip: bool, word_dropout: float) -> None:
        self._source, self._flip, self._dropout = source, flip, word_dropout
        self._unknown = source.vocabulary.index(UNKNOWN) if UNKNOWN in source.vocabulary.words else -1
        if word_dropout and self._unknown < 0:
            raise ValueError(f"word_dropout must be 0 for a vocabulary without {UNKNOWN}, got {word_dropout!r}")

    @property
    def vocabulary(self) -> Vocabulary:
        return self._source.vocabulary

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> Examples:
        """As `Source.epoch`."""
        examples = self._source.epoch(seed, epoch, size)
        kind = _AugmentedResident if isinstance(examples, Resident) else _Augmented
        return kind(examples, (seed, epoch), self._flip, self._dropout, self._unknown)

    def all_captions(self) -> Sequence[str] | None:
        """As `Source.all_captions`."""
        return self._source.all_captions()


class _Augmented:
    def __init__(self, examples: Any, seed: tuple[int, int], flip: bool, dropout: float, unknown: int) -> None:
        self._examples, self._seed, self._flip, self._dropout, self._unknown = examples, seed, flip, dropout, unknown

    def __len__(self) -> int:
        return len(self._examples)

    def captions(self, index: slice = slice(None)) -> list[str]:
        captions: list[str] = self._examples.captions(index)
        return captions

    def batch(self, index: slice) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.int64]]:
        pictures, words, lengths = self._examples.batch(index)
        mirrored = self._mirrored(index)[:, None, None, None]
        return np.where(mirrored, pictures[..., ::-1], pictures), self._dropped(words, lengths, index), lengths

    def _random(self, index: slice, stream: int, count: int) -> NDArray[np.float64]:
        """Returns numbers from 0 to 1, [B, count]; the two streams are independent."""
        rows = range(*index.indices(len(self)))
        return np.array([np.random.default_rng([*self._seed, i, stream]).random(count) for i in rows]).reshape(
            -1, count
        )

    def _mirrored(self, index: slice) -> NDArray[np.bool_]:
        """Returns whether each picture is mirrored, [B]."""
        if not self._flip:
            return np.zeros(len(range(*index.indices(len(self)))), np.bool_)
        neutral = np.array([_SIDES.search(caption) is None for caption in self.captions(index)], np.bool_)
        return neutral & (self._random(index, 0, 1)[:, 0] < 0.5)

    def _dropped(self, words: NDArray[Any], lengths: NDArray[np.int64], index: slice) -> NDArray[Any]:
        """Returns word ids [B, N] with some of the words replaced."""
        if not self._dropout:
            return words
        there = np.arange(words.shape[1]) < lengths[:, None]
        return np.where(there & (self._random(index, 1, words.shape[1]) < self._dropout), self._unknown, words)


class _AugmentedResident(_Augmented):
    """As `Resident`: a device mirrors the pictures that it composes."""

    @property
    def images(self) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = self._examples.images
        return images

    def texts(self, index: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        words, lengths = self._examples.texts(index)
        return self._dropped(words, lengths, index), lengths

    def parts(self, index: slice) -> tuple[NDArray[np.int64], ...]:
        return (*self._examples.parts(index), self._mirrored(index).astype(np.int64))

    def compose(self, images: Tensor, *parts: Tensor) -> Tensor:
        *others, mirrored = parts
        pictures: Tensor = self._examples.compose(images, *others)
        return torch.where(mirrored.bool()[:, None, None, None], pictures.flip(3), pictures)
