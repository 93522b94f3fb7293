"""The one way in which commands print."""

from __future__ import annotations

import sys

from aligndraw.printable import escape


def tell(text: object, error: bool = False, flush: bool = False) -> None:
    """Prints lines, with escapes for what a terminal would obey: they may have names and captions in them.

    Args:
        error: to stderr.
        flush: at once.
    """
    shown = "\n".join(map(escape, str(text).split("\n")))
    print(shown, file=sys.stderr if error else sys.stdout, flush=flush)
