"""Networks in folders: weights in a .safetensors file, configuration and notes in a .json file beside it.

The weights know the digest of the configuration, and the two are loaded only together.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from aligndraw.arguments import check_path
from aligndraw.files import atomic_write, load_tensors, save_tensors
from aligndraw.json_files import digest_of, entry, naming, read_json

_M = TypeVar("_M", bound=nn.Module)
_S = TypeVar("_S", bound="SavedModule")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of stored floats

_DIGEST = "record"  # among the metadata of the weights


def write_module(
    module: nn.Module,
    folder: Path,
    names: tuple[str, str],
    record: dict[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Writes the weights of a module and its record into files of these names.

    Raises:
        ValueError: the dtype is none of `DTYPES`.
        OSError: a file cannot be written; each appears whole or not at all.
    """
    check_dtype(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(dtype or v.dtype) for k, v in module.state_dict().items()}
    text = json.dumps(record, indent=2) + "\n"
    with atomic_write(folder / names[0]) as path:
        save_tensors(path, state, {_DIGEST: _digest(json.loads(text))})
    with atomic_write(folder / names[1]) as path:
        path.write_text(text, encoding="utf-8")


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raises ValueError for a dtype in which no floats are stored; None stands for the module's own."""
    if dtype is not None and not any(dtype is known for known in DTYPES):
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype!r}")


def _digest(record: dict[str, Any]) -> str:
    """Returns the digest of a record without its notes.

    A training saves its model again and again with other notes. A kill between the two files leaves new weights beside
    old notes, and they must load.
    """
    return digest_of({name: value for name, value in record.items() if name != "notes"})


def _templates(build: Callable[[dict[str, Any]], nn.Module], record: dict[str, Any]) -> dict[str, Tensor]:
    """Returns a module's parameters and buffers without their numbers: nothing is allocated, whatever their sizes."""
    try:
        with torch.device("meta"):
            return dict(build(record).state_dict())
    except (RuntimeError, TypeError) as error:  # PyTorch's message continues with its own stack
        raise ValueError(str(error).partition("\n")[0]) from error


def read_module(
    folder: Path, names: tuple[str, str], kind: str, format: str, build: Callable[[dict[str, Any]], _M]
) -> tuple[_M, dict[str, Any]]:
    """Returns the module and the record that `write_module` wrote.

    Args:
        names: of the weights and of the record.
        kind: the module's name in messages.
        format: the required entry "format" of the record.
        build: returns the module of a record. It is called twice, first for the shapes alone. Where an entry of the
            record is missing or wrong, it raises one of `json_files.FAULTS`.

    Returns:
        the module in float32 on the CPU, and the record, with "notes".

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a file is damaged, foreign, or does not fit the other.
    """
    weights, config = (folder / name for name in names)
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"there is no {kind} in {folder}: it has no {path.name}")
    with naming(config, f"no {kind} configuration"):
        record = read_json(config)
        if entry(record, "format", str, default="") != format:
            raise ValueError(f"it does not say that its format is {format}")
        record["notes"] = entry(record, "notes", dict, default={})
        digest = _digest(record)
        wanted = _templates(build, dict(record))
    state, metadata = load_tensors(weights)
    ours, theirs = ({name: tensor.shape for name, tensor in tensors.items()} for tensors in (wanted, state))
    wrong = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    if wrong:
        raise ValueError(f"{weights} does not fit {config.name} beside it: look at {', '.join(wrong[:3])}")
    with naming(weights, "damaged or foreign"):
        check_kinds(state, wanted)
    if metadata.get(_DIGEST, digest) != digest:  # earlier versions and other programs record none
        raise ValueError(f"{config} is not the one that {weights.name} was saved with: restore both files")
    with torch.random.fork_rng(devices=()):  # `build` draws parameters, which are replaced at once
        module = build(record)
    module.load_state_dict({k: v.float() for k, v in state.items()})
    return module, record


def check_kinds(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises ValueError where a tensor of a file is of whole numbers and a network's is of floats, or the reverse."""
    for name in sorted(state.keys() & wanted.keys()):
        if state[name].is_floating_point() != wanted[name].is_floating_point():
            right, got = (str(tensors[name].dtype).removeprefix("torch.") for tensors in (wanted, state))
            raise ValueError(f"{name} must be {right}, got {got}")


class SavedModule(nn.Module):
    """A network that saves itself into a folder, with notes.

    Attributes:
        FILES: the names of the files of its weights and of its record.
        FORMAT: the entry of the record that identifies it.
        TITLE: its name in messages.
        notes: how the network came about; any value that JSON can hold.
    """

    FILES: ClassVar[tuple[str, str]]
    FORMAT: ClassVar[str]
    TITLE: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, Any] = {}

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Returns the entries of the record from which `from_record` builds the network."""

    @classmethod
    @abstractmethod
    def from_record(cls: type[_S], record: dict[str, Any]) -> _S:
        """Returns the network of a record, with fresh parameters.

        Raises:
            ValueError: an entry is missing or wrong; like all of `json_files.FAULTS`.
        """

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Writes the files of the network into a folder, which is made if need be.

        Args:
            dtype: of the stored floats; None for the network's own.

        Raises:
            OSError: a file cannot be written; each appears whole or not at all.
        """
        record = {"format": self.FORMAT, **self.record(), "notes": self.notes}
        write_module(self, check_path("folder", folder), self.FILES, record, dtype)

    @classmethod
    def load(cls: type[_S], folder: str | Path) -> _S:
        """Returns the network that `save` wrote: in float32, on the CPU.

        Raises:
            FileNotFoundError: there is no such network in the folder.
            ValueError: a file is damaged, foreign, or does not fit the other.
        """
        network, record = read_module(check_path("folder", folder), cls.FILES, cls.TITLE, cls.FORMAT, cls.from_record)
        if not all(p.isfinite().all() for p in network.parameters()):
            raise ValueError(f"the {cls.TITLE} in {folder} is damaged: some parameters are not finite")
        network.notes = record["notes"]
        return network
