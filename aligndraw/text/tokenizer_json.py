"""Vocabularies as files of Hugging Face's `tokenizers`, written and read without that library.

`tokenizers.Tokenizer.from_file(path).encode(text).ids` are the ids of `words_of(text)`, with that of `UNKNOWN` for
other words, for any text and any version of Unicode in the library. Only `Vocabulary.encode` adds the full stop, knows
the other spelling of numbers, and splits endings off.
"""

from __future__ import annotations

import json
import os
from typing import Any

from aligndraw.arguments import check_path
from aligndraw.json_files import entry, naming, read_json
from aligndraw.text.vocabulary import UNKNOWN, Vocabulary
from aligndraw.text.words import RULE, legacy_rule, word_rule


def write_tokenizer(vocabulary: Vocabulary, path: str | os.PathLike[str]) -> None:
    """Writes a word-level tokenizer: lower case, words and punctuation marks, `UNKNOWN` for other words.

    Raises:
        OSError: the file cannot be written.
    """
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],  # the library would find them in the middle of words
        "normalizer": word_rule(vocabulary.rule).normalizer,
        "pre_tokenizer": _pre_tokenizer(vocabulary.rule),
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(vocabulary.words)},
            "unk_token": UNKNOWN,
        },
    }
    check_path("path", path).write_text(json.dumps(tokenizer, indent=1) + "\n", encoding="utf-8")


def _pre_tokenizer(rule: int) -> dict[str, Any]:
    pattern = word_rule(rule).pattern
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}


def read_tokenizer(path: str | os.PathLike[str]) -> Vocabulary:
    """Returns the words of a word-level tokenizer, whose ids must be 0, 1, 2, ...

    Words of an earlier version keep its rule, unless the newest rule reads them alike.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    with naming(check_path("path", path), "no word-level tokenizer in JSON"):
        tokenizer = read_json(check_path("path", path))
        model = entry(tokenizer, "model", dict)
        if entry(model, "type", str) != "WordLevel":
            raise ValueError(f"its type is {model['type']!r}")
        vocabulary = entry(model, "vocab", dict)
        ids = sorted((entry(vocabulary, word, int), word) for word in vocabulary)
        if [i for i, _ in ids] != list(range(len(ids))):
            raise ValueError("its ids are not 0, 1, 2, ...")
        words = tuple(word for _, word in ids)
        earlier = tokenizer.get("pre_tokenizer") == _pre_tokenizer(1)
        return Vocabulary(words, legacy_rule(words) if earlier else RULE)
