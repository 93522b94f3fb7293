"""The parser of the command line. It imports only the standard library."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from typing import Any, NoReturn

from aligndraw.printable import one_line


class _Help(argparse.HelpFormatter):
    """Breaks lines between words alone, so that names such as bi-skip:DIR stay whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line and accepts no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **settings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As in argparse, with the nearest choice in the message."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), 1)
            if near and "did you mean" not in error.message:
                error.message = error.message.replace(" (choose", f", did you mean {near[0]!r}? (choose", 1)
            raise

    def error(self, message: str) -> NoReturn:
        """Prints the error and ends the process with status 2."""
        self.exit(2, f"aligndraw: error: {one_line(message)} (see `{self.prog} --help`)\n")
