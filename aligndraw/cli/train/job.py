"""The flow of every training: begin or resume, train, stop on a signal, report the results."""

from __future__ import annotations

import argparse
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_seed, apply_overrides, int_at_least
from aligndraw.cli.outputs import writing
from aligndraw.cli.telling import tell
from aligndraw.cli.train.curves import Curves, check_tensorboard
from aligndraw.cli.train.progress import Progress
from aligndraw.cli.train.stopping import stopped_by_signals
from aligndraw.printable import counted, one_line
from aligndraw.text import CaptionError
from aligndraw.training.fit import fit
from aligndraw.training.guards import NotFinite
from aligndraw.training.ranks import RanksError, launched, restarted, started
from aligndraw.training.run import RUN, RunFolder, TrainingSetup
from aligndraw.training.state import Resumable

_J = TypeVar("_J", bound="SetupJob")
Begin = Callable[[argparse.Namespace], AbstractContextManager["Job"]]


class Job(ABC):
    """One training, begun or resumed.

    Attributes:
        NAME: of its command.
        run: the run folder, locked.
        trainer: fresh, or restored from the newest whole checkpoint.
        epochs: of the recipe.
        remarks: lines for the user: damaged checkpoints, changed conditions.
        unit, per_update: the unit of the progress bar, and its number per update.
    """

    NAME: ClassVar[str]
    unit, per_update = "updates", 1
    run: RunFolder[Any, Any]
    trainer: Resumable[Any]
    epochs: int
    remarks: Sequence[str] = ()

    @abstractmethod
    def describe(self) -> str:
        """Returns the first line of the training: model, data, recipe."""

    @abstractmethod
    def status(self, update: Any) -> str:
        """Returns the metrics of an update for the progress bar."""

    @abstractmethod
    def finish(self, ended: str) -> Iterable[str]:
        """Writes the last files; returns the closing lines."""

    def prepare(self) -> None:  # noqa: B027 (most trainings have nothing to prepare)
        """Does slow work before the first update, after the description is printed."""

    def end_epoch(self, epoch: int) -> Mapping[str, Any]:
        """Saves the trained networks; returns the metrics of the epoch."""
        return {}

    def epoch_line(self, epoch: int, scores: Mapping[str, Any]) -> str:
        """Draws the pictures of an epoch, where there are any; returns its metrics as text, or ""."""
        return ""

    def train(self, on_epoch: Callable[[int, Mapping[str, Any]], None], **options: Any) -> str:
        """Trains to the end; the options and the result are those of `fit`."""

        def end_epoch(epoch: int) -> None:
            self.trainer.ranks.on_first(lambda: on_epoch(epoch, self.end_epoch(epoch)))

        return fit(self.trainer, self.run, end_epoch=end_epoch, **options)


class SetupJob(Job):
    """A training of a `TrainingSetup`."""

    SETUP: ClassVar[type[TrainingSetup]]

    def __init__(self, setup: TrainingSetup, run: RunFolder[Any, Any], remarks: Sequence[str]) -> None:
        self.setup, self.run, self.remarks = setup, run, remarks
        self.trainer, self.epochs = setup.trainer, run.training_config.epochs

    def describe(self) -> str:
        return self.setup.description()

    @classmethod
    @abstractmethod
    def settings_from(cls, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Returns the settings and the preset of the command line."""

    @classmethod
    @contextmanager
    def begin(cls: type[_J], arguments: argparse.Namespace) -> Iterator[_J]:
        """Begins the training in --out, or resumes it."""
        with ExitStack() as stack:
            with failing(ValueError):
                if arguments.resume:
                    with failing(FileNotFoundError):
                        resumed = cls.SETUP.resumed(arguments.out, arguments.device, arguments.epochs)
                        setup, run, remarks = stack.enter_context(resumed)
                else:
                    with failing(FileNotFoundError):
                        settings, preset = cls.settings_from(arguments)
                        with failing(ValueError, status=2):
                            model, recipe = (apply_overrides(config, arguments) for config in cls.SETUP.PRESETS[preset])
                        setup = cls.SETUP(settings, model, recipe, arguments.device)
                    begun = setup.begun(arguments.out, recipe, arguments.overwrite, preset=preset)
                    run, remarks = stack.enter_context(begun), []
            yield cls(setup, run, remarks)


def add_training(
    parsers: Any, name: str, begin: Begin, summary: str, description: str, values: str, seed: str, model: bool = False
) -> argparse.ArgumentParser:
    """Adds the parser of a training.

    It has --out, --overwrite, --resume, --checkpoint-every, --skip-batches, --tensorboard, --seed and --device. The
    default `moves` names options that --resume takes, and `begins_with` options whose folders --out must not be.

    Args:
        parsers: the subparsers of `aligndraw train`.
        name: of the command.
        begin: begins or resumes the training.
        summary, description: of the help.
        values: completes "Values in [brackets] are those of …".
        seed: completes "seed of …".
        model: true where the folder also holds a model.
    """
    again = f"Values in [brackets] are those of {values}. Ctrl-C saves the run; --resume continues it, with --epochs N "
    again += "for more epochs than before."
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=summary, description=f"{description} {again}")
    place = f"folder of the run{' and its model' * model}, made if need be [%(default)s]"
    parser.add_argument("--out", type=Path, default=Path(f"aligndraw-{name}"), metavar="DIR", help=place)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help="remove the files of a training in the folder")
    group.add_argument("--resume", action="store_true", help="continue the run in the folder, with its own settings")
    again = "as --resume where the folder holds a run, else begin; for commands that a scheduler may start again"
    group.add_argument("--resume-if-begun", action="store_true", help=again)
    every = "updates between checkpoints [%(default)s]"
    parser.add_argument("--checkpoint-every", type=int_at_least(1), default=100, metavar="N", help=every)
    skip = "skip up to N batches whose loss or gradient is not finite; 0 stops at the first one [%(default)s]"
    parser.add_argument("--skip-batches", type=int_at_least(0), default=0, metavar="N", help=skip)
    events = "also write TensorBoard events into the folder; needs the package tensorboard"
    parser.add_argument("--tensorboard", action="store_true", help=events)
    add_seed(parser, f"seed of {seed}", default=None)
    add_device(parser)
    parser.set_defaults(run=lambda arguments: _run(parser, arguments, begin), moves=(), begins_with=())
    return parser


def _check_kept(arguments: argparse.Namespace) -> None:
    """Raises Failure where --out is the folder of a model that the training begins with, which it would lose."""
    for name in arguments.begins_with:
        given = getattr(arguments, name)
        if given is not None and Path(given).is_dir() and Path(given).resolve() == arguments.out.resolve():
            raise Failure(
                f"--out must be another folder than that of {_option(name)}, got {arguments.out} for both", status=2
            )


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace, begin: Begin) -> int:
    """Trains to the end of the recipe, or until a signal; returns the exit status."""
    folder: Path = arguments.out
    if arguments.tensorboard:
        check_tensorboard()
    with ExitStack() as stack, failing(RanksError), writing(folder):
        ranks = stack.enter_context(started(arguments.device))
        given = {n: v for n, v in vars(arguments).items() if v is not None and parser.get_default(n) is None}
        again = arguments.resume_if_begun or restarted()
        if again and ranks.on_first((folder / RUN).is_file):
            arguments.resume, arguments.overwrite = True, False
            for name in given:
                setattr(arguments, name, None)
        elif arguments.resume:
            for name in given:
                if name not in ("epochs", *arguments.moves):  # a setting, which the run keeps
                    raise Failure(f"--resume keeps the settings of the run: leave out {_option(name)}", status=2)
        else:
            arguments.seed = arguments.seed or 0
            _check_kept(arguments)
        job = stack.enter_context(begin(arguments))
        if again:
            _check_settings(job.run, given)

        def announce() -> None:
            for line in job.remarks:
                tell(one_line(line), error=True)
            done = f", from update {job.trainer.index} on" if job.trainer.index else ""
            processes = f", {counted(ranks.count, 'process', 'processes')}" if ranks.count > 1 else ""
            tell(f"training {job.describe()}{done}; {arguments.device}{processes}", flush=True)

        ranks.on_first(announce)
        with failing(ValueError):
            job.prepare()
        watching: list[Progress | Curves] = []
        if ranks.first:
            watching.append(Progress(job, stack))
            if arguments.tensorboard:
                watching.append(Curves(folder, job.trainer, stack))
        stopping = stack.enter_context(stopped_by_signals(launched()))

        def on_update(update: Any) -> None:
            for watcher in watching:
                watcher.on_update(update)

        def on_epoch(epoch: int, scores: Mapping[str, Any]) -> None:
            for watcher in watching:
                watcher.on_epoch(epoch, scores)

        def on_skip(error: NotFinite) -> None:
            tell(f"skipped: {one_line(str(error))}", error=True)

        with failing(FloatingPointError, CaptionError):
            ended = job.train(
                on_epoch,
                checkpoint_every=arguments.checkpoint_every,
                on_update=on_update,
                stopping=stopping,
                max_skipped=arguments.skip_batches,
                on_skip=on_skip,
            )

        def conclude() -> None:
            if skipped := job.run.skipped():
                batches = counted(job.trainer.index, "batch", "batches")
                tell(f"skipped {skipped} of {batches}, whose numbers were not finite", error=True)
            if ended == "stopped":
                command = f"aligndraw train {job.NAME} --out {shlex.quote(str(folder))} --resume"
                updates = f"{job.trainer.index:,} of {counted(job.trainer.total, 'update')}"
                tell(f"stopped after {updates}; go on with: {command}", error=True)
                return
            for line in job.finish(ended):
                tell(line)

        ranks.on_first(conclude)
    return 130 if ended == "stopped" else 0


def _check_settings(run: RunFolder[Any, Any], given: Mapping[str, Any]) -> None:
    """Raises Failure where a setting of the command line is not that of the run, which has been resumed or begun."""
    record = run.record
    kept = {"seed": record["seed"], "preset": record.get("preset"), **record["model"], **record["training"]}
    for name in (given.keys() & kept.keys()) - {"sentences"}:  # which may name a path, and the record has it whole
        value = json.loads(json.dumps(given[name], default=str))
        if value != kept[name]:
            text = f"{run.folder} holds a training with {_option(name)} {kept[name]}, got {value}"
            raise Failure(f"{text}: give the same settings, or another folder", status=2)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
