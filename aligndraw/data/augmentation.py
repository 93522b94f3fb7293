"""Training examples changed at random, for data sets of few pictures.

Pictures are mirrored and shifted, and words become unknown or are left out. Example i of an epoch is changed as
(seed, epoch, i) determine, whatever its batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

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
        shift: most pixels by which a picture is shifted along each side; its edge pixels fill the gap.
        word_dropout: share of the words that become `[UNK]`. Where the vocabulary has none, they are left out; the
            first word stays where a caption would lose all.
    """

    def __init__(self, source: Source, *, flip: bool = False, shift: int = 0, word_dropout: float = 0.0) -> None:
        unknown = source.vocabulary.index(UNKNOWN) if UNKNOWN in source.vocabulary.words else -1
        self._source, self._changes = source, _Changes(flip, shift, word_dropout, unknown)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._source.vocabulary

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> Examples:
        """As `Source.epoch`."""
        examples = self._source.epoch(seed, epoch, size)
        kind = _AugmentedResident if isinstance(examples, Resident) else _Augmented
        return kind(examples, self._changes, (seed, epoch))

    def all_captions(self) -> Sequence[str] | None:
        """As `Source.all_captions`."""
        return self._source.all_captions()


class _Changes(NamedTuple):
    """The options of an `AugmentedSource`, and the id of `[UNK]`, or -1."""

    flip: bool
    shift: int
    word_dropout: float
    unknown: int


class _Augmented:
    def __init__(self, examples: Any, changes: _Changes, seed: tuple[int, int]) -> None:
        self._examples, self._changes, self._seed = examples, changes, seed

    def __len__(self) -> int:
        return len(self._examples)

    def captions(self, index: slice = slice(None)) -> list[str]:
        captions: list[str] = self._examples.captions(index)
        return captions

    def batch(self, index: slice) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.int64]]:
        pictures, words, lengths = self._examples.batch(index)
        moved = _moved(torch.from_numpy(np.array(pictures)), torch.from_numpy(self._moves(index)))
        return moved.numpy(), *self._dropped(words, lengths, index)

    def _random(self, index: slice, stream: int, count: int) -> NDArray[np.float64]:
        """Returns numbers from 0 to 1, [B, count]; those of other streams are independent."""
        rows = range(*index.indices(len(self)))
        found = [np.random.default_rng([*self._seed, i, stream]).random(count) for i in rows]
        return np.array(found).reshape(-1, count)

    def _moves(self, index: slice) -> NDArray[np.int64]:
        """Returns for each picture whether it is mirrored, and its shift in rows and columns, [B, 3]."""
        random, shift = self._random(index, 0, 3), self._changes.shift
        neutral = np.array([_SIDES.search(caption) is None for caption in self.captions(index)], np.bool_)
        mirrored = self._changes.flip & neutral & (random[:, 0] < 0.5)
        shifts = np.floor(random[:, 1:] * (2 * shift + 1)).astype(np.int64) - shift
        return np.column_stack([mirrored, shifts])

    def _dropped(
        self, words: NDArray[Any], lengths: NDArray[np.int64], index: slice
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Returns word ids [B, N] and lengths [B] with some of the words replaced, or left out."""
        if not self._changes.word_dropout:
            return words, lengths
        places = np.arange(words.shape[1])
        there = places < lengths[:, None]
        dropped = there & (self._random(index, 1, words.shape[1]) < self._changes.word_dropout)
        if self._changes.unknown >= 0:
            return np.where(dropped, self._changes.unknown, words), lengths
        kept = there & ~dropped
        kept[:, 0] |= ~kept.any(1)
        fewer = kept.sum(1)
        closed_up = np.take_along_axis(words, np.argsort(~kept, axis=1, kind="stable"), 1)
        return np.where(places < fewer[:, None], closed_up, 0), fewer


class _AugmentedResident(_Augmented):
    """As `Resident`: a device moves the pictures that it composes."""

    @property
    def images(self) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = self._examples.images
        return images

    def texts(self, index: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        words, lengths = self._examples.texts(index)
        return self._dropped(words, lengths, index)

    def parts(self, index: slice) -> tuple[NDArray[np.int64], ...]:
        return (*self._examples.parts(index), self._moves(index))

    def compose(self, images: Tensor, *parts: Tensor) -> Tensor:
        *others, moves = parts
        return _moved(self._examples.compose(images, *others), moves)


def _moved(pictures: Tensor, moves: Tensor) -> Tensor:
    """Returns pictures [B, C, H, W] mirrored and shifted by moves int64 [B, 3]."""
    mirrored, down, right = (part[:, None] for part in moves.unbind(1))
    height, width = pictures.shape[2:]
    rows = (torch.arange(height, device=moves.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=moves.device) - right).clamp(0, width - 1)
    columns = torch.where(mirrored > 0, width - 1 - columns, columns)
    shifted = pictures.gather(2, rows[:, None, :, None].expand(pictures.shape))
    return shifted.gather(3, columns[:, None, None, :].expand(pictures.shape))
