"""Examples with sentence vectors in place of word ids.

The rounding of a vector may depend on the captions in its batch, and a resumed training must see the same bits. So a
`_Table` encodes captions in blocks that depend on its list of captions alone: all captions of a data set where their
vectors fit into `CACHE_BYTES`, else those of one epoch, in order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.data.batches import Examples, Source
from aligndraw.text import Vocabulary
from aligndraw.text.sentences import SentenceEncoder

CACHE_BYTES = 1 << 30  # of the vectors that a table keeps
BLOCK = 256  # captions encoded together


class SentenceReader:
    """Encodes captions for a model with `sentence_units`, as a `Vocabulary` does for other models."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.units = encoder.units

    def encode_batch(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns vectors float32 [B, d], and lengths int64 [B], all 1.

        Raises:
            CaptionError: the encoder cannot read a caption.
        """
        return self._encoder.encode(captions), torch.ones(len(captions), dtype=torch.int64)

    def source(self, source: Source) -> Source:
        """Returns the source with sentence vectors."""
        captions = source.all_captions()
        limit = _max_blocks(self._encoder) * BLOCK
        few = None if captions is None else _distinct(captions, limit)
        return _Source(source, self._encoder, None if few is None else _Table(self._encoder, few))

    def examples(self, examples: Examples) -> Examples:
        """Returns the examples with sentence vectors."""
        return _Examples(examples, _Table(self._encoder, examples.captions()))


class _Table:
    """Vectors of captions, encoded block by block at their first use."""

    def __init__(self, encoder: SentenceEncoder, captions: Sequence[str]) -> None:
        self._encoder, self._captions = encoder, list(dict.fromkeys(captions))
        self._rows = {caption: row for row, caption in enumerate(self._captions)}
        self._blocks: OrderedDict[int, Tensor] = OrderedDict()
        self._max_blocks = _max_blocks(encoder)

    def __call__(self, captions: Sequence[str]) -> NDArray[np.float32]:
        vectors = [self._block(self._rows[c] // BLOCK)[self._rows[c] % BLOCK] for c in captions]
        return torch.stack(vectors).numpy()

    def _block(self, number: int) -> Tensor:
        if number not in self._blocks:
            if len(self._blocks) >= self._max_blocks:
                self._blocks.popitem(last=False)
            self._blocks[number] = self._encoder.encode(self._captions[number * BLOCK : (number + 1) * BLOCK])
        return self._blocks[number]


def _max_blocks(encoder: SentenceEncoder) -> int:
    """Returns the number of blocks of vectors that fit into the cache."""
    return max(2, CACHE_BYTES // (4 * encoder.units * BLOCK))


def _distinct(captions: Iterable[str], limit: int) -> list[str] | None:
    """Returns the distinct captions in order; None where they are more than a limit, before all are in memory."""
    found: dict[str, None] = {}
    for caption in captions:
        found[caption] = None
        if len(found) > limit:
            return None
    return list(found)


class _Examples:
    def __init__(self, examples: Examples, table: _Table) -> None:
        self._examples, self._table = examples, table

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, index: slice) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        pictures, _, _ = self._examples.batch(index)
        return pictures, self._table(self.captions(index)), np.ones(len(pictures), np.int64)

    def captions(self, index: slice = slice(None)) -> list[str]:
        return self._examples.captions(index)


class _Source:
    def __init__(self, source: Source, encoder: SentenceEncoder, table: _Table | None) -> None:
        self._source, self._encoder, self._table = source, encoder, table

    @property
    def vocabulary(self) -> Vocabulary:
        return self._source.vocabulary

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> Examples:
        examples = self._source.epoch(seed, epoch, size)
        return _Examples(examples, self._table or _Table(self._encoder, examples.captions()))

    def all_captions(self) -> Sequence[str] | None:
        return self._source.all_captions()
