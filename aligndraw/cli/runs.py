"""What the commands that train have in common: the options of a run folder, its beginning, a bar, a last word."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm  # type: ignore[import-untyped]

from aligndraw.cli.failure import Failure
from aligndraw.cli.options import whole
from aligndraw.config import Config
from aligndraw.training.run import RunFolder
from aligndraw.training.state import Resumable

_R = TypeVar("_R", bound=RunFolder[Any, Any])


def add_run(parser: argparse.ArgumentParser, out: str, model: bool = False) -> None:
    """--out, --overwrite, --resume and --checkpoint-every; `model` if a model is in the folder too."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(out),
        metavar="DIR",
        help=f"folder of the run{' and its model' * model}, made if need be [%(default)s]",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="remove what a training left in that folder")
    again.add_argument("--resume", action="store_true", help="take up the run in that folder, with its own settings")
    parser.add_argument(
        "--checkpoint-every", type=whole(1), default=100, metavar="N", help="updates between checkpoints [%(default)s]"
    )


def keeps_settings(arguments: argparse.Namespace, settings: Sequence[str]) -> None:
    """Raises a Failure where --resume comes with settings of its own."""
    for name in settings:
        if getattr(arguments, name, None) is not None:
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
    **notes: Any,
) -> Iterator[_R]:
    """Begins a run in --out and locks it; what ends in an error before the first checkpoint leaves no files behind.

    Args:
        notes: kept in `run.json`.

    Raises:
        RunError: the folder is taken.
    """
    run = kind.create(arguments.out, model, training, seed, arguments.overwrite, **notes)
    with run.begun():
        yield run


def updates_bar(trainer: Resumable, total: int) -> Any:
    """A bar that moves with the updates."""
    return tqdm(total=total, initial=trainer.index, unit=" updates", dynamic_ncols=True, disable=None)


def tell_stopped(what: str, trainer: Resumable, total: int, folder: Path) -> int:
    """Says how a stopped `aligndraw train <what>` goes on; the exit status."""
    command = f"aligndraw train {what} --out {shlex.quote(str(folder))} --resume"
    print(f"stopped after {trainer.index} of {total} updates; go on with: {command}", file=sys.stderr)
    return 130
