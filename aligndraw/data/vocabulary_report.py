"""A report on the words of captioned images: how often each comes, which are unknown, and how long captions are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from aligndraw.data.captioned import CaptionedImages, CaptionedSplit
from aligndraw.printable import counted, escape
from aligndraw.text import UNKNOWN, words_of

REPORT = "vocabulary.txt"
_TOGETHER = 4096  # captions that are read together
MIN_COUNTS = (1, 2, 3, 5, 10, 20)  # values of --min-count whose effect is shown
_PERCENTILES = {"shortest": 0, "median": 50, "95 % have at most": 95, "longest": 100}


@dataclass(frozen=True)
class VocabularyReport:
    """The words of captioned images.

    Attributes:
        counts: of each word in the training captions, the most frequent first.
        known: the words of the vocabulary.
        lengths: of each number of words, the training captions that have it, the shortest first.
        unknown: of each other split, the share of its words that are not in the vocabulary.
    """

    counts: Mapping[str, int]
    known: frozenset[str]
    lengths: Mapping[int, int]
    unknown: Mapping[str, float]

    @classmethod
    def of(cls, data: CaptionedImages) -> VocabularyReport:
        """Returns the report on a folder whose first split is that of training."""
        first, *others = data.sizes
        counts: Counter[str] = Counter()
        lengths: Counter[int] = Counter()
        for caption in data.split(first).all_captions():
            words = words_of(caption)
            counts.update(words)
            lengths[len(words)] += 1
        ordered = dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
        return cls(
            ordered,
            frozenset(data.vocabulary.words) - {UNKNOWN},
            dict(sorted(lengths.items())),
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
        low, middle, high = map(self._length, (0, 50, 100))
        return (
            f"{counted(len(self.counts), 'different word')} in training, {once:,} of them once; {len(unknown):,} "
            f"of them, "
            f"{100 * share:.1f} % of the text, become {UNKNOWN}; captions of {low} to {high} words, median {middle}"
        )

    def text(self) -> str:
        """Returns the report as text: the summary, the effect of --min-count, lengths, and each word with its count."""
        return "\n".join((self.summary(), "", *self._tables(), "", *self._words())) + "\n"

    def _length(self, percentile: int) -> int:
        """Returns the length of the caption that has this share of the others below it."""
        counts = np.cumsum(list(self.lengths.values()))
        place = np.searchsorted(counts, (int(counts[-1]) - 1) * percentile // 100, "right")
        return list(self.lengths)[int(place)]

    def _tables(self) -> Iterator[str]:
        yield "--min-count      words kept   of the text"
        for count in MIN_COUNTS:
            words, share = self.kept(count)
            yield f"{count:11}{words:16,}{100 * share:12.1f} %"
        yield ""
        for name, percentile in _PERCENTILES.items():
            number, word = counted(self._length(percentile), "word").split()
            yield f"{name:>20} {number:>4} {word}"
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
    unknown, words, strange = split.vocabulary.index(UNKNOWN), 0, 0
    for start in range(0, len(split), _TOGETHER):
        ids, lengths = split.texts(slice(start, start + _TOGETHER))
        strange += int((ids[np.arange(ids.shape[1]) < lengths[:, None]] == unknown).sum())
        words += int(lengths.sum())
    return strange / words
