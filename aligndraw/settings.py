"""Settings as frozen dataclasses: checked fields with a help text, and a dictionary form for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from aligndraw.json_files import wanted_like

_C = TypeVar("_C", bound="Config")


def setting(default: Any, help: str, choices: tuple[str, ...] = (), formerly: str = "") -> Any:
    """Returns a field of a `Config`.

    Args:
        default: its value where none is given.
        help: of its option on the command line.
        choices: the values that it may have; empty for any of the type of the default.
        formerly: its name in version 0.1, under which `from_dict` still reads it.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "formerly": formerly})


class Config:
    """The base of all configurations: fields checked by name and type, and a dictionary form."""

    __dataclass_fields__: dict[str, dataclasses.Field[Any]]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain Python values, ready for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls: type[_C], values: dict[str, Any]) -> _C:
        """Returns the configuration of a `to_dict`, of this version or of version 0.1.

        Raises:
            ValueError: it is no dictionary, a field is unknown, or a value is of another type.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__} must be an object of fields, got {type(values).__name__}")
        values = dict(values)
        for name, field in cls.__dataclass_fields__.items():
            former = field.metadata["formerly"]
            if former and former in values and name not in values:
                values[name] = values.pop(former)
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no field {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def replace(self: _C, **changes: Any) -> _C:
        """Returns a copy with some fields changed. Raises ValueError for an unknown field."""
        return type(self).from_dict({**self.to_dict(), **changes})

    def _check(self) -> None:
        for name, field in self.__dataclass_fields__.items():
            value, default = getattr(self, name), field.default
            choices = field.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
            wanted = wanted_like(value, default)
            if wanted:
                raise ValueError(f"{name} must be {wanted}, got {value!r}")


def preset_named(table: dict[str, _C], name: str) -> _C:
    """Returns the preset of a table. Raises ValueError for an unknown name."""
    if name not in table:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(table)}")
    return table[name]
