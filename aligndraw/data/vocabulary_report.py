"""A report on the words of captioned images: how often each comes, which are unknown, and how long captions are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.captioned import CaptionedImages, CaptionedSplit
from aligndraw.printable import escape
from aligndraw.text import UNKNOWN, words_of

REPORT = "vocabulary.txt"
MIN_COUNTS = (1, 2, 3, 5, 10, 20)  # values of --min-count whose effect is shown
_PERCENTILES = {"shortest": 0, "median": 50, "95 % have at most": 95, "longest": 100}


@dataclass(frozen=True)
class VocabularyReport:
    """The words of captioned images.

    Attributes:
        counts: of each word in the training captions, the most frequent first.
        known: the words of the vocabulary.
        lengths: int64 [k], words of each training caption.
        unknown: of each other split, the share of its words that are not in the vocabulary.
    """

    counts: Mapping[str, int]
    known: frozenset[str]
    lengths: NDArray[np.int64]
    unknown: Mapping[str, float]

    @classmethod
    def of(cls, data: CaptionedImages) -> VocabularyReport:
        """Returns the report on a folder whose first split is that of training."""
        first, *others = data.sizes
        captions = [words_of(caption) for caption in data.split(first).captions()]
        counts = Counter(word for words in captions for word in words)
        ordered = dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
        lengths = np.array([len(words) for words in captions], np.int64)
        return cls(
            ordered,
            frozenset(data.vocabulary.words) - {UNKNOWN},
            lengths,
            {split: _unknown_share(data.split(split)) for split in others},
        )

    def kept(self, min_count: int) -> tuple[int, float]:
        """Returns the number of words that come at least `min_count` times, and their share of the text."""
        kept = [count for count in self.counts.values() if count >= min_count]
        return len(kept), sum(kept) / max(1, sum(self.counts.values()))

    def summary(self) -> str:
        """Returns one line: different words, rare ones, unknown ones and the length of captions."""
        unknown = [count for word, count in self.counts.items() if word not in self.known]
        share = sum(unknown) / max(1, sum(self.counts.values()))
        once = sum(count == 1 for count in self.counts.values())
        low, middle, high = (int(np.percentile(self.lengths, p, method="lower")) for p in (0, 50, 100))
        return (
            f"{len(self.counts):,} different words in training, {once:,} of them once; {len(unknown):,} of them, "
            f"{100 * share:.1f} % of the text, become {UNKNOWN}; captions of {low} to {high} words, median {middle}"
        )

    def text(self) -> str:
        """Returns the report as text: the summary, the effect of --min-count, lengths, and each word with its count."""
        return "\n".join((self.summary(), "", *self._tables(), "", *self._words())) + "\n"

    def _tables(self) -> Iterator[str]:
        yield "--min-count      words kept   of the text"
        for count in MIN_COUNTS:
            words, share = self.kept(count)
            yield f"{count:11}{words:16,}{100 * share:12.1f} %"
        yield ""
        for name, percentile in _PERCENTILES.items():
            yield f"{name:>20} {int(np.percentile(self.lengths, percentile, method='lower')):4} words"
        for split, share in self.unknown.items():
            yield f"{100 * share:.1f} % of the words of {split} are unknown"

    def _words(self) -> Iterator[str]:
        yield f"count  word (* becomes {UNKNOWN})"
        for word, count in self.counts.items():
            yield f"{count:7,}  {escape(word)}{'' if word in self.known else ' *'}"


def _unknown_share(split: CaptionedSplit) -> float:
    """Returns the share of the words of a split that are not in the vocabulary."""
    if UNKNOWN not in split.vocabulary.words:
        return 0.0
    ids, lengths = split.texts(slice(None))
    there = np.arange(ids.shape[1]) < lengths[:, None]
    return float((ids[there] == split.vocabulary.index(UNKNOWN)).mean())
