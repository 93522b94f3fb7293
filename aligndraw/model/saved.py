"""A model in a folder: `model.safetensors`, and `config.json` with its configuration and vocabulary beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn

from aligndraw.config import model_config
from aligndraw.model import Model, build_model
from aligndraw.text import Vocabulary

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_FORMAT = "aligndraw 1"
_M = TypeVar("_M", bound=nn.Module)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(
    model: Model,
    vocabulary: Vocabulary,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Writes a model into a folder, which is made if need be; each file appears whole or not at all.

    Args:
        dtype: of the stored floats, when not the model's: float16 halves the file.
        notes: anything JSON can hold about how the model came about, kept in `config.json` under "notes".

    Raises:
        OSError: the folder cannot be written.
    """
    record = {
        "format": _FORMAT,
        "model": model.config.to_dict(),
        "vocabulary": list(vocabulary.words),
        "notes": notes or {},
    }
    write_module(model, Path(folder), (WEIGHTS, CONFIG), record, dtype)


def write_module(
    module: nn.Module,
    folder: Path,
    names: tuple[str, str],
    record: dict[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Writes the weights of a module and a record beside them, files of these names, as `save_model` does."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(dtype or v.dtype).contiguous() for k, v in module.state_dict().items()}
    with replacing(folder / names[0]) as path:
        path.write_bytes(safetensors.torch.save(state))  # save_file hides a full disk in an error of its own
    with replacing(folder / names[1]) as path:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_model(folder: str | Path) -> tuple[Model, Vocabulary, dict[str, Any]]:
    """Reads what `save_model` wrote: the model in float32 on the CPU, its vocabulary, its notes.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ValueError: a file is damaged, foreign, or does not fit the other.
    """

    def build(record: dict[str, Any]) -> Model:
        record["vocabulary"] = Vocabulary(tuple(record["vocabulary"]))
        return build_model(model_config(record["model"]))

    model, record = read_module(Path(folder), (WEIGHTS, CONFIG), "model", _FORMAT, build)
    return model, record["vocabulary"], record.get("notes", {})


def read_module(
    folder: Path, names: tuple[str, str], kind: str, format: str, build: Callable[[dict[str, Any]], _M]
) -> tuple[_M, dict[str, Any]]:
    """Reads what `write_module` wrote.

    Args:
        names: of the weights and of the record.
        kind: what messages call it.
        format: what the record must say that it is.
        build: makes the module of the record, in which what is missing or wrong is a KeyError, ValueError or TypeError.

    Returns:
        the module in float32 on the CPU, and the record.

    Raises:
        as `load_model`.
    """
    weights, config = (folder / name for name in names)
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"there is no {kind} in {folder}: it has no {path.name}")
    try:
        record = json.loads(config.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != format:
            raise ValueError(f"it does not say that its format is {format}")
        with torch.random.fork_rng(devices=()):  # the first parameters are drawn, and replaced below
            module = build(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{config} is no {kind} configuration: {told}") from error
    try:
        state = safetensors.torch.load_file(weights)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{weights} is damaged or no safetensors file: {error}") from error
    wanted = {k: v.shape for k, v in module.state_dict().items()}
    wrong = sorted(
        k for k in wanted.keys() | state.keys() if k not in state or wanted.get(k) != state[k].shape
    )
    if wrong:
        raise ValueError(f"{weights} does not fit {config.name} beside it: look at {', '.join(wrong[:3])}")
    module.load_state_dict({k: v.float() for k, v in state.items()})
    return module, record
