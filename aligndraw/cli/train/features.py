"""`aligndraw train features`: train a feature space on images with classes, in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aligndraw.cli.options import add_presets
from aligndraw.cli.train import job
from aligndraw.evaluation.features import NAMES
from aligndraw.training.features import PRESETS, FeaturesSetup, FeaturesUpdate, accuracy


class FeaturesJob(job.SetupJob):
    """The training of a feature network."""

    NAME, SETUP = "features", FeaturesSetup
    setup: FeaturesSetup

    @classmethod
    def settings_from(cls, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
        settings = {"data": arguments.data and os.path.abspath(arguments.data), "seed": arguments.seed}
        return settings, "scenes" if arguments.data is None else "cifar"

    def status(self, update: FeaturesUpdate) -> str:
        return f"{update.loss:.3f} nats, {100 * update.right:.0f} % right"

    def end_epoch(self, epoch: int) -> Mapping[str, Any]:
        self.setup.save(self.run.folder)
        return {}

    def finish(self, ended: str) -> Iterator[str]:
        folder = self.run.folder
        yield f"finished: {accuracy(self.setup.trainer.model, self.setup.test)} % of 1,000 test images classified right"
        yield f"wrote {folder / NAMES[0]} and {NAMES[1]}: the network"
        yield f"next: aligndraw eval retrieval --features {shlex.quote(str(folder))} --model ..."


def add_to(parsers: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = job.add_training(
        parsers,
        FeaturesJob.NAME,
        FeaturesJob.begin,
        "a feature space for the shortlists of retrieval, on images with classes",
        "Trains an image classifier. `aligndraw eval retrieval` measures the distance of pictures by its last fully "
        "connected layer. Without --data, it classifies the objects of scenes.",
        "scenes and of CIFAR-10",
        "the parameters and of the order of the images",
    )
    data = "folder of CIFAR-10's Python or binary files [scenes]"
    parser.add_argument("--data", type=Path, metavar="DIR", help=data)
    add_presets(parser, PRESETS, without=("image_size", "channels", "classes"))  # the data determine these
