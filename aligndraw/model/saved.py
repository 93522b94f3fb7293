"""Models in folders: weights in `model.safetensors`, configuration, vocabulary and notes in `config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aligndraw.arguments import check_path
from aligndraw.config import ModelConfig, model_config
from aligndraw.model import Model, build_model
from aligndraw.module_files import read_module, write_module
from aligndraw.printable import counted
from aligndraw.text import Vocabulary

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_FORMAT = "aligndraw 1"


def save_model(
    model: Model,
    vocabulary: Vocabulary,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Writes a model into a folder, which is made if need be; each file appears whole or not at all.

    Args:
        dtype: of the stored floats; None for the model's own. float16 halves the file.
        notes: how the model came about, any value that JSON can hold; stored in `config.json` under "notes".

    Raises:
        ValueError: the vocabulary is of another size than the model's.
        OSError: the folder cannot be written.
    """
    _check_words(model.config, vocabulary)
    record = {
        "format": _FORMAT,
        "model": model.config.to_dict(),
        "vocabulary": vocabulary.to_dict(),
        "notes": notes or {},
    }
    write_module(model, check_path("folder", folder), (WEIGHTS, CONFIG), record, dtype)


def load_model(folder: str | Path) -> tuple[Model, Vocabulary, dict[str, Any]]:
    """Returns the model that `save_model` wrote, in float32 on the CPU, its vocabulary and its notes.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ValueError: a file is damaged, foreign, or does not fit the other.
    """

    def build(record: dict[str, Any]) -> Model:
        config = model_config(record["model"])
        _check_words(config, Vocabulary.from_dict(record["vocabulary"]))
        return build_model(config)

    model, record = read_module(check_path("folder", folder), (WEIGHTS, CONFIG), "model", _FORMAT, build)
    return model, Vocabulary.from_dict(record["vocabulary"]), record["notes"]


def _check_words(config: ModelConfig, vocabulary: Vocabulary) -> None:
    if len(vocabulary) != config.vocabulary_size:
        raise ValueError(
            f"its vocabulary must have the {counted(config.vocabulary_size, 'word')} of vocabulary_size, got "
            f"{len(vocabulary)}"
        )
