"""What a word of a caption is. Our ids and the tokenizer files that we write share this one definition.

By rule 2, the present one, hidden characters are left out, and the text is in lower case and normal form C.
A word is then

- a run of letters, marks and digits, with apostrophes and hyphens inside: "dog's", "हिन्दी";
- a letter with its marks, of a script that puts no space between words: "猫", "ที่";
- any other character with its marks: ".", "€".

Rule 1 is that of earlier versions: `\\w` and `str.lower` of Python. It splits a word at each combining mark and follows
the version of Unicode that Python has. Vocabularies made by it keep it, unless both rules read their words alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from aligndraw.text.characters import FINAL_SIGMA, HIDDEN, LETTER, MARK, REPLACEMENT, SPACE, UNSETTLED, normalized

# What the Penn Treebank splits off a word: "man 's", "do n't".
ENDING = r"['’](?:s|re|ve|ll|d|m)"


@dataclass(frozen=True)
class WordRule:
    """How a text is split.

    Args:
        number: of the rule.
        lowered: puts a text into lower case.
        kept: the same, but for upper and lower case.
        letter: a character of a word that may have several, as a regular expression.
        visible: all but white space.
        single: a word of one letter or symbol.
        normalizer: `lowered` in the words of the library `tokenizers`.
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
        """A word: an ending that stands alone, a word with its inner apostrophes and hyphens, or a single one."""
        alone = rf"(?<!{self.visible}){ENDING}(?!{self.visible})"
        return rf"{alone}|{self.letter}+(?:['’-]{self.letter}+)*|{self.single}"

    @cached_property
    def find(self) -> Callable[[str], list[str]]:
        """All words of a text in lower case."""
        return re.compile(self.pattern).findall

    @cached_property
    def find_treebank(self) -> Callable[[str], list[str]]:
        """All words as the Penn Treebank has them: "don't" is do n't, "it's" is it 's; "3,000.5" is one."""
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
    """A rule by its number.

    Raises:
        ValueError: there is none.
    """
    if type(number) is not int or number not in _RULES:  # True is 1, too
        known = ", ".join(map(str, _RULES))
        raise ValueError(f"rule must be one of {known}, got {number!r}: words of a later version of aligndraw need it")
    return _RULES[number]


def words_of(caption: str, rule: int = RULE) -> list[str]:
    """A caption's words in lower case, its punctuation marks among them."""
    found = word_rule(rule)
    return found.find(found.lowered(caption))


def treebank_words(sentence: str, rule: int = RULE) -> list[str]:
    """A sentence's words as the Penn Treebank has them, upper and lower case kept, as skip-thoughts are trained."""
    found = word_rule(rule)
    return found.find_treebank(found.kept(sentence))


def legacy_rule(words: Sequence[str]) -> int:
    """The rule for words that an earlier version stored: the newest that reads them and their characters alike."""
    strange = [word for word in words if not word.isascii()]
    among = (f"a{character}a" for character in sorted(set("".join(strange))))
    text = " ".join((*strange, *among))
    return next(rule for rule in sorted(_RULES, reverse=True) if words_of(text, rule) == words_of(text, 1))
