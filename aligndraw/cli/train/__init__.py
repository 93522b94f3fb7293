"""`aligndraw train`: one parser per training; all of them follow the flow of `job.run`."""

from __future__ import annotations

from typing import Any

from aligndraw.cli.train import adversarial, drawing, end_to_end, features, skipthoughts


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    summary = "train a model and save it into a folder"
    parsers = commands.add_parser("train", help=summary, description=summary).add_subparsers(
        title="trainings", metavar="TRAINING", required=True
    )
    for training in (drawing, end_to_end, adversarial, skipthoughts, features):
        training.add_to(parsers)
