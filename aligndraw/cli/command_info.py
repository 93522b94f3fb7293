"""`aligndraw info`: the capabilities of this installation."""

from __future__ import annotations

import argparse

from aligndraw import info


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    info.main()
    return 0
