"""A model in a folder: `model.safetensors`, and `config.json` with its configuration and vocabulary beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from aligndraw.config import AlignDRAWConfig
from aligndraw.model.draw import AlignDRAW
from aligndraw.text import Vocabulary

WEIGHTS, CONFIG = "model.safetensors", "config.json"


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
    model: AlignDRAW,
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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": "aligndraw 1",
        "model": model.config.to_dict(),
        "vocabulary": list(vocabulary.words),
        "notes": notes or {},
    }
    state = {k: v.to(dtype or v.dtype).contiguous() for k, v in model.state_dict().items()}
    with replacing(folder / WEIGHTS) as path:
        path.write_bytes(safetensors.torch.save(state))  # save_file hides a full disk in an error of its own
    with replacing(folder / CONFIG) as path:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_model(folder: str | Path) -> tuple[AlignDRAW, Vocabulary, dict[str, Any]]:
    """Reads what `save_model` wrote: the model in float32 on the CPU, its vocabulary, its notes.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ValueError: a file is damaged, foreign, or does not fit the other.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no model in {folder}: it has no {name}")
    try:
        record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != "aligndraw 1":
            raise ValueError("it does not say that its format is aligndraw 1")
        with torch.random.fork_rng(devices=()):  # the first parameters are drawn, and replaced below
            model = AlignDRAW(AlignDRAWConfig.from_dict(record["model"]))
        vocabulary = Vocabulary(tuple(record["vocabulary"]))
        notes = record.get("notes", {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{folder / CONFIG} is no model configuration: {told}") from error
    try:
        state = safetensors.torch.load_file(folder / WEIGHTS)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged or no safetensors file: {error}") from error
    wanted = {k: v.shape for k, v in model.state_dict().items()}
    wrong = sorted(
        k for k in wanted.keys() | state.keys() if k not in state or wanted.get(k) != state[k].shape
    )
    if wrong:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG} beside it: look at {', '.join(wrong[:3])}"
        )
    model.load_state_dict({k: v.float() for k, v in state.items()})
    return model, vocabulary, notes
