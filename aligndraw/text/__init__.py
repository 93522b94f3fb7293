"""Captions as words and word ids."""

from aligndraw.text.tokenizer_json import read_tokenizer, write_tokenizer
from aligndraw.text.vocabulary import MAX_WORDS, UNKNOWN, CaptionError, Vocabulary, text_fault
from aligndraw.text.word_pairs import WordPairs
from aligndraw.text.words import words_of

__all__ = [
    "MAX_WORDS",
    "UNKNOWN",
    "CaptionError",
    "Vocabulary",
    "WordPairs",
    "read_tokenizer",
    "text_fault",
    "words_of",
    "write_tokenizer",
]
