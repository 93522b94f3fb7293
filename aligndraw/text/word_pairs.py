"""The word pairs of training captions, which tell whether a caption is worded like them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MAX_NEW = 0.01  # the largest share of captions with a pair that the other captions lack, for the pairs to tell anything
SAME_USE = 0.5  # the share of a word's following words that a word of the same use has too
_START = ""  # stands before the first word of a caption


@dataclass(frozen=True)
class WordPairs:
    """The words that follow each word in training captions.

    Attributes:
        following: the words after each word, and after "" those that begin a caption.
    """

    following: dict[str, frozenset[str]]

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]]) -> WordPairs:
        """Returns the pairs of captions as words."""
        following: dict[str, set[str]] = {}
        for words in captions:
            for first, second in pairwise((_START, *_checked(words))):
                following.setdefault(first, set()).add(second)
        return cls({first: frozenset(seconds) for first, seconds in following.items()})

    @classmethod
    def closed(cls, captions: Sequence[Sequence[str]]) -> WordPairs | None:
        """Returns the pairs of a sample of captions; None where other captions would have many further ones.

        The second half of the sample stands for these other captions: at most `MAX_NEW` of them may have a pair that
        the first half lacks. Captions of templates pass, free ones do not.
        """
        half = len(captions) // 2
        first = cls.of(captions[:half])
        new = sum(any(not first._has(*pair) for pair in pairwise((_START, *words))) for words in captions[half:])
        return cls.of(captions) if half and new <= MAX_NEW * (len(captions) - half) else None

    def unlike(self, words: Sequence[str]) -> list[tuple[str, str]]:
        """Returns the pairs of a caption that are unlike those of training captions, ("", word) at its beginning.

        A pair is like them where it is one of them, or where one of them has the second word after a word of the same
        use: one that shares half the following words of the first. So "green bus" is like "red bus" and "green car".
        """
        return [pair for pair in pairwise((_START, *_checked(words))) if not self._is_like(*pair)]

    def _has(self, first: str, second: str) -> bool:
        return second in self.following.get(first, ())

    def _is_like(self, first: str, second: str) -> bool:
        own = self.following.get(first, frozenset())
        return second in own or any(
            second in others and len(own & others) >= max(1, SAME_USE * len(own)) for others in self.following.values()
        )

    def to_dict(self) -> dict[str, str]:
        """Returns a form that `json.dumps` accepts and `from_dict` reads: words, each with its following words."""
        return {first: " ".join(sorted(seconds)) for first, seconds in sorted(self.following.items())}

    @classmethod
    def from_dict(cls, data: Any) -> WordPairs:
        """Returns the pairs of a `to_dict`. Raises ValueError for anything else."""
        if not isinstance(data, dict) or not all(isinstance(seconds, str) for seconds in data.values()):
            raise ValueError("word_pairs must be an object of words, each with its following words as text")
        return cls({first: frozenset(seconds.split()) for first, seconds in data.items()})


def _checked(words: Sequence[str]) -> Sequence[str]:
    """Returns words; raises ValueError for text or bytes in one piece, whose characters would count as words."""
    if isinstance(words, (str, bytes, bytearray)):
        raise ValueError(f"words must be a list of strings, got {type(words).__name__}")
    return words
