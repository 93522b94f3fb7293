"""Run folders: one training each, which can be stopped at any moment and resumed.

run.json                model, recipe, data and versions of the training
metrics.jsonl           one line per update, of its figures or "skipped"; one line per epoch, with the bound on each set
samples/epoch-0001.png  drawings of the same captions after each epoch
checkpoints/            update-00000100/ and so on (aligndraw.training.checkpoint), the last few
model.safetensors, config.json   the model of the last epoch (aligndraw.model.saved)
lock                    held while a process trains here

Of several processes that share a training (`aligndraw.training.ranks`) the first one alone reads and writes the folder.
The others receive its record and its checkpoint from the first one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from aligndraw.evaluation import features
from aligndraw.files import atomic_write, discard, locked, sweep
from aligndraw.json_files import digest_of, entry, naming, parse_json
from aligndraw.lapgan import sharpen
from aligndraw.model import lapgan
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.printable import counted
from aligndraw.settings import Config
from aligndraw.text import skipthoughts
from aligndraw.training.checkpoint import (
    NUMBERS,
    STATE,
    CheckpointError,
    checkpoints,
    read_checkpoint,
    restore_state,
    save_checkpoint,
    state_digest,
)
from aligndraw.training.ranks import current
from aligndraw.training.state import Resumable

RUN, METRICS, CHECKPOINTS, LOCK = "run.json", "metrics.jsonl", "checkpoints", "lock"
SAMPLES = "samples"  # samples.png, and a folder with one sheet per epoch
EVENTS = "tensorboard"  # a folder of TensorBoard events, with --tensorboard
# The files that trainings of any kind write. A folder holds one training: files of an earlier one would be mistaken for
# its own.
RESULTS = (
    *(CONFIG, WEIGHTS, *lapgan.NAMES, *sharpen.NAMES, *features.NAMES),
    *(skipthoughts.DICTIONARY, *(name for names in skipthoughts.FILES.values() for name in names)),
    *(f"{SAMPLES}.png", f"{SAMPLES}/epoch-*.png", f"{EVENTS}/events.out.tfevents.*"),
)
FORMAT = "aligndraw run 2"
SKIPPED = "skipped"  # in the metrics, of an update that changed nothing since its batch gave no finite numbers
_RESUMED_WITH = "resumed_with"  # the entry of the record for settings that a resumed training has changed

_C = TypeVar("_C", bound=Config)
_M = TypeVar("_M", bound=Config)
_T = TypeVar("_T", bound=Config)
_R = TypeVar("_R", bound="RunFolder[Any, Any]")
_B = TypeVar("_B", bound="TrainingSetup")


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


class RunFolder(Generic[_M, _T]):
    """One training in one folder. `create` makes one, `open` opens an existing one.

    Attributes:
        MODEL, TRAINING: the classes of the configurations of the model and of its training.
        folder: the run folder.
        record: the contents of `run.json`: "model", "training", "seed" and the caller's notes.
        last_checkpoint: the last one saved, or the one restored; None before. All processes of a training know it.
    """

    MODEL: type[_M]
    TRAINING: type[_T]

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record
        self.last_checkpoint: Path | None = None

    @classmethod
    def create(
        cls: type[_R], folder: Path, model: _M, training: _T, seed: int, overwrite: bool = False, **notes: Any
    ) -> _R:
        """Returns a new run.

        Args:
            overwrite: removes the files that a training of any kind left in the folder.
            notes: further entries of `run.json`.

        Raises:
            RunError: the folder holds files of a training, or a training is running there.
            OSError: it cannot be written.
        """
        record = {
            "format": FORMAT,
            "model": model.to_dict(),
            "training": training.to_dict(),
            "seed": seed,
            **notes,
        }
        run = cls(folder, record)
        current().check_same(lambda: record)
        current().on_first(lambda: run._begin(overwrite))
        return run

    def _begin(self, overwrite: bool) -> None:
        """Makes the folder and writes the record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            with self._locked():
                self.clear()
        known = (RUN, METRICS, *RESULTS, f"{CHECKPOINTS}/update-*")
        taken = [path.name for pattern in known for path in self.folder.glob(pattern)]
        if taken:
            raise RunError(f"{self.folder} holds {taken[0]} already: give another folder, --resume or --overwrite")
        self._write_record()

    @classmethod
    def open(cls: type[_R], folder: Path) -> _R:
        """Returns an existing run. Raises RunError where there is none, or its record is damaged."""

        def read() -> bytes:
            if not (folder / RUN).is_file():
                raise RunError(f"there is no run in {folder}: it has no {RUN}")
            try:
                return (folder / RUN).read_bytes()
            except OSError as error:
                raise RunError(f"cannot read {folder / RUN}: {error.strerror}") from error

        content = current().bytes_of_first(read)
        with naming(folder / RUN, "damaged or foreign", RunError):
            record = parse_json(content)
            if entry(record, "format", str) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            run = cls(folder, record)
            _ = run.model_config, run.training_config
            _check_seed(record)
        return run

    @property
    def _digest(self) -> str:
        """The digest of the entries of the record that the parameters depend on."""
        entries = {name: self.record.get(name) for name in ("model", "training", "seed", "settings")}
        if "vocabulary" in self.record:
            entries["vocabulary"] = self.record["vocabulary"]
        return digest_of(entries)

    def settings(self, kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
        """Returns the settings in `run.json`.

        Args:
            kinds: the types of each setting; "seed" is one of them. A setting that may be null may also be missing.

        Raises:
            RunError: a setting is unknown, missing or of another type.
        """
        with naming(self.folder / RUN, "damaged or foreign", RunError):
            found = entry(self.record, "settings", dict)
            wanted = {name for name, types in kinds.items() if type(None) not in types}
            if not wanted <= set(found) <= set(kinds):
                raise ValueError("its settings are those of another training")
            _check_seed(found)
            found = {**dict.fromkeys(kinds), **found}
            return {name: entry(found, name, *types) for name, types in kinds.items()}

    @property
    def model_config(self) -> _M:
        return self.MODEL.from_dict(self.record["model"])

    @property
    def training_config(self) -> _T:
        return self._extended(self.TRAINING)

    def _extended(self, kind: type[_C]) -> _C:
        """Returns the configuration of the training, with the number of epochs that `extend` has set."""
        more = entry(self.record, _RESUMED_WITH, dict, default={})
        epochs = {"epochs": entry(more, "epochs", int)} if more else {}
        return kind.from_dict({**entry(self.record, "training", dict), **epochs})

    def extend(self, epochs: int | None) -> list[str]:
        """Sets a larger number of epochs; `save_record` keeps it. Checkpoints stay valid.

        Returns:
            lines for the user: one where a schedule falls to the end of the training, and so rises again.

        Raises:
            RunError: it is no larger number.
        """
        if epochs is None:
            return []
        before = self.training_config.to_dict()
        if epochs <= before["epochs"]:
            raise RunError(
                f"{self.folder} has {counted(before['epochs'], 'epoch')}: give more than these, or leave epochs out"
            )
        self.record[_RESUMED_WITH] = {"epochs": epochs}
        if before.get("schedule") != "cosine":
            return []
        return [
            f"the learning rate now falls to the end of {counted(epochs, 'epoch')}, not of {before['epochs']}: "
            f"it rises here"
        ]

    def save_record(self) -> None:
        """Writes `run.json`. Raises OSError where it cannot be written."""
        current().on_first(self._write_record)

    def _write_record(self) -> None:
        with atomic_write(self.folder / RUN) as path:
            path.write_text(json.dumps(self.record, indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other trainings from this folder, and removes unfinished files of killed processes.

        Raises:
            RunError: another process trains here.
        """
        with ExitStack() as stack:

            def lock() -> None:
                stack.enter_context(self._locked())

            current().on_first(lock)
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / LOCK))
            except BlockingIOError as error:
                raise RunError(f"another process is training in {self.folder}: wait for it, or stop it") from error
            for folder in (self.folder, self.folder / CHECKPOINTS, self.folder / SAMPLES):
                sweep(folder)
            yield

    @contextmanager
    def begun(self) -> Iterator[None]:
        """As `locked`; an error before the first checkpoint removes all files of the training but the lock."""
        with self.locked():
            try:
                yield
            except BaseException:
                if current().first and not any(checkpoints(self.folder / CHECKPOINTS)):
                    self.clear()
                raise

    def clear(self) -> None:
        """Removes the files of trainings from the folder, except the lock, and nothing else.

        Checkpoints go first and the record last: after a kill, no checkpoint is left for a later training to resume
        from.
        """
        for checkpoint in checkpoints(self.folder / CHECKPOINTS):
            discard(checkpoint)
        for pattern in (*RESULTS, METRICS, RUN):
            for path in self.folder.glob(pattern):
                path.unlink()
        for place in (CHECKPOINTS, SAMPLES, EVENTS):
            with suppress(OSError):  # it holds other files
                (self.folder / place).rmdir()

    def restore(self, trainer: Resumable[Any]) -> list[str]:
        """Restores a fresh trainer from the newest whole checkpoint, and drops the metrics after it.

        Returns:
            lines for the user: one per damaged newer checkpoint, one per damaged line of the metrics, which is removed,
            one if updates are missing from the metrics, and one if the conditions have changed
            (`aligndraw.training.conditions`). Without a checkpoint the trainer stays at the start.

        Raises:
            RunError: there are checkpoints, but none is whole.
        """
        ranks, folder = current(), self.folder / CHECKPOINTS
        contents = {STATE: b"", NUMBERS: b""}

        def load() -> list[str]:
            passed, changed = [], ""
            for path in checkpoints(folder):
                try:
                    found = read_checkpoint(path)
                    changed = restore_state(trainer, found, path, self._digest)
                    contents.update(found)
                    break
                except CheckpointError as error:
                    passed.append(str(error))
            else:
                if passed:
                    raise RunError(f"no checkpoint in {folder} is whole; the newest: {passed[0]}")
            damaged = self._truncate_metrics(trainer.index)
            return [*(f"passed over: {line}" for line in passed), *damaged, *filter(None, [changed])]

        lines: list[str] = ranks.on_first(load)
        received = {name: ranks.bytes_of_first(partial(contents.__getitem__, name)) for name in contents}
        if received[STATE]:
            if not ranks.first:
                restore_state(trainer, received, folder, self._digest)
            self.last_checkpoint = folder / _checkpoint_name(trainer)
        return lines

    def checkpoint(self, trainer: Resumable[Any], keep: int = 2) -> None:
        """Saves a checkpoint and removes all but the newest `keep`.

        Raises:
            RanksError: the states of the processes differ.
            OSError: it cannot be written.
        """
        path = self.folder / CHECKPOINTS / _checkpoint_name(trainer)

        def save() -> None:
            save_checkpoint(trainer, path, self._digest)
            self.prune(keep)

        current().check_same(lambda: {f"state after update {trainer.index}": state_digest(trainer)})
        current().on_first(save)
        self.last_checkpoint = path

    def prune(self, keep: int) -> None:
        """Removes all but the newest `keep` checkpoints."""
        for old in list(checkpoints(self.folder / CHECKPOINTS))[keep:]:
            discard(old)

    def skipped(self) -> int:
        """Returns the number of updates that the metrics call skipped."""
        return sum(SKIPPED in line for line in self.metrics())

    def log(self, **values: Any) -> None:
        """Adds one line to the metrics."""
        if not current().first:
            return
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Returns every whole line of the metrics: "update" and metrics; or "update", "epoch" and scores."""
        return self._read_metrics()[0]

    def _read_metrics(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Returns the whole lines of the metrics, and one message per damaged line.

        An unfinished last line is ignored.
        """
        path, whole, damaged = self.folder / METRICS, [], []
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                with naming(path, "damaged"):
                    found = parse_json(line)
                    if entry(found, "update", int) < 0:
                        raise ValueError("an update has a number of at least 0")
                    if entry(found, "epoch", int, default=None) is None:
                        for name in found:
                            entry(found, name, float)
                    whole.append(found)
            except ValueError as error:
                damaged.append(str(error).replace(f"{path} is", f"{path}, line {number} is", 1))
        return whole, damaged

    def _truncate_metrics(self, index: int) -> list[str]:
        """Removes the lines after an update; returns lines about damaged and missing ones."""
        found, damaged = self._read_metrics()
        kept = [m for m in found if m["update"] <= index]
        with atomic_write(self.folder / METRICS) as path:
            path.write_text("".join(json.dumps(m) + "\n" for m in kept), encoding="utf-8")
        lost = len(set(range(1, index + 1)) - {m["update"] for m in kept if "epoch" not in m})
        lacking = [f"{self.folder / METRICS} lacks the figures of {lost} of {counted(index, 'update')}"] if lost else []
        return [*damaged, *lacking]


def _check_seed(record: dict[str, Any]) -> None:
    if not 0 <= entry(record, "seed", int) < 2**63:
        raise ValueError("'seed' must be a whole number of at least 0, below 2^63")


def _checkpoint_name(trainer: Resumable[Any]) -> str:
    return f"update-{trainer.index:08d}"


class TrainingSetup(ABC):
    """A training built from the settings in its `run.json`, both when it begins and when it resumes.

    Attributes:
        RUN: the class of its run folder.
        SETTINGS: the types of the settings, as for `RunFolder.settings`.
        PRESETS: models and recipes by name.
        settings: paths, seed and the like.
        model_config: of the networks, with the sizes of the data.
        trainer: fresh.
        origins: the entries of `run.json` that identify files, each with the path of the file.
    """

    RUN: ClassVar[type[RunFolder[Any, Any]]]
    SETTINGS: ClassVar[Mapping[str, tuple[type, ...]]]
    PRESETS: ClassVar[Mapping[str, tuple[Config, Config]]]
    settings: Mapping[str, Any]
    model_config: Any
    trainer: Any
    origins: dict[str, tuple[Any, Any]]

    @abstractmethod
    def __init__(self, settings: Mapping[str, Any], model: Any, recipe: Any, device: str) -> None: ...

    @abstractmethod
    def description(self) -> str:
        """Returns one line: networks, data, updates."""

    @contextmanager
    def begun(
        self, folder: Path, recipe: Config, overwrite: bool = False, **notes: Any
    ) -> Iterator[RunFolder[Any, Any]]:
        """Begins the run; arguments and errors are those of `RunFolder.create`."""
        origins = {name: value for name, (value, _) in self.origins.items()}
        notes = {**notes, "settings": self.settings, **origins}
        run = self.RUN.create(folder, self.model_config, recipe, self.settings["seed"], overwrite, **notes)
        with run.begun():
            yield run

    @classmethod
    @contextmanager
    def resumed(
        cls: type[_B], folder: Path, device: str, epochs: int | None = None
    ) -> Iterator[tuple[_B, RunFolder[Any, Any], list[str]]]:
        """Resumes a run from its newest whole checkpoint.

        Args:
            epochs: a larger number of them than before; None for the run's.

        Yields:
            the setup, the run, locked, and lines for the user as from `RunFolder.restore`.

        Raises:
            RunError: there is no run, or it is damaged or foreign, or one of its files has changed.
        """
        run = cls.RUN.open(folder)
        settings, changed = run.settings(cls.SETTINGS), run.extend(epochs)
        setup = cls(settings, run.model_config, run.training_config, device)
        for name, (value, place) in setup.origins.items():
            if run.record.get(name) != value:
                raise RunError(f"{place} has changed since the training in {folder} began: restore it")
        with run.locked():
            remarks = run.restore(setup.trainer)
            if epochs is not None:
                run.save_record()
            yield setup, run, [*remarks, *changed]
