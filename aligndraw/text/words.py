"""The definition of a word, which our ids and our tokenizer files share.

By rule 2, the present one, hidden characters are left out, and the text is in lower case and normal form C.
A word is then

- a run of letters, marks and digits, with apostrophes and hyphens inside: "dog's", "हिन्दी";
- a letter with its marks, of a script without spaces between words: "猫", "ที่";
- any other character with its marks: ".", "€".

Rule 1 is that of version 0.1: Python's `\\w` and `str.lower`. It splits a word at each combining mark and depends on
Python's version of Unicode. Vocabularies of rule 1 keep it, unless both rules read their words alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from aligndraw.text.characters import FINAL_SIGMA, HIDDEN, LETTER, MARK, REPLACEMENT, SPACE, UNSETTLED, normalized

# The endings that the Penn Treebank splits off: "man 's", "do n't".
ENDING = r"['’](?:s|re|ve|ll|d|m)"


@dataclass(frozen=True)
class WordRule:
    """A rule that splits text into words.

    Args:
        number: of the rule.
        lowered: normalises a text, in lower case.
        kept: normalises a text, with its case.
        letter: a regular expression for a character of a word of several characters.
        visible: a regular expression for any character but white space.
        single: a regular expression for a word of one letter or symbol.
        normalizer: `lowered` as a normalizer of the library `tokenizers`.
    """

    number: int
    lowered: Callable[[str], str]
    kept: Callable[[str], str]
    letter: str
    visible: str
    single: str
    normalizer: dict[str, Any]

    @property
    def pattern(self) -> str:
        """A word: an ending that stands alone, a word with its inner apostrophes and hyphens, or a single character."""
        alone = rf"(?<!{self.visible}){ENDING}(?!{self.visible})"
        return rf"{alone}|{self.letter}+(?:['’-]{self.letter}+)*|{self.single}"

    @cached_property
    def find(self) -> Callable[[str], list[str]]:
        """Finds all words of a text in lower case."""
        return re.compile(self.pattern).findall

    @cached_property
    def find_treebank(self) -> Callable[[str], list[str]]:
        """Finds all words as in the Penn Treebank: "don't" is do n't, "it's" is it 's; "3,000.5" is one."""
        w, end = self.letter, f"(?!{self.letter})"
        parts = (
            rf"{w}+?(?=(?i:n't){end})|(?i:n't){end}|(?i:'(?:s|re|ve|ll|d|m)){end}",
            rf"{w}+(?:-{w}+|(?<=\d)[.,]\d+)*|{self.single}",
        )
        return re.compile("|".join(parts)).findall


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


_RULES = {
    1: WordRule(1, str.lower, str, r"\w", r"\S", r"[^\w\s]", {"type": "Lowercase"}),
    2: WordRule(
        2,
        partial(normalized, lower=True),
        partial(normalized, lower=False),
        f"[{LETTER}]",
        f"[^{SPACE}]",
        f"[^{SPACE}][{MARK}]*",
        {
            "type": "Sequence",
            "normalizers": [
                _replace(f"[{HIDDEN}]", ""),
                _replace(f"[{UNSETTLED}]", REPLACEMENT),
                {"type": "Lowercase"},
                {"type": "NFC"},
                _replace(FINAL_SIGMA, "ς"),
            ],
        },
    ),
}
RULE = max(_RULES)


def word_rule(number: int) -> WordRule:
    """Returns a rule by its number.

    Raises:
        ValueError: there is none.
    """
    if type(number) is not int or number not in _RULES:  # True is 1, too
        known = ", ".join(map(str, _RULES))
        raise ValueError(f"rule must be one of {known}, got {number!r}: words of a later version of aligndraw need it")
    return _RULES[number]


def words_of(caption: str, rule: int = RULE) -> list[str]:
    """Returns a caption's words in lower case, punctuation marks included. Raises ValueError where it is no string."""
    found = word_rule(rule)
    _check_text(caption)
    return found.find(found.lowered(caption))


def treebank_words(sentence: str, rule: int = RULE) -> list[str]:
    """Returns a sentence's words as in the Penn Treebank, with their case, as skip-thoughts are trained.

    Raises ValueError where it is no string.
    """
    found = word_rule(rule)
    _check_text(sentence)
    return found.find_treebank(found.kept(sentence))


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ValueError(f"caption must be a string, got {type(text).__name__}")


def legacy_rule(words: Sequence[str]) -> int:
    """Returns the rule for words without a recorded rule.

    The newest that reads them and their characters as rule 1 does.
    """
    strange = [word for word in words if not word.isascii()]
    among = (f"a{character}a" for character in sorted(set("".join(strange))))
    text = " ".join((*strange, *among))
    return next(rule for rule in sorted(_RULES, reverse=True) if words_of(text, rule) == words_of(text, 1))
