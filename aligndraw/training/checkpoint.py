"""Checkpoints: all that the next update depends on, in a folder that is complete or absent.

<name>/
    state.safetensors   "model/<parameter>", "average/…", "auxiliary/…", "optimizer/<parameter>/<key>"
    state.json          {"index": updates done, "conditions": what their last bits depend on}
    manifest.json       size and SHA-256 of the two
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from aligndraw.files import replacing
from aligndraw.training.conditions import conditions, difference
from aligndraw.training.state import Resumable

_KINDS = "model", "average", "auxiliary"
_RENAMED = {"opponent": "auxiliary"}  # of checkpoints of version 0.1
STATE, NUMBERS, MANIFEST = "state.safetensors", "state.json", "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint is damaged, or not one of this training; the message names the file and what is wrong."""


def save_checkpoint(trainer: Resumable[Any], folder: Path) -> None:
    """Writes a checkpoint; an interruption at any moment leaves a whole one or none.

    Raises:
        OSError: it cannot be written.
    """
    with suppress(CheckpointError):
        _verified(folder)  # the same update makes the same checkpoint
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    contents = {
        STATE: safetensors.torch.save(_tensors(trainer)),
        NUMBERS: json.dumps({"index": trainer.index, "conditions": conditions(trainer)}).encode(),
    }
    manifest = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    contents[MANIFEST] = json.dumps(manifest, indent=2).encode()
    with replacing(folder) as new:
        new.mkdir()
        for name, content in contents.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def load_checkpoint(trainer: Resumable[Any], folder: Path) -> str:
    """Puts a trainer of the same configuration where the saved one was.

    Returns:
        one line that says why it may not go on to the same bits; "" where it does.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the trainer.
    """
    contents = _verified(folder)
    try:
        tensors = {_renamed(n): t for n, t in safetensors.torch.load(contents[STATE]).items()}
        numbers = json.loads(contents[NUMBERS])
        index, changed = numbers["index"], difference(numbers.get("conditions", {}), conditions(trainer))
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} is no checkpoint: {error}") from error
    wanted = _tensors(trainer, fresh=True)
    wrong = sorted(n for n in wanted if n not in tensors or tensors[n].shape != wanted[n].shape)
    if wrong:
        raise CheckpointError(f"{folder} is of another configuration: look at {', '.join(wrong[:3])}")
    names = [n for n, _ in trainer.model.named_parameters()]
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, rest = name.split("/", 1)
        if kind == "optimizer":
            parameter, key = rest.split("/")
            optimizer.setdefault(names.index(parameter), {})[key] = tensor
    groups = trainer.optimizer.state_dict()["param_groups"]

    def part(kind: str) -> dict[str, Tensor]:
        return {n.split("/", 1)[1]: t for n, t in tensors.items() if n.startswith(f"{kind}/")}

    state: dict[str, Any] = {"index": index, **{kind: part(kind) for kind in _KINDS}}
    state["optimizer"] = {"state": optimizer, "param_groups": groups}
    trainer.load_state_dict(state)
    return changed


def checkpoints(folder: Path) -> Iterator[Path]:
    """The checkpoints in a folder, newest first."""
    yield from sorted(folder.glob("update-*"), reverse=True)


def _tensors(trainer: Resumable[Any], fresh: bool = False) -> dict[str, Tensor]:
    """Every tensor of a trainer under its name in the file; `fresh` leaves out what an optimizer makes as it goes."""
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


def _verified(folder: Path) -> dict[str, bytes]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        contents = {name: (folder / name).read_bytes() for name in (STATE, NUMBERS)}
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != manifest[name]["sha256"]:
                raise CheckpointError(f"{folder / name} is damaged: its checksum is not the manifest's")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder} is no whole checkpoint: {error}") from error
    return contents
