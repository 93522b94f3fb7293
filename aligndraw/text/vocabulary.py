"""Vocabularies: a model's words, and captions as lists of word ids."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aligndraw.printable import counted, escape
from aligndraw.text.words import ENDING, RULE, legacy_rule, word_rule, words_of

# Several times the longest caption of the usual sets (COCO's has 57 words).
MAX_WORDS = 256
MAX_LETTERS = 4096  # of a caption, without white space; a sheet shows it whole
UNKNOWN = "[UNK]"  # stands for all words outside a vocabulary

_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()
_OTHER_SPELLING = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}
_OTHER_SPELLING |= {numeral: word for word, numeral in _OTHER_SPELLING.items()}

_HALF = re.compile("[\ud800-\udfff]")  # Python reads bytes that are not UTF-8 as such, too
_WITH_ENDING = re.compile(rf"(.+)(n['’]t|{ENDING})")


class CaptionError(ValueError):
    """A caption that the vocabulary cannot express; the message is one line.

    Attributes:
        unknown: the words that the vocabulary lacks.
    """

    def __init__(self, message: str, unknown: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.unknown = tuple(unknown)


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of words; the id of a word is its position.

    Captions are lower-cased, punctuation is split off and white space is ignored (`aligndraw.text.words`). A number up
    to twenty may be a word or a numeral: "seven" and "7" both mean the one in the vocabulary. The final "." is
    optional. Where "man's" is unknown but "man" and "'s" are known, it is read as the two, and "don't" as "do" and
    "n't".

    Args:
        words: distinct, non-empty and free of white space.
        rule: that splits captions into words, 1 or 2; 1 is for vocabularies of version 0.1.
        synonyms: words or phrases that captions may have instead: each is read as the given words of the vocabulary,
            or left out where there are none, "". A longer phrase comes before a shorter one, a phrase before its words,
            and a word of the vocabulary before a synonym. `remark` names them. Vocabularies of the same words and rule
            are equal.
    """

    words: tuple[str, ...]
    rule: int = RULE
    synonyms: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        words = self.words
        if not isinstance(words, tuple) or not words:
            got = "an empty tuple" if words == () else type(words).__name__
            raise ValueError(f"words must be a tuple of at least one word, got {got}")
        for word in words:
            if not isinstance(word, str) or word.split() != [word]:
                raise ValueError(f"words must be strings free of white space, got {word!r}")
        if len(self._ids) != len(words):
            twice = next(word for i, word in enumerate(words) if self._ids[word] != i)
            raise ValueError(f"words must be distinct, got {twice!r} more than once")
        word_rule(self.rule)
        if not isinstance(self.synonyms, Mapping):
            raise ValueError(f"synonyms must be a mapping of words, got {type(self.synonyms).__name__}")
        for phrase, known in self.synonyms.items():
            if not isinstance(phrase, str) or not phrase or " ".join(phrase.split()) != phrase:
                raise ValueError(f"synonyms must be strings of words with one space between them, got {phrase!r}")
            if not isinstance(known, str) or any(word not in self._ids for word in known.split()):
                raise ValueError(f'synonym {phrase!r} must be read as words of the vocabulary or as "", got {known!r}')

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def _find(self, word: str) -> int | None:
        return self._ids.get(word, self._ids.get(_OTHER_SPELLING.get(word, "")))

    def _parts(self, token: str) -> list[str]:
        """Returns a token, or its two parts where only they are known."""
        match = None if token in self._ids else _WITH_ENDING.fullmatch(token)
        parts = [match[1], match[2].replace("’", "'")] if match else []
        return parts if parts and all(part in self._ids or part in self.synonyms for part in parts) else [token]

    def extended(self, other: Vocabulary) -> Vocabulary:
        """Returns the vocabulary with the words of another one that it cannot express, after its own.

        Captions in its own words keep their ids, unless "." is among the new words, which then ends every caption.

        Raises:
            ValueError: the other one splits captions by another rule.
        """
        if other.rule != self.rule:
            raise ValueError(f"rule must be {self.rule} to extend a vocabulary of this rule of words, got {other.rule}")
        new = (word for word in other.words if any(self._find(part) is None for part in self._parts(word)))
        return replace(self, words=(*self.words, *new))

    def has_words(self, other: Vocabulary) -> bool:
        """Returns whether the vocabulary can express all words of another one of the same rule."""
        return self.rule == other.rule and len(self.extended(other)) == len(self)

    def index(self, word: str) -> int:
        """Returns the id that `encode` gives a word; raises CaptionError if it is unknown or no string."""
        if not isinstance(word, str):
            raise CaptionError(f"word must be a string, got {type(word).__name__}")
        found = self._find(word)
        if found is None:
            raise CaptionError(f"unknown word {_quote(word)}; {self._hint([word])}")
        return found

    def encode(self, caption: str, max_words: int = MAX_WORDS, unknown: str | None = None) -> list[int]:
        """Returns the ids of a caption's words, with a final "." where the vocabulary has one.

        Args:
            caption: any text.
            max_words: most words of a caption.
            unknown: a word of the vocabulary that stands for unknown ones; None for `[UNK]`, or to refuse them where
                the vocabulary does not have it.

        Raises:
            CaptionError: as `check_captions`; without words, longer than `max_words`, or with unknown words, which are
                all named with the nearest words of the vocabulary.
        """
        tokens = self._tokens(caption)
        if not tokens:
            raise CaptionError(f"caption must hold at least one word, got {_quote(caption)}")
        if tokens[-1] != "." and "." in self._ids:
            tokens.append(".")
        if len(tokens) > max_words:
            raise CaptionError(
                f"caption must have at most {counted(max_words, 'word')}, got {len(tokens)}: {_quote(caption)}"
            )
        ids = [self._find(token) for token in tokens]
        instead = self._ids.get(UNKNOWN) if unknown is None else self.index(unknown)
        known = [i for i in (instead if i is None else i for i in ids) if i is not None]
        if len(known) < len(ids):
            raise self._unknown_error(caption, self.unknown_words(caption))
        return known

    def unknown_words(self, caption: str) -> list[str]:
        """Returns the distinct words of a caption that the vocabulary lacks, in order; CaptionError as `encode`."""
        return list(dict.fromkeys(token for token in self._tokens(caption) if self._find(token) is None))

    def remark(self, caption: str) -> str:
        """Returns one line that names the words of a caption that become `[UNK]`, another word or none; "" if none do.

        Raises:
            CaptionError: as `encode`.
        """
        self.encode(caption)
        if strange := self.unknown_words(caption):
            return f"{UNKNOWN} stands for the {self._unknown_error(caption, strange)}"
        notes = (
            f"{_quote(phrase)} is {f'read as {_quote(known)}' if known else 'left out'}"
            for phrase, known in dict(self._read(caption)).items()
            if known is not None and phrase not in ",;:"  # nobody misses these
        )
        found = ", ".join(notes)
        return f"caption {_quote(caption)}: {found}" if found else ""

    def check_known(self, captions: Iterable[str]) -> None:
        """Raises CaptionError for the first caption with an unknown word, also where `[UNK]` stands for it."""
        for caption in check_several(captions):
            if strange := self.unknown_words(caption):
                raise self._unknown_error(caption, strange)

    def _tokens(self, caption: str) -> list[str]:
        _check_caption(caption)
        return [word for part, known in self._read(caption) for word in ([part] if known is None else known.split())]

    @cached_property
    def _longest(self) -> int:
        """The words of the longest synonym."""
        return max((len(phrase.split()) for phrase in self.synonyms), default=1)

    def _read(self, caption: str) -> Iterator[tuple[str, str | None]]:
        """Yields the words and phrases of a caption, each with the words that it is read as; None for itself."""
        parts = [part for token in words_of(caption, self.rule) for part in self._parts(token)]
        at = 0
        while at < len(parts):
            for count in range(min(self._longest, len(parts) - at), 0, -1):
                phrase = " ".join(parts[at : at + count])
                known = None if self._find(phrase) is not None else self.synonyms.get(phrase)
                if known is not None or count == 1:
                    yield phrase, known
                    at += count
                    break

    def _unknown_error(self, caption: str, words: Sequence[str]) -> CaptionError:
        found = f"unknown word{'s' * (len(words) > 1)} {_quote_all(words)} in caption {_quote(caption)}"
        return CaptionError(f"{found}; {self._hint(words)}", words)

    def encode_batch(
        self, captions: Sequence[str], max_words: int = MAX_WORDS, unknown: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns word ids int64 [B, N], padded on the right with 0, and lengths int64 [B].

        Raises:
            CaptionError: as `encode`; also for a lone string or no captions at all.
        """
        rows = [self.encode(caption, max_words, unknown) for caption in check_captions(captions)]
        longest = max(map(len, rows))
        padded = [row + [0] * (longest - len(row)) for row in rows]
        return torch.tensor(padded), torch.tensor([len(row) for row in rows])

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Returns the words of ids joined by spaces: of a padded row [N], pass `row[:length]`.

        Raises:
            ValueError: an id outside 0 … len(self) - 1; or bytes or text, whose characters are no ids.
        """
        if isinstance(ids, (str, bytes, bytearray, memoryview)):
            raise ValueError(f"ids must be whole numbers, got {type(ids).__name__}")
        words = []
        for i in map(operator.index, ids):
            if not 0 <= i < len(self):
                raise ValueError(f"ids must be in 0…{len(self) - 1}, got {i}")
            words.append(self.words[i])
        return " ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Returns a form that `json.dumps` accepts and `from_dict` reads."""
        synonyms = {"synonyms": dict(self.synonyms)} if self.synonyms else {}
        return {"words": list(self.words), "rule": self.rule, **synonyms}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | list[str]) -> Vocabulary:
        """Returns the vocabulary of a `to_dict` of any version.

        Without a rule, or the list of words alone, in earlier ones.

        Raises:
            ValueError: it is anything else.
        """
        data = {"words": data} if isinstance(data, list) else data
        if not isinstance(data, Mapping) or not {"words"} <= set(data) <= {"words", "rule", "synonyms"}:
            got = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(
                f'a vocabulary must be a mapping with the keys "words", "rule" and "synonyms" alone, got {got}'
            )
        words = data["words"]
        if not isinstance(words, (list, tuple)):
            raise ValueError(f"words must be a list, got {type(words).__name__}")
        vocabulary = cls(tuple(words), data.get("rule", RULE), data.get("synonyms", {}))
        return vocabulary if "rule" in data else replace(vocabulary, rule=legacy_rule(words))

    def _hint(self, unknown: Sequence[str]) -> str:
        size = f"the vocabulary has {counted(len(self), 'word')}"
        words = [word for word in self.words if word != UNKNOWN]  # which no caption can hold
        near = {
            # Cut, because comparing takes time in proportion to the length.
            word: difflib.get_close_matches(word[:40], words, cutoff=0.5)
            for word in unknown[:8]
        }
        near = {word: matches for word, matches in near.items() if matches}
        if not near:
            sample = words[:: max(1, len(words) // 8)][:8]
            return f"{size}, such as {_quote_all(sample)}" if words else size
        if len(unknown) == 1:
            return f"{size}, nearest: {_quote_all(near[unknown[0]])}"
        pairs = (f"{_quote_all(matches)} for {_quote(word)}" for word, matches in near.items())
        return f"{size}, nearest: {'; '.join(pairs)}"


def check_captions(captions: Iterable[str]) -> list[str]:
    """Returns the captions as a list.

    Raises:
        CaptionError: a lone string, whose letters would count as captions, or bytes; no captions; or one that is no
            string or has a fault of `text_fault`.
    """
    several = list(check_several(captions))
    for caption in several:
        _check_caption(caption)
    if not several:
        raise CaptionError("captions must hold at least one caption, got none")
    return several


def text_fault(text: object) -> str:
    """Returns why a text can be no caption, such as "has half a character"; "" where it can."""
    if not isinstance(text, str):
        return f"is no text but {type(text).__name__}"
    if _HALF.search(text):
        return "has half a character, or a byte that is not UTF-8"
    letters = sum(map(len, text.split()))
    return f"has {letters} letters, more than {MAX_LETTERS}" if letters > MAX_LETTERS else ""


def check_several(captions: Iterable[str]) -> Iterable[str]:
    """Returns captions; raises CaptionError for one string, for bytes, or where they are no list."""
    if isinstance(captions, str):
        raise CaptionError(f"captions must be a list of strings, got one string: use [{_quote(captions)}]")
    if isinstance(captions, (bytes, bytearray, memoryview)) or not isinstance(captions, Iterable):
        raise CaptionError(f"captions must be a list of strings, got {type(captions).__name__}")
    return captions


def _check_caption(caption: str) -> None:
    if not isinstance(caption, str):
        raise CaptionError(f"caption must be a string, got {type(caption).__name__}")
    if fault := text_fault(caption):
        raise CaptionError(f"caption {fault}: {_quote(caption)}")


def _quote(text: str, limit: int = 60) -> str:
    """Returns the text in double quotes, on one line, cut to the limit."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else line[: limit - 3] + "..."
    quoted = line.replace("\\", "\\\\").replace('"', '\\"')
    return escape(f'"{quoted}"')


def _quote_all(words: Iterable[str]) -> str:
    return ", ".join(map(_quote, words))
