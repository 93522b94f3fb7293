"""`aligndraw eval` and `aligndraw tables`: measure the quality of models."""

from __future__ import annotations

import argparse

from aligndraw.cli.evaluate import bound, measures


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds one parser per measure to the parser of `aligndraw eval`."""
    parsers = parser.add_subparsers(title="measures", metavar="MEASURE", required=True)
    bound.add_to(parsers)
    measures.add_to(parsers)
