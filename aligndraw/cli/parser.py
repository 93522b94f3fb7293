"""The parser of the command line. It imports only the standard library."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable
from itertools import takewhile
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
        self._given: list[str] = []  # the arguments of the last call

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but reports unknown arguments itself: the parser of the whole line knows no command's."""
        self._given = list(sys.argv[1:] if args is None else args)
        namespace, rest = super().parse_known_args(self._given, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As in argparse, with the nearest choice in the message."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), 1)
            near = near or [name for name in self._option_string_actions if name == f"--{value}"]
            if near and "did you mean" not in error.message:
                error.message = error.message.replace(" (choose", f", did you mean {near[0]!r}? (choose", 1)
            raise

    def error(self, message: str) -> NoReturn:
        """Prints the error and ends the process with status 2.

        An unknown option comes before any other error, since argparse may take its value for another argument.
        """
        if unknown := list(map(self._hinted, self._unknown_options())):
            message = f"unrecognized arguments: {', '.join(unknown)}"
        self.exit(2, f"aligndraw: error: {one_line(message)} (see `{self.prog} --help`)\n")

    def _unknown_options(self) -> Iterable[str]:
        """Returns the options among the arguments that this parser lacks: of those before a command or "--"."""
        own = takewhile(lambda text: text != "--", self._given)
        if self._subparsers is not None:
            own = takewhile(lambda text: text.startswith("-"), own)
        for text in own:
            found = self._parse_optional(text)  # None for a positional argument; a list of one since Python 3.12
            action, name, *_ = found[0] if isinstance(found, list) else found or (self, text)
            if action is None:
                yield str(name).partition("=")[0]

    def _hinted(self, option: str) -> str:
        """Returns an unknown option with the nearest known one."""
        if near := self._nearest(option):
            return f"{option} (did you mean {near}?)"
        return option if self._subparsers is None else f"{option} (options of a command come after it)"

    def _nearest(self, option: str) -> str:
        """Returns the known option that an unknown one abbreviates, as lr or learn, or nearly spells; "" for none."""
        bare = option.lstrip("-").replace("_", "-")
        shown = (action for action in self._actions if action.help != argparse.SUPPRESS)
        names = {name.lstrip("-"): name for action in shown for name in action.option_strings}
        longer = [name for name in names if name.startswith(bare)]
        near = (
            difflib.get_close_matches(bare, longer, 1, cutoff=0)
            or [name for name in names if "-" in name and bare == "".join(part[:1] for part in name.split("-"))]
            or difflib.get_close_matches(bare, (name for name in names if len(name) > 1), 1)
            or [name for name in names if name == bare[:1]]
        )
        return names[near[0]] if near else ""
