"""A vocabulary as a file that Hugging Face's `tokenizers` reads, and back; neither way needs that library.

`tokenizers.Tokenizer.from_file(path).encode(caption).ids` is then `Vocabulary.encode(caption, unknown=UNKNOWN)` for a
caption that ends in a full stop, whose numbers are spelt as in the vocabulary.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aligndraw.text.vocabulary import TOKEN, UNKNOWN, Vocabulary


def write_tokenizer(vocabulary: Vocabulary, path: str | os.PathLike[str]) -> None:
    """Writes a word-level tokenizer: lower case, words and punctuation marks, `UNKNOWN` for what is not in it.

    Raises:
        OSError: the file cannot be written.
    """
    ids = {word: i for i, word in enumerate(vocabulary.words)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = {"id": ids.get(UNKNOWN), "content": UNKNOWN, **flags, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special] if UNKNOWN in ids else [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": TOKEN.pattern}, "behavior": "Removed", "invert": True},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN},
    }
    Path(path).write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_tokenizer(path: str | os.PathLike[str]) -> Vocabulary:
    """The words of a word-level tokenizer, whose ids must be 0, 1, 2, ...

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    try:
        model: Any = json.loads(Path(path).read_bytes())["model"]
        if model["type"] != "WordLevel":
            raise ValueError(f"its type is {model['type']!r}")
        ids = sorted((i, word) for word, i in model["vocab"].items())
        if [i for i, _ in ids] != list(range(len(ids))):
            raise ValueError("its ids are not 0, 1, 2, ...")
        return Vocabulary(tuple(word for _, word in ids))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} must be a word-level tokenizer in JSON: {told}") from error
