"""`aligndraw train`: one parser per training, all with the flow of `job`."""

from __future__ import annotations

import argparse

from aligndraw.cli.train import adversarial, drawing, end_to_end, features, skipthoughts


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds one parser per training to the parser of `aligndraw train`."""
    parsers = parser.add_subparsers(title="trainings", metavar="TRAINING", required=True)
    for training in (drawing, end_to_end, adversarial, skipthoughts, features):
        training.add_to(parsers)
