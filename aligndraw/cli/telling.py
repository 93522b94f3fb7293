"""Printing to the terminal, for all commands."""

from __future__ import annotations

import sys

from aligndraw.printable import escape


def tell(*lines: object, error: bool = False, flush: bool = False) -> None:
    """Prints lines, with escapes for control characters and line ends, which names and captions may contain.

    Args:
        error: prints to stderr.
        flush: flushes the stream.
    """
    shown = "\n".join(map(escape, lines))
    print(shown, file=sys.stderr if error else sys.stdout, flush=flush)
