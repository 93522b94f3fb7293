"""Models by name: those that ship with the package, folders, and repositories of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

import aligndraw
from aligndraw.model import lapgan
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.pipelines.card import CARD
from aligndraw.pipelines.hub import download

SHIPPED = Path(aligndraw.__file__).parent / "weights"  # each folder with a card is a model that ships
DEFAULT_MODEL = "mnist"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SOURCE_RULE = "must be a folder, a model that ships or OWNER/NAME"
NONE_SHIPS = (
    "no trained model ships with this installation: run `aligndraw train mnist`, then name its folder (--model DIR)"
)


def shipped_models() -> dict[str, Path]:
    """Returns the folders of the models that ship, by name."""
    return {card.parent.name: card.parent for card in sorted(SHIPPED.glob(f"*/{CARD}"))}


def default_model() -> Path:
    """Returns the folder of the model that ships and is taken where none is named, whatever lies in this directory.

    Raises:
        FileNotFoundError: it does not ship with this installation.
    """
    models = shipped_models()
    if DEFAULT_MODEL not in models:
        raise FileNotFoundError(NONE_SHIPS if not models else f"the model {DEFAULT_MODEL} does not ship: name another")
    return models[DEFAULT_MODEL]


def find_model(source: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """Returns the folder of a model.

    A folder comes first, then a model that ships, then the hub. Only a text of the form OWNER/NAME, where neither this
    folder nor OWNER exists, is looked up on the hub: nothing else needs a network.

    Args:
        source: a folder, the name of a model that ships, or OWNER/NAME on the Hugging Face hub.
        revision, token: of the hub.

    Raises:
        FileNotFoundError: there is no such model.
        OSError: the hub cannot be read.
        ValueError: the source is neither text nor a path, or is empty.
    """
    if not isinstance(source, (str, Path)) or source == "":
        raise ValueError(f"source {SOURCE_RULE}, got {source!r}")
    folder = Path(source)
    if _holds_model(folder):
        return folder
    shipped = shipped_models()
    if str(source) in shipped:
        return shipped[str(source)]
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not (folder.exists() or folder.parent.exists()):
        return download(source, revision, token)
    missing = f"there is no model in {source}"
    if folder.is_dir():
        raise FileNotFoundError(f"{missing}: it has no {CONFIG}")
    known = f"models that ship: {', '.join(shipped)}" if shipped else NONE_SHIPS
    raise FileNotFoundError(f"{missing}; {known}")


def lasting_name(source: str) -> str:
    """Returns a name under which `noted_model` finds a model again from another working directory."""
    return os.path.abspath(source) if _holds_model(Path(source)) else source


def noted_model(name: str | None) -> str | Path:
    """Returns the source of a model of which `lasting_name` gave the name; for None, the default model.

    The name of a model that ships means this model, though a folder of the name may lie in this working directory.

    Raises:
        FileNotFoundError: the default model does not ship with this installation.
    """
    return default_model() if name is None else shipped_models().get(name, name)


def model_name(source: str | Path, folder: Path) -> str:
    """Returns the name of a model in messages and files, of its source and the folder that `find_model` gives."""
    return f"{folder.name} (shipped)" if folder.parent == SHIPPED else str(source)


def _holds_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (WEIGHTS, CONFIG, *lapgan.NAMES))
