"""`aligndraw train features`: images with classes to a feature space, in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aligndraw.cli.options import add_device, add_presets, add_seed
from aligndraw.cli.train import job
from aligndraw.evaluation.features import NAMES
from aligndraw.training.features import PRESETS, FeaturesBuild, FeaturesRun, FeaturesUpdate, accuracy


class FeaturesJob(job.SettingsJob):
    """The training of a feature network."""

    NAME, RUN, BUILD, PRESETS = "features", FeaturesRun, FeaturesBuild, PRESETS
    SETTINGS = frozenset(("data", "seed"))
    build: FeaturesBuild

    @classmethod
    def asked(cls, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
        settings = {"data": arguments.data and os.path.abspath(arguments.data), "seed": arguments.seed or 0}
        return settings, "scenes" if arguments.data is None else "cifar"

    def describe(self) -> str:
        parameters = sum(p.numel() for p in self.trainer.model.parameters())
        data = self.build.settings["data"] or "scenes"
        classes = self.build.model_config.classes
        return f"{parameters:,} parameters on {classes} classes of {data}: {self.trainer.total:,} updates"

    def status(self, update: FeaturesUpdate) -> str:
        return f"{update.loss:.3f} nats, {100 * update.right:.0f} % right"

    def end_epoch(self, epoch: int) -> Mapping[str, Any]:
        self.build.save(self.run.folder)
        return {}

    def finish(self, ended: str) -> Iterator[str]:
        folder = self.run.folder
        yield f"finished: {accuracy(self.build.trainer.model, self.build.test)} % of 1,000 test images told"
        yield f"wrote {folder / NAMES[0]} and {NAMES[1]}: the network"
        yield f"next: aligndraw eval retrieval --features {shlex.quote(str(folder))} --model ..."


def add_to(parsers: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = parsers.add_parser(
        FeaturesJob.NAME,
        help="a feature space for shortlists of retrieval, on images with classes",
        description="Trains a network that tells classes of images apart; its last fully connected layer is the "
        "space in which `aligndraw eval retrieval` looks for near pictures. Without --data, on scenes and their "
        "objects. Values in [brackets] are those of scenes and of CIFAR-10. Ctrl-C saves the run, and --resume takes "
        "it up again.",
    )
    data = "CIFAR-10's Python or binary files, in a folder [scenes]"
    parser.add_argument("--data", type=Path, metavar="DIR", help=data)
    job.add_run(parser, FeaturesJob.NAME, FeaturesJob.begin)
    add_seed(parser, "of the parameters and of the order of the images", default=None)
    add_device(parser)
    add_presets(parser, PRESETS, without=("image_size", "channels", "classes"))  # those are of the data
