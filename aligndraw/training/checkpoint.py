"""Checkpoints: folders, complete or absent, that hold all that the next update depends on.

<name>/
    state.safetensors   "model/<parameter>", "average/…", "auxiliary/…", "optimizer/<parameter>/<key>"
    state.json          {"index": updates done, "tensors": their number, "optimizer": its class,
                         "conditions": see aligndraw.training.conditions, "run": digest of the run's configuration}
    manifest.json       size and SHA-256 of the two
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from aligndraw.files import atomic_write
from aligndraw.json_files import entry, naming, parse_json, read_json
from aligndraw.printable import counted
from aligndraw.training.conditions import current_conditions, difference
from aligndraw.training.state import Resumable

_KINDS = "model", "average", "auxiliary"
_RENAMED = {"opponent": "auxiliary"}  # of checkpoints of version 0.1
STATE, NUMBERS, MANIFEST = "state.safetensors", "state.json", "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another training; the message names the file and the fault."""


def save_checkpoint(trainer: Resumable[Any], folder: Path, run: str = "") -> None:
    """Writes a checkpoint. An interruption at any moment leaves a complete one or none.

    Args:
        run: digest of the run's configuration, which `load_checkpoint` compares.

    Raises:
        OSError: it cannot be written.
    """
    with suppress(CheckpointError):
        read_checkpoint(folder)  # of the same update, so the same
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(trainer)
    numbers = {"index": trainer.index, "tensors": len(tensors), "optimizer": _optimizer(trainer)}
    numbers["conditions"] = current_conditions(trainer)
    numbers |= {"run": run} if run else {}
    contents = {STATE: safetensors.torch.save(tensors), NUMBERS: json.dumps(numbers).encode()}
    manifest = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    contents[MANIFEST] = json.dumps(manifest, indent=2).encode()
    with atomic_write(folder) as new:
        new.mkdir()
        for name, content in contents.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def load_checkpoint(trainer: Resumable[Any], folder: Path, run: str = "") -> str:
    """Restores a trainer of the same configuration to the state of a checkpoint.

    Args:
        run: digest of the run's configuration; "" compares none, and checkpoints of version 0.1 have none.

    Returns:
        one line that says why resuming may not be bit-exact; "" where it is.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the trainer.
    """
    return restore_state(trainer, read_checkpoint(folder), folder, run)


def restore_state(trainer: Resumable[Any], contents: Mapping[str, bytes], folder: Path, run: str = "") -> str:
    """As `load_checkpoint`, from the contents of the files.

    Args:
        folder: for error messages.
    """
    with naming(folder, "no checkpoint", CheckpointError):
        try:
            tensors = {_renamed(n): t for n, t in safetensors.torch.load(contents[STATE]).items()}
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error
        numbers = parse_json(contents[NUMBERS])
        index = entry(numbers, "index", int)
        if not 0 <= index <= trainer.total:
            raise ValueError(f"'index' must be in 0…{trainer.total}, got {index}")
        wanted_count = entry(numbers, "tensors", int, default=len(tensors))  # earlier versions do not record it
        if len(tensors) != wanted_count:
            raise ValueError(f"it must hold {counted(wanted_count, 'tensor')}, got {len(tensors)}")
        kept_by = entry(numbers, "optimizer", str, default=_optimizer(trainer))  # version 0.1 does not record it
        begun_as = entry(numbers, "run", str, default=run)
        changed = difference(entry(numbers, "conditions", dict, default={}), current_conditions(trainer))
    if run and begun_as != run:
        raise CheckpointError(f"{folder} is of another configuration: the run's record has changed since: restore it")
    if kept_by != _optimizer(trainer):
        raise CheckpointError(f"{folder} is of another configuration: its optimizer is {kept_by}")
    wanted = _tensors(trainer, fresh=True)
    wrong = [
        n for n, t in wanted.items() if n not in tensors or (tensors[n].shape, tensors[n].dtype) != (t.shape, t.dtype)
    ]
    parameters = {n: (i, p.shape) for i, (n, p) in enumerate(trainer.model.named_parameters())}
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name in tensors.keys() - wanted.keys():
        kind, _, rest = name.partition("/")
        parameter, _, key = rest.partition("/")
        i, shape = parameters.get(parameter, (-1, ()))
        # The state of a parameter has a number for all of it, for each of its rows, or for each of its elements.
        if kind != "optimizer" or i < 0 or tensors[name].shape not in ((), shape[:1], shape):
            wrong.append(name)
        else:
            optimizer.setdefault(i, {})[key] = tensors[name]
    if wrong:
        raise CheckpointError(f"{folder} is of another configuration: look at {', '.join(sorted(wrong)[:3])}")
    groups = trainer.optimizer.state_dict()["param_groups"]

    def part(kind: str) -> dict[str, Tensor]:
        return {n.split("/", 1)[1]: t for n, t in tensors.items() if n.startswith(f"{kind}/")}

    state: dict[str, Any] = {"index": index, **{kind: part(kind) for kind in _KINDS}}
    state["optimizer"] = {"state": optimizer, "param_groups": groups}
    trainer.load_state_dict(state)
    return changed


def checkpoints(folder: Path) -> Iterator[Path]:
    """Yields the checkpoints in a folder, newest first."""
    yield from sorted(folder.glob("update-*"), reverse=True)


def _tensors(trainer: Resumable[Any], fresh: bool = False) -> dict[str, Tensor]:
    """Returns every tensor of a trainer by its name in the file; `fresh` leaves out the optimizer's state."""
    state = trainer.state_dict()
    tensors = {f"{kind}/{n}": t for kind in _KINDS for n, t in state[kind].items()}
    if not fresh:
        names = [n for n, _ in trainer.model.named_parameters()]
        for i, values in state["optimizer"]["state"].items():
            tensors.update({f"optimizer/{names[i]}/{key}": t for key, t in values.items()})
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _renamed(name: str) -> str:
    kind, _, rest = name.partition("/")
    return f"{_RENAMED.get(kind, kind)}/{rest}"


def _optimizer(trainer: Resumable[Any]) -> str:
    return type(trainer.optimizer).__name__


def state_digest(trainer: Resumable[Any]) -> str:
    """Returns the SHA-256 of all that a checkpoint holds of a trainer."""
    return hashlib.sha256(safetensors.torch.save(_tensors(trainer))).hexdigest()


def read_checkpoint(folder: Path) -> dict[str, bytes]:
    """Returns the contents of a checkpoint's files. Raises CheckpointError where one is missing or damaged."""
    try:
        with naming(folder / MANIFEST, "damaged or foreign", CheckpointError):
            manifest = read_json(folder / MANIFEST)
            checksums = {name: entry(entry(manifest, name, dict), "sha256", str) for name in (STATE, NUMBERS)}
        contents = {name: (folder / name).read_bytes() for name in checksums}
    except OSError as error:
        raise CheckpointError(f"{folder} is no whole checkpoint: {error}") from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != checksums[name]:
            raise CheckpointError(f"{folder / name} is damaged: its checksum is not the manifest's")
    return contents
