"""A run folder: one training, which can be stopped at any moment and taken up again.

run.json                what is trained, on what, by which versions
metrics.jsonl           a line an update, and a line an epoch with the bound on each scored set
samples/epoch-0001.png  the same captions after each epoch
checkpoints/            update-00000100/ and so on (aligndraw.training.checkpoint), the last few
model.safetensors, config.json   the model as of the last epoch (aligndraw.model.saved)
lock                    held while a process trains here
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from aligndraw.config import Config, EndToEndConfig, ModelConfig, RefinedConfig, TrainingConfig, model_config
from aligndraw.data import Examples
from aligndraw.evaluation import features
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.lapgan import model as lapgan
from aligndraw.lapgan import sharpen
from aligndraw.model.saved import CONFIG, WEIGHTS, replacing, save_model
from aligndraw.text import skipthoughts
from aligndraw.training.checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from aligndraw.training.loop import Trainer, Update, read
from aligndraw.training.state import Resumable

RUN, METRICS, CHECKPOINTS, LOCK = "run.json", "metrics.jsonl", "checkpoints", "lock"
SAMPLES = "samples"  # samples.png, and a folder with a sheet for each epoch
EVENTS = "tensorboard"  # a folder of TensorBoard events, where they are asked for
# What trainings of any kind leave in their folder. One folder holds the results of one training: a file that an earlier
# one of another kind had left there would be taken for this one's.
RESULTS = (
    *(CONFIG, WEIGHTS, *lapgan.NAMES, *sharpen.NAMES, *features.NAMES),
    *(skipthoughts.DICTIONARY, *(name for names in skipthoughts.FILES.values() for name in names)),
    *(f"{SAMPLES}.png", f"{SAMPLES}/epoch-*.png", f"{EVENTS}/events.out.tfevents.*"),
)
FORMAT = "aligndraw run 2"

_M = TypeVar("_M", bound=Config)
_T = TypeVar("_T", bound=Config)
_R = TypeVar("_R", bound="RunFolder[Any, Any]")


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


class RunFolder(Generic[_M, _T]):
    """One training in one folder. Make one with `create`, or take one up with `open`.

    Attributes:
        MODEL, TRAINING: the configurations of what is trained, and of how.
        folder: the run folder.
        record: what `run.json` says: "model", "training", "seed" and what the caller added.
    """

    MODEL: type[_M]
    TRAINING: type[_T]

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record

    @classmethod
    def create(
        cls: type[_R], folder: Path, model: _M, training: _T, seed: int, overwrite: bool = False, **notes: Any
    ) -> _R:
        """A new run.

        Args:
            overwrite: removes what a training of whatever kind left in the folder.
            notes: what else `run.json` is to say.

        Raises:
            RunError: the folder holds what a training left, or one is going on there.
            OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            stale = cls(folder, {})
            with stale.locked():
                stale.clear()
        taken = [path.name for pattern in (RUN, METRICS, *RESULTS) for path in folder.glob(pattern)]
        if taken:
            raise RunError(f"{folder} holds {taken[0]} already: give another folder, --resume or --overwrite")
        record = {
            "format": FORMAT,
            "model": model.to_dict(),
            "training": training.to_dict(),
            "seed": seed,
            **notes,
        }
        with replacing(folder / RUN) as path:
            path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return cls(folder, record)

    @classmethod
    def open(cls: type[_R], folder: Path) -> _R:
        """A run that exists. Raises RunError where there is none, or its record is damaged."""
        if not (folder / RUN).is_file():
            raise RunError(f"there is no run in {folder}: it has no {RUN}")
        try:
            record = json.loads((folder / RUN).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            run = cls(folder, record)
            _ = run.model_config, run.training_config, int(record["seed"])
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder / RUN} is damaged or foreign: {error}") from error
        return run

    @property
    def model_config(self) -> _M:
        return self.MODEL.from_dict(self.record["model"])

    @property
    def training_config(self) -> _T:
        return self.TRAINING.from_dict(self.record["training"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this folder; ends with the process, however it ends.

        Raises:
            RunError: another process trains here.
        """
        with (self.folder / LOCK).open("a") as file:
            try:
                _lock(file.fileno())
            except OSError as error:
                raise RunError(
                    f"another process is training in {self.folder}: wait for it, or stop it"
                ) from error
            yield

    @contextmanager
    def begun(self) -> Iterator[None]:
        """`locked`; what ends in an error before the first checkpoint leaves nothing behind but the lock."""
        with self.locked():
            try:
                yield
            except BaseException:
                if not any(checkpoints(self.folder / CHECKPOINTS)):
                    self.clear()
                raise

    def clear(self) -> None:
        """Removes what trainings leave in the folder, but for the lock, and nothing else."""
        for pattern in (RUN, METRICS, *RESULTS):
            for path in self.folder.glob(pattern):
                path.unlink()
        for checkpoint in checkpoints(self.folder / CHECKPOINTS):
            shutil.rmtree(checkpoint)
        for place in (CHECKPOINTS, SAMPLES, EVENTS):
            with suppress(OSError):  # there is something else in it
                (self.folder / place).rmdir()

    def restore(self, trainer: Resumable) -> list[str]:
        """Puts a fresh trainer where the newest whole checkpoint was, and drops metrics of what came after it.

        Returns:
            a line for each newer checkpoint that was passed over, and one if the training goes on in other conditions
            (`aligndraw.training.conditions`). Without a checkpoint the trainer stays at the start.

        Raises:
            RunError: there are checkpoints, but none is whole.
        """
        passed, changed = [], ""
        for path in checkpoints(self.folder / CHECKPOINTS):
            try:
                changed = load_checkpoint(trainer, path)
                break
            except CheckpointError as error:
                passed.append(str(error))
        else:
            if passed:
                raise RunError(
                    f"no checkpoint in {self.folder / CHECKPOINTS} is whole; the newest: {passed[0]}"
                )
        self._cut_metrics(trainer.index)
        return [*(f"passed over: {line}" for line in passed), *filter(None, [changed])]

    def checkpoint(self, trainer: Resumable, keep: int = 2) -> None:
        """Saves a checkpoint and removes all but the newest `keep`."""
        folder = self.folder / CHECKPOINTS
        save_checkpoint(trainer, folder / f"update-{trainer.index:08d}")
        for old in list(checkpoints(folder))[keep:]:
            shutil.rmtree(old)
        for partial in folder.glob(".*.partial"):
            shutil.rmtree(partial)

    def log(self, **values: Any) -> None:
        """Adds one line to the metrics."""
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of the metrics; a last line that was cut off is left out."""
        path = self.folder / METRICS
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def _cut_metrics(self, index: int) -> None:
        kept = [m for m in self.metrics() if m["update"] <= index]
        with replacing(self.folder / METRICS) as path:
            path.write_text("".join(json.dumps(m) + "\n" for m in kept), encoding="utf-8")


class Run(RunFolder[ModelConfig, TrainingConfig]):
    """A training of a model of pictures given captions, of whatever kind."""

    MODEL, TRAINING = ModelConfig, TrainingConfig

    @property
    def model_config(self) -> ModelConfig:
        return model_config(self.record["model"])

    @property
    def training_config(self) -> TrainingConfig:
        kind = EndToEndConfig if isinstance(self.model_config, RefinedConfig) else TrainingConfig
        return kind.from_dict(self.record["training"])

    def origin(self, trainer: Trainer) -> dict[str, Any]:
        """How the trainer's model came about so far, for its notes; an epoch that has begun counts."""
        record = {k: v for k, v in self.record.items() if k not in ("format", "model")}
        return {**record, "updates": trainer.index, "epochs": -(-trainer.index // trainer.updates_per_epoch)}


def train_run(
    run: Run,
    trainer: Trainer,
    scored: Mapping[str, Examples],
    *,
    checkpoint_every: int,
    keep: int = 2,
    on_update: Callable[[Update], None] = lambda update: None,
    on_epoch: Callable[[int, dict[str, Any]], None] = lambda epoch, scores: None,
    stopping: Callable[[], bool] = lambda: False,
) -> str:
    """Trains from where the trainer stands to the end of its recipe, and keeps the run folder.

    Args:
        run: locked by the caller.
        trainer: fresh, or restored.
        scored: named examples whose bound is taken after each epoch; patience goes by the first.
        checkpoint_every: updates from one checkpoint to the next; there is one after each epoch too.
        keep: checkpoints kept.
        on_update: called after each update, at most `Trainer.lag` updates later.
        on_epoch: called after each epoch with its number, from 1, and its scores, after they were written; the model
            then has the averaged weights, where there are any.
        stopping: asked after each update: true saves a checkpoint and ends.

    Returns:
        "finished", "stopped" or "no better bound" (patience).
    """
    per_epoch = trainer.updates_per_epoch
    ended = _out_of_patience(run, trainer, scored)
    launched: list[Callable[[], Update]] = []

    def report(waiting: int) -> None:
        """The figures of what was launched, but for as many of the last."""
        for update in read(launched, waiting):
            run.log(
                update=update.index + 1,
                bound=update.bound,
                kl=update.kl,
                nll=update.nll,
                gradient_norm=update.gradient_norm,
                learning_rate=update.learning_rate,
                **update.more,
            )
            on_update(update)

    while trainer.index < trainer.total and not ended:
        launched.append(trainer.launch())
        due = trainer.index % checkpoint_every == 0 or trainer.index % per_epoch == 0
        report(waiting=0 if due else trainer.lag)
        if trainer.index % per_epoch == 0:
            _end_epoch(run, trainer, scored, on_epoch)
            ended = _out_of_patience(run, trainer, scored)
        stop = stopping()
        if stop or due:
            report(waiting=0)
            run.checkpoint(trainer, keep)
        if stop:
            return "stopped"
    return "no better bound" if ended else "finished"


def _end_epoch(
    run: Run, trainer: Trainer, scored: Mapping[str, Examples], on_epoch: Callable[[int, dict[str, Any]], None]
) -> None:
    epoch = trainer.index // trainer.updates_per_epoch
    with trainer.averaged() as model:
        scores = {name: estimate_bound(model, examples).to_dict() for name, examples in scored.items()}
        notes = {**run.origin(trainer), "bound": scores}
        save_model(model, trainer.source.vocabulary, run.folder, notes=notes)
        run.log(update=trainer.index, epoch=epoch, **scores)
        on_epoch(epoch, scores)


def _out_of_patience(run: Run, trainer: Trainer, scored: Mapping[str, Examples]) -> bool:
    patience = trainer.config.patience
    if not patience:
        return False
    first = next(iter(scored))
    bounds = [m[first]["bound"]["mean"] for m in run.metrics() if "epoch" in m]
    return len(bounds) > patience and min(bounds[-patience:]) >= min(bounds[:-patience], default=math.inf)


if os.name == "posix":
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
else:
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
