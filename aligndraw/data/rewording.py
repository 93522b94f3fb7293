"""Examples with the word ids of another vocabulary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.batches import Examples
from aligndraw.text import Vocabulary


class RewordedExamples:
    """Examples whose captions are read by another vocabulary.

    `CaptionError` comes from `batch` where the vocabulary lacks a word of a caption and has no `[UNK]`.
    """

    def __init__(self, examples: Examples, vocabulary: Vocabulary) -> None:
        self._examples, self._vocabulary = examples, vocabulary

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, index: slice) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """As `Examples`."""
        ids, lengths = self._vocabulary.encode_batch(self.captions(index))
        return self._examples.batch(index)[0], ids.numpy(), lengths.numpy()

    def captions(self, index: slice = slice(None)) -> list[str]:
        """As `Examples`."""
        return self._examples.captions(index)
