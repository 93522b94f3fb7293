"""Reading of JSON files that may be damaged or foreign, with one list of possible errors.

It imports only the standard library, so that programs without the package can load it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The errors of reading JSON, and of taking missing values, or values of other types, out of it.
FAULTS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
MAX_DIGITS = 40  # of a whole number
DEPTH = 100  # most levels of nested lists and objects
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127

_KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_REQUIRED = object()


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object of these keys and values. Raises ValueError for a key that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice[:40]!r} twice")
    return found


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] = unique_keys) -> Any:
    """Returns the value of a JSON text with finite numbers.

    Args:
        pairs: makes an object from its keys and values; by default it refuses repeated keys.

    Raises:
        ValueError: it is something else; the message is one line.
    """
    try:
        numbers: dict[str, Any] = {"parse_constant": _refused, "parse_float": _finite, "parse_int": _whole}
        value = json.loads(text, object_pairs_hook=pairs, **numbers)
    except UnicodeDecodeError as error:
        raise ValueError("it must be UTF-8 text: save it as such") from error
    except RecursionError as error:
        raise ValueError("its lists and objects are nested too deeply") from error
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level if isinstance(outer, (list, dict)) for inner in _inner(outer)]
        if not level:
            return value
    raise ValueError("its lists and objects are nested too deeply")


def read_json(path: Path) -> Any:
    """Returns the value of a JSON file, as `parse_json` does.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else. The message does not name the file; `naming` adds its name.
    """
    return parse_json(path.read_bytes())


class FileError(ValueError):
    """A file is damaged or something else; the message is one line that names the file."""


@contextmanager
def naming(path: Path, what: str, kind: type[ValueError] = FileError) -> Iterator[None]:
    """Turns the errors of `FAULTS` in the block into one error of a kind: "PATH is WHAT: why", in one line."""
    try:
        yield
    except FAULTS as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise kind(f"{path} is {what}: {' '.join(why.split()) or type(error).__name__}") from error


def digest_of(value: Any) -> str:
    """Returns the SHA-256 of a JSON value, whatever its layout and the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def entry(record: Any, name: str, *kinds: type, default: Any = _REQUIRED) -> Any:
    """Returns a value of an object.

    Args:
        record: the object.
        name: its key.
        kinds: the types that the value may have: str, int, float (which includes int), bool, list, dict, type(None).
        default: for an object without the key; without a default a missing key is an error.

    Raises:
        ValueError: `record` is no object, the key is missing, or the value is of another type.
    """
    if not isinstance(record, dict):
        raise ValueError(f"it must be an object, got {_KINDS[type(record)]}")
    if name not in record:
        if default is _REQUIRED:
            raise ValueError(f"{name!r} is missing")
        return default
    value = record[name]
    if not (type(value) in kinds or (float in kinds and type(value) is int)):
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        raise ValueError(f"{name!r} must be {wanted}, got {_shown(value)}")
    return value


def wanted_like(value: Any, default: Any) -> str:
    """Returns the rule that a value in place of a default breaks; "" where it breaks none."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        least = min(default, 1)
        if not _is_int(value) or value < least:
            return f"a whole number of at least {least}"
        return "" if value < 2**31 else "a whole number below 2^31"
    if isinstance(default, float):
        good = isinstance(value, float) or (_is_int(value) and abs(value) < 2**53)
        if not good:
            return "a number"
        if not math.isfinite(value):
            return "finite"
        return "" if abs(value) <= _FLOAT32_MAX else "a number of float32, at most 3.4e38"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "text"
    if isinstance(default, tuple):
        good = isinstance(value, tuple) and len(value) == len(default) and all(map(_is_int, value))
        return "" if good and all(1 <= side < 2**31 for side in value) else "two whole numbers of at least 1"
    return ""


def _inner(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _refused(name: str) -> Any:
    raise ValueError(f"its numbers must be finite, got {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refused(digits[:40])


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:  # Python's own limit names a function to raise it
        raise ValueError(f"its whole numbers must have at most {MAX_DIGITS} digits, got {len(digits)}")
    return int(digits)


def _shown(value: Any) -> str:
    return _KINDS[type(value)] if isinstance(value, (list, dict)) else json.dumps(value)[:60]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
