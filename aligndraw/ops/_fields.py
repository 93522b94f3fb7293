"""An op's arguments and results as NamedTuples, which make its schema, its shapes and its unpacking.

A field is a tensor with its shape, a number, or another NamedTuple, whose fields take its place in the schema:

    class Inputs(NamedTuple):
        words: Annotated[Tensor, "[B, N, d]"]
        keys: Annotated[Tensor | None, "[B, N, l]"]
        decoder: DecoderWeights
        grads: Annotated[Results, "grad_"]  # each name in the schema begins with grad_
        bf16: bool

A size is a sum of letters and numbers: "4n", "z + d", "T + 1".
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from aligndraw.printable import counted

Fields = TypeVar("Fields", bound=tuple[Any, ...])
_NUMBERS = {int: "int", bool: "bool", float: "float"}


class Field(NamedTuple):
    """An argument or result of an op."""

    name: str
    kind: str  # in the schema: "Tensor", "Tensor?", "int", "bool" or "float"
    letters: str  # the shape of a tensor: "[B, 4n]"


@functools.cache
def fields(cls: type[tuple[Any, ...]]) -> tuple[Field, ...]:
    """All fields of a NamedTuple in the order of the schema, those of nested ones in place."""
    return tuple(field for _, group in _groups(cls) for field in group)


@functools.cache
def _groups(cls: type[tuple[Any, ...]]) -> tuple[tuple[type[tuple[Any, ...]] | None, tuple[Field, ...]], ...]:
    """Of each field of a NamedTuple: its type where that is a NamedTuple, and its place in the schema."""
    found: list[tuple[type[tuple[Any, ...]] | None, tuple[Field, ...]]] = []
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        kind, note = annotation, ""
        if typing.get_origin(annotation) is typing.Annotated:
            kind, note = typing.get_args(annotation)
        if kind is Tensor:
            found.append((None, (Field(name, "Tensor", note),)))
        elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
            found.append((None, (Field(name, "Tensor?", note),)))
        elif kind in _NUMBERS:
            found.append((None, (Field(name, _NUMBERS[kind], ""),)))
        else:
            found.append((kind, tuple(field._replace(name=note + field.name) for field in fields(kind))))
    return tuple(found)


def schema(cls: type[tuple[Any, ...]]) -> str:
    """The fields as the arguments of a schema, without brackets: "Tensor words, Tensor? keys, int size"."""
    return ", ".join(f"{field.kind} {field.name}" for field in fields(cls))


def results_schema(*classes: type[tuple[Any, ...]]) -> str:
    """The fields as the results of a schema: "(Tensor, Tensor)"."""
    return f"({', '.join('Tensor' for cls in classes for _ in fields(cls))})"


def unflatten(cls: type[Fields], values: Sequence[Any]) -> Fields:
    """The NamedTuple whose fields, in the order of the schema, have these values."""
    filled: list[Any] = []
    start = 0
    for nested, group in _groups(cls):
        end = start + len(group)
        filled.append(values[start] if nested is None else unflatten(nested, values[start:end]))
        start = end
    if start != len(values):
        raise TypeError(f"{cls.__name__} has {counted(start, 'field')}, got {counted(len(values), 'value')}")
    return cls(*filled)


def flatten(named: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of a NamedTuple in the order of the schema: the reverse of `unflatten`."""
    return tuple(_values(named))


def _values(named: tuple[Any, ...]) -> Iterator[Any]:
    for value, (nested, _) in zip(named, _groups(type(named)), strict=True):
        if nested is None:
            yield value
        else:
            yield from _values(value)


def shape(letters: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape that letters stand for: of "[T + 1, 4e]" (4, 20) with T = 3 and e = 5."""
    return tuple(
        sum(number * (sizes[letter] if letter else 1) for number, letter in terms) for terms in _dimensions(letters)
    )


@functools.cache
def _dimensions(letters: str) -> tuple[tuple[tuple[int, str], ...], ...]:
    """The terms of each size, as number times letter; without a letter, the number itself."""
    found = []
    for dimension in letters.strip("[]").split(", "):
        terms = [re.fullmatch(r"(\d*)([A-Za-z]?)", term) for term in dimension.split(" + ")]
        found.append(tuple((int(term[1] or 1), term[2]) for term in terms if term))
    return tuple(found)


def shapes(cls: type[tuple[Any, ...]], sizes: Mapping[str, int]) -> list[tuple[int, ...]]:
    """The shapes of all fields, in their order."""
    return [shape(field.letters, sizes) for field in fields(cls)]
