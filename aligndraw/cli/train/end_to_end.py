"""`aligndraw train end-to-end`: train a drawing model and a sharpener jointly, as one model in a run folder."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import (
    add_config,
    add_model,
    add_validation_size,
    apply_overrides,
    float_at_least,
    model_source,
)
from aligndraw.cli.train import job
from aligndraw.cli.train.drawing import begins
from aligndraw.config import EndToEndConfig, RefinedConfig
from aligndraw.data import open_data_set
from aligndraw.data.sets import VALIDATION_SIZE
from aligndraw.pipelines import Job, Pipeline, joined, new_run, resumed_run
from aligndraw.pipelines.shipped import DEFAULT_MODEL, lasting_name
from aligndraw.provenance import training_data
from aligndraw.training.end_to_end import EndToEndTrainer

NAME = "end-to-end"
RECIPE = EndToEndConfig()


def add_to(parsers: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = job.add_training(
        parsers,
        NAME,
        begins(_new, _resumed),
        "a drawing model and its sharpener, jointly",
        "Trains a drawing model and a sharpener jointly, on the bound of the refined pictures. The result is one "
        "model, which all commands accept.",
        "the preset",
        "the examples, the noise and the discriminator",
        model=True,
    )
    add_model(parser)
    sharpener = "folder of a sharpener with the model's reading of captions"
    parser.add_argument("--sharpener", type=Path, metavar="DIR", help=sharpener)
    data = "folder that `aligndraw data` wrote [the model's training data]"
    parser.add_argument("--data", type=Path, metavar="DIR", help=data)
    add_validation_size(parser)
    epsilon = f"{RefinedConfig.__dataclass_fields__['epsilon'].metadata['help']} [{RefinedConfig.epsilon:g}]"
    parser.add_argument("--epsilon", type=float_at_least(0), metavar="E", help=epsilon)
    add_config(parser, "training", {NAME: RECIPE}, without=("init",))
    parser.set_defaults(set=NAME, moves=("data",), begins_with=("model", "sharpener"))


def _new(arguments: argparse.Namespace, stack: ExitStack) -> Job:
    if arguments.sharpener is None:
        raise Failure("--sharpener DIR must name the initial sharpener", status=2)
    with failing(ValueError, status=2):
        recipe = apply_overrides(RECIPE, arguments)
    size = arguments.validation_size or VALIDATION_SIZE
    epsilon = RefinedConfig.epsilon if arguments.epsilon is None else arguments.epsilon
    with failing(FileNotFoundError):
        pipeline = Pipeline.from_pretrained(model_source(arguments), sharpen=False)
        start = joined(pipeline, arguments.sharpener, epsilon)
        given = arguments.data and open_data_set("captioned", arguments.data, size)
        data = given or training_data(pipeline.notes, size)
    begun = new_run(
        arguments.out,
        start.config,
        recipe,
        data,
        seed=arguments.seed,
        device=arguments.device,
        overwrite=arguments.overwrite,
        start=start,
        vocabulary=pipeline.vocabulary if start.language is not None else None,
        begun={
            "model": DEFAULT_MODEL if arguments.model is None else lasting_name(arguments.model),
            "sharpener": os.path.abspath(arguments.sharpener),
        },
    )
    return stack.enter_context(begun)


def _resumed(arguments: argparse.Namespace, stack: ExitStack) -> Job:
    begun = stack.enter_context(
        resumed_run(arguments.out, arguments.device, data=arguments.data, epochs=arguments.epochs)
    )
    if not isinstance(begun.trainer, EndToEndTrainer):
        raise Failure(f"{arguments.out} holds another training: aligndraw train {begun.data.name} --resume")
    return begun
