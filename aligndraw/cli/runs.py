"""Run folders of the commands that train what goes with a drawing model."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from aligndraw.cli.failure import Failure
from aligndraw.cli.options import whole
from aligndraw.config import Config
from aligndraw.pipelines import SAMPLES
from aligndraw.training.checkpoint import checkpoints
from aligndraw.training.run import CHECKPOINTS, METRICS, RUN, RunFolder

_R = TypeVar("_R", bound=RunFolder[Any, Any])


def add_run(parser: argparse.ArgumentParser, out: str) -> None:
    """--out, --overwrite, --resume and --checkpoint-every."""
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help="folder of the run, made if need be [%(default)s]"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="remove a run in that folder")
    again.add_argument("--resume", action="store_true", help="take up the run in that folder, with its own settings")
    parser.add_argument(
        "--checkpoint-every", type=whole(1), default=100, metavar="N", help="updates between checkpoints [%(default)s]"
    )


def keeps_settings(arguments: argparse.Namespace, settings: Sequence[str]) -> None:
    """Raises a Failure where --resume comes with settings of its own."""
    for name in settings:
        if getattr(arguments, name) is not None:
            raise Failure(
                f"--resume keeps the settings of the run: leave out --{name.replace('_', '-')}", status=2
            )


@contextmanager
def new_run(
    kind: type[_R],
    arguments: argparse.Namespace,
    model: Config,
    training: Config,
    seed: int,
    results: Sequence[str],
    **notes: Any,
) -> Iterator[_R]:
    """Begins a run in --out and locks it; what ends in an error before the first checkpoint leaves no files behind.

    Args:
        results: names of the files that training leaves in the folder.
        notes: kept in `run.json`.

    Raises:
        RunError: the folder is taken.
    """
    folder: Path = arguments.out
    if arguments.overwrite and (folder / RUN).is_file():
        with kind(folder, {}).locked():
            _clear(folder, results)
    run = kind.create(folder, model, training, seed, **notes)
    with run.locked():
        try:
            yield run
        except BaseException:
            if not any(checkpoints(folder / CHECKPOINTS)):
                _clear(folder, results)
            raise


def _clear(folder: Path, results: Sequence[str]) -> None:
    for name in (RUN, METRICS, *results):
        (folder / name).unlink(missing_ok=True)
    for sheet in (folder / SAMPLES).glob("epoch-*.png"):
        sheet.unlink()
    for checkpoint in checkpoints(folder / CHECKPOINTS):
        shutil.rmtree(checkpoint)
    for place in (folder / SAMPLES, folder / CHECKPOINTS):
        with suppress(OSError):  # there is something else in it
            place.rmdir()
