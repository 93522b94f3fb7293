"""`aligndraw train`: pictures with captions to a model in a run folder."""

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
from aligndraw.cli.progress import Progress, bounds
from aligndraw.cli.runs import add_run, tell_stopped
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.config import AlignDRAWConfig, TrainingConfig
from aligndraw.data import open_data_set
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.pipelines import (
    SAMPLES,
    Job,
    Pipeline,
    fitted,
    new_run,
    resumed_run,
    train,
)
from aligndraw.training import Update

# Of each data set, presets of the model and of the training; the first is the default.
PRESETS = {
    "mnist": {"quick": ("quick", "quick"), "best": ("best", "best"), "paper": ("mnist", "paper")},
    "scenes": {"scenes": ("scenes", "scenes")},
    "captioned": {"scenes": ("scenes", "scenes"), "coco": ("coco", "coco")},
}
MODELS = {
    name: {preset: AlignDRAWConfig.preset(model) for preset, (model, _) in presets.items()}
    for name, presets in PRESETS.items()
}
RECIPES = {
    name: {preset: TrainingConfig.preset(recipe) for preset, (_, recipe) in presets.items()}
    for name, presets in PRESETS.items()
}
FIELDS = [f.name for config in (AlignDRAWConfig, TrainingConfig) for f in dataclasses.fields(config)]


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    what = "train a model and save it into a folder"
    sets = commands.add_parser("train", help=what, description=what).add_subparsers(
        title="data sets", metavar="DATASET", required=True
    )
    train_sharpener.add_to(sets)
    train_skipthoughts.add_to(sets)
    parser = _add_set(
        sets,
        "mnist",
        "one or two digits with captions that say where they are",
        "Trains on MNIST with captions: one or two digits on 60 x 60 pixels. Without --digits, on the 10,000 that ship "
        "with the package.",
        "quick: minutes on a laptop; best: longer, for better pictures; paper: the paper's model and recipe, hours",
    )
    parser.add_argument(
        "--digits",
        dest="data",
        type=Path,
        metavar="PATH",
        help=".npz with images [n, 28, 28] and labels [n], uint8; or a folder with MNIST's IDX files; "
        "or the authors' mnist.h5",
    )
    _add_set(
        sets,
        "scenes",
        "colour pictures of things in places",
        "Trains on scenes: 32 x 32 colour pictures of one thing before a sky and a ground, painted as training runs.",
        "scenes: a model for a laptop",
    )
    parser = _add_set(
        sets,
        "captioned",
        "captioned images in a folder",
        "Trains on captioned images that `aligndraw data` has stored. Image size, channels and words are theirs.",
        "scenes: small; coco: the paper's model and recipe, days on a CPU",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that `aligndraw data` wrote")


def _add_set(sets: Any, name: str, what: str, description: str, presets: str) -> argparse.ArgumentParser:
    """The parser of a data set, with what they share."""
    parser: argparse.ArgumentParser = sets.add_parser(
        name,
        help=what,
        description=f"{description} Values in [brackets] are those of the preset. Ctrl-C saves the run, and --resume "
        "takes it up again.",
    )
    parser.add_argument("--preset", choices=PRESETS[name], help=f"{presets} [{next(iter(PRESETS[name]))}]")
    add_run(parser, f"aligndraw-{name}", model=True)
    add_seed(parser, "of the parameters, the examples and the noise", default=None)
    add_device(parser)
    parser.add_argument(
        "--scored",
        type=whole(2),
        metavar="N",
        help="validation pictures of each kind whose bound is taken after each epoch [1000]",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write TensorBoard events into the folder too; needs the package tensorboard",
    )
    add_config(parser, "model", MODELS[name])
    add_config(parser, "training", RECIPES[name])
    parser.set_defaults(run=_run, set=name, data=None)
    return parser


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
            ended = train(
                job,
                checkpoint_every=arguments.checkpoint_every,
                on_update=on_update,
                on_epoch=on_epoch,
                stopping=stopping,
            )
        if ended == "stopped":
            return tell_stopped(job.data.name, job.trainer, job.trainer.total, folder)
        write_sheet(folder / f"{SAMPLES}.png", Pipeline.load(folder), job.data.shown, model=str(folder))
        last = [m for m in job.run.metrics() if "epoch" in m][-1]
        scores = {kind: last[kind] for kind in job.data.scored}
    print(f"{ended} after {progress.done}: {bounds(scores)}")
    print(f"wrote {folder / WEIGHTS} and {CONFIG}: the model")
    print(f"wrote {folder / SAMPLES}.png: a picture of each of {len(job.data.shown)} captions")
    print(f"next: aligndraw sample {shlex.quote(job.data.shown[0][0])} --model {shlex.quote(str(folder))}")
    return 0


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[Job]:
    name, data = arguments.set, arguments.data
    if name == "captioned" and data is None:
        raise Failure("captioned images are needed: give --data DIR", status=2)
    preset = arguments.preset or next(iter(PRESETS[name]))
    with failing(ValueError, status=2):
        chosen(MODELS[name][preset], arguments)
        training = chosen(RECIPES[name][preset], arguments)
    with ExitStack() as stack:
        with failing(ValueError):
            found = open_data_set(name, data, arguments.scored or 1000)
            model = chosen(fitted(MODELS[name][preset], found), arguments)
            job = stack.enter_context(
                new_run(
                    arguments.out,
                    model,
                    training,
                    found,
                    seed=arguments.seed or 0,
                    device=arguments.device,
                    overwrite=arguments.overwrite,
                    preset=preset,
                )
            )
        yield job


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[Job]:
    for name in ("preset", "data", "seed", "scored", *FIELDS):
        if getattr(arguments, name) is not None:
            option = "digits" if (name, arguments.set) == ("data", "mnist") else name.replace("_", "-")
            raise Failure(f"--resume keeps the settings of the run: leave out --{option}", status=2)
    with ExitStack() as stack:
        with failing(ValueError):
            job = stack.enter_context(resumed_run(arguments.out, arguments.device))
        if job.data.name != arguments.set:
            raise Failure(
                f"{arguments.out} holds a training on {job.data.title}: aligndraw train {job.data.name} --resume"
            )
        yield job


def _told(job: Job, device: str) -> str:
    """What is trained, on what."""
    trainer, recipe = job.trainer, job.trainer.config
    parameters = sum(p.numel() for p in trainer.model.parameters())
    preset = f"preset {job.run.record['preset']}, " if "preset" in job.run.record else ""
    done = f", from update {trainer.index} on" if trainer.index else ""
    threads = torch.get_num_threads()
    reason = trainer.model.stepwise_reason("unroll")
    ungraphed = trainer.ungraphed_reason
    graphs = f", no CUDA graphs ({ungraphed})" if ungraphed else ", updates from CUDA graphs"
    return (
        f"training {parameters:,} parameters on {job.data.title}: {preset}"
        f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)} of "
        f"{recipe.epoch_size:,} images in batches of {recipe.batch_size}, {recipe.optimizer} at "
        f"{recipe.learning_rate:g}{done}; {device}, {threads} thread{'s' * (threads > 1)}, "
        f"{f'step by step ({reason})' if reason else 'all steps as one op'}, "
        f"{'bf16' if trainer.bf16 else 'float32'} products"
        f"{graphs if device.startswith('cuda') else ''}"
    )
