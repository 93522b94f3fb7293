"""Text of the outside world, such as names of files and captions, for terminals, messages and text files."""

from __future__ import annotations

import re

# Control characters, the ends of lines and paragraphs, what turns the direction of writing, halves of characters.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def escape(text: object) -> str:
    """The text of an object in one line, with escapes for all characters that a terminal obeys rather than shows."""
    return _OBEYED.sub(_escape, str(text))


def one_line(text: object) -> str:
    """`escape`, with one space for white space of any length, ends of lines among it."""
    return escape(" ".join(str(text).split()))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code < 0xDD00:  # a byte of a file's name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]
