"""Options of the commands: one per field of a configuration, and the shared ones."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aligndraw.arguments import SEEDS, int_fault, real_fault
from aligndraw.backends import backend_for
from aligndraw.cli.failure import failing
from aligndraw.cli.telling import tell
from aligndraw.data.sets import VALIDATION_SIZE
from aligndraw.info import device_fault
from aligndraw.ops import OPS
from aligndraw.pipelines import Pipeline
from aligndraw.pipelines.shipped import DEFAULT_MODEL, SOURCE_RULE, default_model, find_model, shipped_models
from aligndraw.settings import Config
from aligndraw.text.sentences import KINDS

_C = TypeVar("_C", bound=Config)


def int_at_least(least: int | None = None, below: int | None = None) -> Callable[[str], int]:
    """Returns the type of an option: an integer of at least `least` and below `below`, without a limit for None."""

    def parse(text: str) -> int:
        value: int | None
        try:
            value = int(text)
        except ValueError:
            value = None
        if fault := int_fault(value, least, below):
            raise argparse.ArgumentTypeError(f"{fault}, got {text!r}")
        assert value is not None
        return value

    return parse


def float_at_least(least: float | None = None) -> Callable[[str], float]:
    """Returns the type of an option: a finite number of at least `least`, of any value for None."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if fault := real_fault(value, least):
            raise argparse.ArgumentTypeError(f"{fault}, got {text!r}")
        return value

    return parse


def fraction(text: str) -> float:
    """The type of an option: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def path_with_suffix(*suffixes: str) -> Callable[[str], Path]:
    """Returns the type of an option: a path with one of these suffixes."""

    def parse(text: str) -> Path:
        if not text.lower().endswith(suffixes):
            raise argparse.ArgumentTypeError(f"must end in {' or '.join(suffixes)}, got {text!r}")
        return Path(text)

    return parse


def new_folder(text: str) -> Path:
    """Returns the path of a folder that the command makes: not "", "." or "/", whose names another folder gives."""
    if Path(text).name in ("", ".."):
        raise argparse.ArgumentTypeError(f"must name a new folder, got {text!r}")
    return Path(text)


def named_model(text: str) -> tuple[str, str]:
    """The type of an option: NAME=MODEL, or a model, whose last part gives the name."""
    if Path(text).is_dir() or "=" not in text:
        return Path(text).name, text
    name, _, model = text.partition("=")
    if not (name and model):
        raise argparse.ArgumentTypeError(f"must be NAME=MODEL or MODEL, got {text!r}")
    return name, model


def add_seed(parser: argparse.ArgumentParser, help: str, default: int | None = 0) -> None:
    """Adds --seed. A default of None, which stands for 0, lets a command see whether the option was given."""
    parser.add_argument("--seed", type=int_at_least(0, SEEDS), default=default, metavar="N", help=f"{help} [0]")


def add_model(parser: argparse.ArgumentParser, default: str = DEFAULT_MODEL) -> None:
    """Adds --model, as for `Pipeline.from_pretrained`; `default` says in the help what is taken without it."""
    parser.add_argument(
        "--model",
        type=_model_source,
        metavar="MODEL",
        help=f"folder of a model; name of a model that ships (`aligndraw models`); or OWNER/NAME on the Hugging Face "
        f"hub [{default}]",
    )


def _model_source(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"{SOURCE_RULE}, got {text!r}")
    return text


def model_source(arguments: argparse.Namespace) -> str | Path:
    """Returns the source of --model, by default the folder of the default model.

    One line tells of a folder in the working directory that comes before a model that ships.

    Raises:
        FileNotFoundError: the default model does not ship with this installation.
    """
    name: str | None = arguments.model
    if name is None:
        return default_model()
    shipped = shipped_models()
    if name in shipped and find_model(name) != shipped[name]:
        tell(f"--model {name} is the folder {Path(name).absolute()}, not the model that ships", error=True)
    return name


def open_pipeline(arguments: argparse.Namespace, sharpen: bool = False, default: Path | None = None) -> Pipeline:
    """Returns the model of --model, with --sentences, on --device.

    Args:
        sharpen: as for `Pipeline.from_pretrained`.
        default: the folder of the model, where there is no --model; None for that of the default model.
    """
    sentences, device = getattr(arguments, "sentences", None), getattr(arguments, "device", "cpu")
    source = default or model_source(arguments)
    return Pipeline.from_pretrained(source, device, sentences=sentences, sharpen=sharpen)


def add_sentences(
    parser: argparse.ArgumentParser,
    what: str = "sentence encoder, for a model of sentence vectors",
    default: str = "as in training",
) -> None:
    """Adds --sentences, the sentence encoder."""
    parser.add_argument("--sentences", metavar="KIND", help=f"{what}: {KINDS} [{default}]")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device, which refuses a missing device."""

    def parse(text: str) -> str:
        fault = f"must be cpu or cuda, got {text!r}" if ":" in text else device_fault(text)
        if fault:
            raise argparse.ArgumentTypeError(fault)
        return text

    parser.add_argument(
        "--device",
        type=parse,
        default="cpu",
        metavar="{cpu,cuda}",
        help="device of all computations [%(default)s]",
    )


def fields(config: Config | type[Config]) -> list[dataclasses.Field[Any]]:
    """Returns the fields of a configuration."""
    return list(config.__dataclass_fields__.values())


def add_config(
    parser: argparse.ArgumentParser, title: str, presets: Mapping[str, _C], without: Collection[str] = ()
) -> None:
    """Adds one option per field of a configuration, except those `without`; the presets supply the defaults."""
    group = parser.add_argument_group(title)
    for field in fields(next(iter(presets.values()))):
        if field.name in without:
            continue
        values = {name: _text(getattr(config, field.name)) for name, config in presets.items()}
        same = len(set(values.values())) == 1
        shown = values.popitem()[1] if same else ", ".join(f"{k}: {v}" for k, v in values.items())
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            dest=field.name,
            help=f"{field.metadata['help']} [{shown}]".replace("%", "%%"),
            **_form(field.default, field.metadata["choices"]),
        )
        if former := field.metadata["formerly"]:
            add_renamed(group, "--" + former.replace("_", "-"), "--" + field.name.replace("_", "-"))


def add_validation_size(parser: argparse.ArgumentParser) -> None:
    """Adds --validation-size."""
    text = f"validation pictures of each kind; each epoch ends with their bound [{VALIDATION_SIZE}]"
    parser.add_argument("--validation-size", type=int_at_least(2), metavar="N", help=text)
    add_renamed(parser, "--scored", "--validation-size")


def add_renamed(parser: Any, old: str, new: str) -> None:
    """Adds an option of version 0.1, which is refused with one line that names the new option."""
    parser.add_argument(old, action=_Renamed, nargs="?", const=new, dest=argparse.SUPPRESS, help=argparse.SUPPRESS)


class _Renamed(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.error(f"{self.option_strings[0]} is now called {self.const}")


def add_presets(
    parser: argparse.ArgumentParser, presets: Mapping[str, tuple[Config, Config]], without: Collection[str] = ()
) -> None:
    """Adds the options of models and recipes, except the fields `without` of the models."""
    for title, part in (("model", 0), ("training", 1)):
        add_config(parser, title, {name: configs[part] for name, configs in presets.items()}, without)


def apply_overrides(preset: _C, arguments: argparse.Namespace) -> _C:
    """Returns the preset with the fields of the command line.

    Raises:
        ValueError: a field is wrong, or the fields do not fit together.
    """
    given = {f.name: getattr(arguments, f.name, None) for f in fields(preset)}
    return preset.replace(**{name: value for name, value in given.items() if value is not None})


def describe_backends(device: str) -> str:
    """Returns the backends of the ops on a device, as text; raises Failure where the forced one cannot run an op."""
    with failing(RuntimeError, ValueError):
        served = {op: backend_for(op, device) for op in OPS}
    if len(set(served.values())) == 1:
        return f"{served.popitem()[1]} ops"
    return ", ".join(f"{op} {backend}" for op, backend in served.items())


def _form(default: Any, choices: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if choices:
        return {"choices": choices}
    if isinstance(default, str):
        return {"metavar": "TEXT"}
    if isinstance(default, tuple):
        return {"type": int_at_least(), "nargs": 2, "metavar": ("H", "W")}
    return {"type": int_at_least() if isinstance(default, int) else float_at_least(), "metavar": "N"}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
