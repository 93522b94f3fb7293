"""The weights and the words of an existing model as the beginning of a training."""

from __future__ import annotations

from pathlib import Path

import torch

from aligndraw.config import ModelConfig
from aligndraw.model import Model, build_model
from aligndraw.model.saved import load_model
from aligndraw.text import Vocabulary

_TABLE = "words"  # the last part of the name of a parameter with a row per word


def load_start(folder: Path) -> tuple[Model, Vocabulary]:
    """Returns the model of a folder and its words.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ValueError: it is damaged or foreign.
    """
    model, vocabulary, _ = load_model(folder)
    if not all(p.isfinite().all() for p in model.parameters()):
        raise ValueError(f"the model in {folder} is damaged: some parameters are not finite")
    return model, vocabulary


def check_sizes(config: ModelConfig, start: ModelConfig, where: str) -> None:
    """Raises ValueError where parameters of two configurations differ otherwise than in their number of words.

    The message names the first field from which a difference comes.

    Args:
        config: of the training.
        start: of the model that it begins with.
        where: names that model in the message.
    """
    words = config.vocabulary_size
    wanted = _shapes(start.replace(vocabulary_size=words))
    if type(config) is type(start) and _shapes(config) == wanted:
        return
    if type(config) is not type(start):
        raise ValueError(f"the model must be {start.title} as {where}, got {config.title}")
    for name, value in vars(config).items():
        if value != getattr(start, name) and _shapes(_with(start, config, name)) != wanted:
            raise ValueError(f"{name} must be {_text(getattr(start, name))} as in {where}, got {_text(value)}")


@torch.no_grad()
def copy_parameters(network: Model, start: Model) -> None:
    """Copies the parameters of a model into one with at least its words, whose further words keep their rows."""
    ours = dict(network.state_dict())
    for name, values in start.state_dict().items():
        rows = len(values) if name.rpartition(".")[2] == _TABLE else len(ours[name])
        ours[name][:rows].copy_(values)


def _with(start: ModelConfig, config: ModelConfig, name: str) -> ModelConfig:
    """Returns `start` with a field of `config`, and the further fields without which it has no meaning."""
    changed = {name: getattr(config, name), "vocabulary_size": config.vocabulary_size}
    try:
        return start.replace(**changed)
    except ValueError:
        return config


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in build_model(config).state_dict().items()}


def _text(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
