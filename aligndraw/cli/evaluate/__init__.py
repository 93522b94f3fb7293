"""`aligndraw eval` and `aligndraw tables`: how good models are."""

from __future__ import annotations

from typing import Any

from aligndraw.cli.evaluate import bound, measures, tables


def add_to(commands: Any) -> None:
    """Adds both commands to the subparsers of the command line."""
    summary = "measure how good a model is"
    parsers = commands.add_parser("eval", help=summary, description=summary).add_subparsers(
        title="measures", metavar="MEASURE", required=True
    )
    bound.add_to(parsers)
    measures.add_to(parsers)
    tables.add_to(commands)
