"""`aligndraw train mnist`: digits to a model in a run folder."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from aligndraw.cli import train_sharpener, train_skipthoughts
from aligndraw.cli.curves import Curves, check_tensorboard
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_config, add_device, add_seed, chosen, chosen_backends, whole
from aligndraw.cli.outputs import write_sheet, writing
from aligndraw.cli.progress import CAPTIONS, Progress, bounds
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.config import AlignDRAWConfig, TrainingConfig
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.pipelines import (
    SAMPLES,
    MNISTRun,
    Pipeline,
    new_mnist_run,
    resumed_mnist_run,
    train_mnist,
)
from aligndraw.training import Update

# Presets of the model and of the training.
PRESETS = {"quick": ("quick", "quick"), "paper": ("mnist", "paper")}
MODELS = {name: AlignDRAWConfig.preset(model) for name, (model, _) in PRESETS.items()}
RECIPES = {name: TrainingConfig.preset(recipe) for name, (_, recipe) in PRESETS.items()}
FIELDS = [f.name for config in (AlignDRAWConfig, TrainingConfig) for f in dataclasses.fields(config)]


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    what = "train a model and save it into a folder"
    sets = commands.add_parser("train", help=what, description=what).add_subparsers(
        title="data sets", metavar="DATASET", required=True
    )
    train_sharpener.add_to(sets)
    train_skipthoughts.add_to(sets)
    parser = sets.add_parser(
        "mnist",
        help="one or two digits with captions that say where they are",
        description="Trains on MNIST with captions: one or two digits on 60 x 60 pixels. Without --digits, "
        "on the 10,000 that ship with the package. Values in [brackets] are those of the preset. "
        "Ctrl-C saves the run, and --resume takes it up again.",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="quick: minutes on a laptop; paper: the paper's model and recipe, hours [quick]",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("aligndraw-mnist"),
        metavar="DIR",
        help="folder of the run and its model, made if need be [%(default)s]",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="remove a run or a model in that folder")
    again.add_argument(
        "--resume",
        action="store_true",
        help="take up the run in that folder, with its own settings",
    )
    parser.add_argument(
        "--digits",
        type=Path,
        metavar="PATH",
        help=".npz with images [n, 28, 28] and labels [n], uint8; or a folder with MNIST's IDX files; "
        "or the authors' mnist.h5",
    )
    add_seed(parser, "of the parameters, the examples and the noise", default=None)
    add_device(parser)
    parser.add_argument(
        "--scored",
        type=whole(2),
        metavar="N",
        help="validation pictures, as many seen as held out, whose bound is taken after each epoch [1000]",
    )
    parser.add_argument(
        "--checkpoint-every",
        type=whole(1),
        default=100,
        metavar="N",
        help="updates between checkpoints [%(default)s]",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write TensorBoard events into the folder too; needs the package tensorboard",
    )
    add_config(parser, "model", MODELS)
    add_config(parser, "training", RECIPES)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.out
    backends = chosen_backends(arguments.device)
    if arguments.tensorboard:
        check_tensorboard()
    with ExitStack() as stack, writing(folder):
        job = stack.enter_context(_resumed(arguments) if arguments.resume else _new(arguments))
        for line in job.passed_over:
            print(f"passed over: {line}", file=sys.stderr)
        print(f"{_told(job, arguments.device)}, {backends}", flush=True)
        progress = stack.enter_context(Progress(job))
        watching: list[Progress | Curves] = [progress]
        if arguments.tensorboard:
            watching.append(stack.enter_context(Curves(job)))
        stopping = stack.enter_context(stopped_by_signals())

        def on_update(update: Update) -> None:
            for watcher in watching:
                watcher.on_update(update)

        def on_epoch(epoch: int, scores: dict[str, Any]) -> None:
            for watcher in watching:
                watcher.on_epoch(epoch, scores)

        with failing(FloatingPointError):
            ended = train_mnist(
                job,
                checkpoint_every=arguments.checkpoint_every,
                on_update=on_update,
                on_epoch=on_epoch,
                stopping=stopping,
            )
        if ended == "stopped":
            command = f"aligndraw train mnist --out {shlex.quote(str(folder))} --resume"
            print(f"stopped after {progress.done}; go on with: {command}", file=sys.stderr)
            return 130
        write_sheet(folder / f"{SAMPLES}.png", Pipeline.load(folder), CAPTIONS, model=str(folder))
        scores = [m for m in job.run.metrics() if "epoch" in m][-1]
    print(f"{ended} after {progress.done}: {bounds(scores)}")
    print(f"wrote {folder / WEIGHTS} and {CONFIG}: the model")
    print(f"wrote {folder / SAMPLES}.png: a picture of each of {len(CAPTIONS)} captions")
    print(f'next: aligndraw sample "{CAPTIONS[1][0]}" --model {shlex.quote(str(folder))}')
    return 0


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[MNISTRun]:
    preset = arguments.preset or "quick"
    with failing(ValueError, status=2):
        model = chosen(MODELS[preset], arguments)
        training = chosen(RECIPES[preset], arguments)
    with ExitStack() as stack:
        with failing(ValueError):
            job = stack.enter_context(
                new_mnist_run(
                    arguments.out,
                    model,
                    training,
                    digits=arguments.digits,
                    seed=arguments.seed or 0,
                    scored=arguments.scored or 1000,
                    device=arguments.device,
                    overwrite=arguments.overwrite,
                    preset=preset,
                )
            )
        yield job


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[MNISTRun]:
    for name in ("preset", "digits", "seed", "scored", *FIELDS):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise Failure(f"--resume keeps the settings of the run: leave out --{option}", status=2)
    with ExitStack() as stack:
        with failing(ValueError):
            job = stack.enter_context(resumed_mnist_run(arguments.out, arguments.device))
        yield job


def _told(job: MNISTRun, device: str) -> str:
    """What is trained, on what."""
    trainer, recipe = job.trainer, job.trainer.config
    parameters = sum(p.numel() for p in trainer.model.parameters())
    preset = f"preset {job.run.record['preset']}, " if "preset" in job.run.record else ""
    done = f", from update {trainer.index} on" if trainer.index else ""
    threads = torch.get_num_threads()
    reason = trainer.model.stepwise_reason("unroll")
    return (
        f"training {parameters:,} parameters on MNIST with captions: {preset}"
        f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)} of "
        f"{recipe.epoch_size:,} images in batches of {recipe.batch_size}, {recipe.optimizer} at "
        f"{recipe.learning_rate:g}{done}; {device}, {threads} thread{'s' * (threads > 1)}, "
        f"{f'step by step ({reason})' if reason else 'all steps as one op'}"
    )
