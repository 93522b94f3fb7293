"""`aligndraw train end-to-end`: a drawing model and a sharpener, trained on together, to one model in a run folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.jobs import add_scoring, train_job
from aligndraw.cli.options import add_config, add_device, add_model, add_seed, chosen, fields, number
from aligndraw.cli.runs import add_run, keeps_settings
from aligndraw.config import EndToEndConfig, RefinedConfig
from aligndraw.data import DataSet, open_data_set, recorded_data_set
from aligndraw.pipelines import Job, Pipeline, joined, new_run, resumed_run
from aligndraw.training.end_to_end import EndToEndTrainer

NAME = "end-to-end"
RECIPE = EndToEndConfig()
SETTINGS = ("model", "sharpener", "data", "epsilon", "scored", "seed", *(f.name for f in fields(RECIPE)))


def add_to(sets: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = sets.add_parser(
        NAME,
        help="a drawing model and its sharpener, on together",
        description="Trains a drawing model and a sharpener on together: the bound is that of the refined pictures, "
        "and both learn from it. The result is one model, for all that others are for. Values in [brackets] are the "
        "defaults. Ctrl-C saves the run, and --resume takes it up again.",
    )
    add_model(parser)
    parser.add_argument(
        "--sharpener", type=Path, metavar="DIR", help="folder of a sharpener that reads captions as the model does"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder that `aligndraw data` wrote [what the model was trained on]",
    )
    add_run(parser, f"aligndraw-{NAME}", model=True)
    add_seed(parser, "of the examples, the noise and the discriminator", default=None)
    add_device(parser)
    add_scoring(parser)
    parser.add_argument(
        "--epsilon",
        type=number(0),
        metavar="E",
        help=f"{RefinedConfig.__dataclass_fields__['epsilon'].metadata['help']} [{RefinedConfig.epsilon:g}]",
    )
    add_config(parser, "training", {NAME: RECIPE}, without=("init",))
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    return train_job(arguments, _resumed if arguments.resume else _new, NAME)


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[Job]:
    if arguments.sharpener is None:
        raise Failure("--sharpener DIR must name the sharpener to begin with", status=2)
    with failing(ValueError, status=2):
        recipe = chosen(RECIPE, arguments)
    with ExitStack() as stack:
        with failing(ValueError, FileNotFoundError):
            pipeline = Pipeline.load(arguments.model)
            epsilon = RefinedConfig.epsilon if arguments.epsilon is None else arguments.epsilon
            start = joined(pipeline, arguments.sharpener, epsilon)
            parts = {name: getattr(arguments, name) for name in ("model", "sharpener")}
            run = new_run(
                arguments.out,
                start.config,
                recipe,
                _data(arguments, pipeline),
                seed=arguments.seed or 0,
                device=arguments.device,
                overwrite=arguments.overwrite,
                start=start,
                begun={name: path and os.path.abspath(path) for name, path in parts.items()},
            )
            job = stack.enter_context(run)
        yield job


def _data(arguments: argparse.Namespace, pipeline: Pipeline) -> DataSet:
    """What is given, or what the model was trained on."""
    scored = arguments.scored or 1000
    if arguments.data is not None:
        return open_data_set("captioned", arguments.data, scored)
    known = pipeline.notes.get("data")
    if not isinstance(known, dict) or not {"name", "path", "sha256"} <= set(known):
        raise ValueError("the model does not say what it was trained on: give --data DIR")
    data = recorded_data_set(known, scored)
    if data.record["sha256"] != known["sha256"]:
        raise ValueError(f"{known['path']} holds other data than those that the model was trained on: give --data DIR")
    return data


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[Job]:
    keeps_settings(arguments, SETTINGS)
    with ExitStack() as stack:
        with failing(ValueError):
            job = stack.enter_context(resumed_run(arguments.out, arguments.device))
        if not isinstance(job.trainer, EndToEndTrainer):
            raise Failure(f"{arguments.out} holds another training: aligndraw train {job.data.name} --resume")
        yield job
