"""Text for terminals, messages and files: escapes in names, captions and other input; numbers of things."""

from __future__ import annotations

import re

# Control characters, line and paragraph separators, marks that change the direction of writing, lone surrogates.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def escape(text: object) -> str:
    """Returns the text of an object in one line, with escapes for characters that control a terminal."""
    return _OBEYED.sub(_escape, str(text))


def one_line(text: object) -> str:
    """Returns `escape` of the text, with white space of any length, line ends included, as one space."""
    return escape(" ".join(str(text).split()))


def counted(number: int, thing: str, things: str = "") -> str:
    """Returns a number of things, such as "1 image" and "1,200 images".

    Args:
        thing: the singular.
        things: the plural, where it is not the singular with an s.
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code < 0xDD00:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]
