"""What the commands that train a model by its bound have in common: from a begun training to its end."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch

from aligndraw.cli.curves import Curves, check_tensorboard
from aligndraw.cli.failure import failing
from aligndraw.cli.options import chosen_backends, whole
from aligndraw.cli.outputs import write_sheet, writing
from aligndraw.cli.progress import Progress, bounds
from aligndraw.cli.runs import tell_stopped
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.pipelines import Job, Pipeline, train
from aligndraw.text import CaptionError
from aligndraw.training import Update
from aligndraw.training.run import SAMPLES


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """--scored and --tensorboard."""
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


def train_job(
    arguments: argparse.Namespace, begin: Callable[[argparse.Namespace], AbstractContextManager[Job]], name: str
) -> int:
    """Trains what `begin` makes of the options to the end of its recipe, or until it is stopped.

    Args:
        arguments: among them those of `add_run`, `add_device` and --tensorboard.
        name: of the command, with which a stopped training goes on.

    Returns:
        the exit status.
    """
    folder: Path = arguments.out
    backends = chosen_backends(arguments.device)
    if arguments.tensorboard:
        check_tensorboard()
    with ExitStack() as stack, writing(folder):
        job = stack.enter_context(begin(arguments))
        for line in job.remarks:
            print(line, file=sys.stderr)
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

        with failing(FloatingPointError, CaptionError):
            ended = train(
                job,
                checkpoint_every=arguments.checkpoint_every,
                on_update=on_update,
                on_epoch=on_epoch,
                stopping=stopping,
            )
        if ended == "stopped":
            return tell_stopped(name, job.trainer, job.trainer.total, folder)
        write_sheet(folder / f"{SAMPLES}.png", Pipeline.load(folder), job.data.shown, model=str(folder))
        last = [m for m in job.run.metrics() if "epoch" in m][-1]
        scores = {kind: last[kind] for kind in job.data.scored}
    print(f"{ended} after {progress.done}: {bounds(scores)}")
    print(f"wrote {folder / WEIGHTS} and {CONFIG}: the model")
    print(f"wrote {folder / SAMPLES}.png: a picture of each of {len(job.data.shown)} captions")
    print(f"next: aligndraw sample {shlex.quote(job.data.shown[0][0])} --model {shlex.quote(str(folder))}")
    return 0


def _told(job: Job, device: str) -> str:
    """What is trained, on what."""
    trainer, recipe = job.trainer, job.trainer.config
    parameters = sum(p.numel() for p in trainer.model.parameters())
    preset = f"preset {job.run.record['preset']}, " if "preset" in job.run.record else ""
    done = f", from update {trainer.index} on" if trainer.index else ""
    threads = torch.get_num_threads()
    ungraphed = trainer.ungraphed_reason
    graphs = f", no CUDA graphs ({ungraphed})" if ungraphed else ", updates from CUDA graphs"
    return (
        f"training {trainer.model.config.title} of {parameters:,} parameters on {job.data.title}: {preset}"
        f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)} of "
        f"{recipe.epoch_size:,} images in batches of {recipe.batch_size}, {recipe.optimizer} at "
        f"{recipe.learning_rate:g}{done}; {device}, {threads} thread{'s' * (threads > 1)}, "
        f"{trainer.model.account()}, {trainer.precision} products"
        f"{graphs if device.startswith('cuda') else ''}"
    )
