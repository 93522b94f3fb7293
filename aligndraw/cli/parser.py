"""The parser of the command line. It imports only the standard library."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from aligndraw.printable import one_line


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line and accepts no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Prints the error and ends the process with status 2."""
        self.exit(2, f"aligndraw: error: {one_line(message)} (see `{self.prog} --help`)\n")
