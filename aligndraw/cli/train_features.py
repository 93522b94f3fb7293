"""`aligndraw train features`: images with classes to a feature space, in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_config, add_device, add_seed, chosen, fields
from aligndraw.cli.outputs import writing
from aligndraw.cli.runs import add_run, keeps_settings, new_run, tell_stopped, updates_bar
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.data.labelled import LabelledImages, LabelledScenes, read_cifar
from aligndraw.evaluation.features import NAMES, FeatureNetwork, FeaturesConfig
from aligndraw.training.features import (
    FeaturesRecipe,
    FeaturesRun,
    FeaturesTrainer,
    FeaturesUpdate,
    accuracy,
    train_features,
)
from aligndraw.training.run import RUN

MODELS = {"scenes": FeaturesConfig(planes=16, dropout=0.0), "cifar": FeaturesConfig()}
RECIPES = {
    "scenes": FeaturesRecipe(epochs=8, epoch_size=12_800, batch_size=64, learning_rate=0.2, halved_every=3),
    "cifar": FeaturesRecipe(),
}
FITTED = ("image_size", "channels", "classes")  # fields of the model that the data give
SETTINGS = (
    "data",
    "seed",
    *(f.name for c in (FeaturesConfig, FeaturesRecipe) for f in fields(c) if f.name not in FITTED),
)


def add_to(sets: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = sets.add_parser(
        "features",
        help="a feature space for shortlists of retrieval, on images with classes",
        description="Trains a network that tells classes of images apart; its last fully connected layer is the "
        "space in which `aligndraw eval retrieval` looks for near pictures. Without --data, on scenes and their "
        "objects. Values in [brackets] are those of scenes and of CIFAR-10. Ctrl-C saves the run, and --resume takes "
        "it up again.",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="CIFAR-10's Python or binary files, in a folder [scenes]"
    )
    add_run(parser, "aligndraw-features")
    add_seed(parser, "of the parameters and of the order of the images", default=None)
    add_device(parser)
    add_config(parser, "model", MODELS, without=FITTED)
    add_config(parser, "training", RECIPES)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.out
    with ExitStack() as stack, writing(folder):
        run, trainer, test = stack.enter_context(_resumed(arguments) if arguments.resume else _new(arguments))
        parameters = sum(p.numel() for p in trainer.model.parameters())
        done = f", from update {trainer.index} on" if trainer.index else ""
        print(
            f"training {parameters:,} parameters on {trainer.model.config.classes} classes of "
            f"{run.record['settings']['data'] or 'scenes'}: {trainer.total:,} updates{done}; {arguments.device}",
            flush=True,
        )
        bar = stack.enter_context(updates_bar(trainer, trainer.total))

        def on_update(update: FeaturesUpdate) -> None:
            bar.set_postfix_str(f"{update.loss:.3f} nats, {100 * update.right:.0f} % right", refresh=False)
            bar.update()

        stopping = stack.enter_context(stopped_by_signals())
        with failing(FloatingPointError):
            finished = train_features(
                run,
                trainer,
                checkpoint_every=arguments.checkpoint_every,
                on_update=on_update,
                stopping=stopping,
                notes={"settings": run.record["settings"], "training": run.record["training"]},
            )
        if not finished:
            return tell_stopped("features", trainer, trainer.total, folder)
        print(f"finished: {accuracy(trainer.model, test)} % of 1,000 test images told")
    print(f"wrote {folder / NAMES[0]} and {NAMES[1]}: the network")
    print(f"next: aligndraw eval retrieval --features {shlex.quote(str(folder))} --model ...")
    return 0


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[tuple[FeaturesRun, FeaturesTrainer, Any]]:
    preset = "scenes" if arguments.data is None else "cifar"
    with failing(ValueError, status=2):
        given = {name: getattr(arguments, name) for name in ("planes", "dropout")}
        config = MODELS[preset].replace(**{name: value for name, value in given.items() if value is not None})
        recipe = chosen(RECIPES[preset], arguments)
    settings = {"data": arguments.data and os.path.abspath(arguments.data), "seed": arguments.seed or 0}
    with ExitStack() as stack:
        with failing(ValueError):
            trainer, test, checksum = _trainer(settings, config, recipe, arguments.device)
            trainer.standardise()
            notes = {"settings": settings, "sha256": checksum}
            begun = new_run(FeaturesRun, arguments, trainer.model.config, recipe, settings["seed"], **notes)
            run = stack.enter_context(begun)
        yield run, trainer, test


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[tuple[FeaturesRun, FeaturesTrainer, Any]]:
    keeps_settings(arguments, SETTINGS)
    with ExitStack() as stack:
        with failing(ValueError):
            run = FeaturesRun.open(arguments.out)
            settings = run.record.get("settings")
            if not isinstance(settings, dict) or set(settings) != {"data", "seed"}:
                raise Failure(f"{arguments.out / RUN} is damaged or foreign: it has no settings of features")
            trainer, test, checksum = _trainer(settings, run.model_config, run.training_config, arguments.device)
            if checksum != run.record.get("sha256"):
                raise Failure(f"{settings['data']} does not hold the images any more that {arguments.out} began with")
            stack.enter_context(run.locked())
            for line in run.restore(trainer):
                print(line, file=sys.stderr)
            if not trainer.index:
                trainer.standardise()
        yield run, trainer, test


def _trainer(
    settings: dict[str, Any], config: FeaturesConfig, recipe: FeaturesRecipe, device: str
) -> tuple[FeaturesTrainer, Any, str | None]:
    """A fresh trainer, the images to test on, and the checksum of those to train on."""
    train: LabelledImages | LabelledScenes
    test: LabelledImages | LabelledScenes
    if settings["data"] is None:
        train, test = LabelledScenes(), LabelledScenes("test")
    else:
        train, test = read_cifar(settings["data"])
    channels, *size = train.image_shape
    config = config.replace(image_size=tuple(size), channels=channels, classes=len(train.classes))
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(settings["seed"])
        network = FeatureNetwork(config)
    return FeaturesTrainer(network.to(device), train, recipe, settings["seed"]), test, train.checksum
