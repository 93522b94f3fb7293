"""Captions as words and word ids."""

from aligndraw.text.vocabulary import MAX_WORDS, CaptionError, Vocabulary

__all__ = ["MAX_WORDS", "CaptionError", "Vocabulary"]
