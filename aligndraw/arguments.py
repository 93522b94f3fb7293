"""Checks of arguments, of public functions and of the command line.

A message names the argument, the rule and the value, in one line.
"""

from __future__ import annotations

import math
import operator
from pathlib import Path
from typing import Any

SEEDS = 2**63


def int_fault(value: Any, least: int | None, below: int | None = None) -> str:
    """Returns the rule that a value breaks, such as "must be a whole number of at least 1"; "" where it breaks none."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is not None and (least is None or number >= least) and (below is None or number < below):
        return ""
    rule = "must be a whole number" if least is None else f"must be a whole number of at least {least}"
    return rule if below is None else f"{rule} and below {'2^63' if below == SEEDS else below}"


def real_fault(value: Any, least: float | None) -> str:
    """Returns the rule that a value breaks, such as "must be a finite number"; "" where it breaks none."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number) and (least is None or number >= least):
        return ""
    return "must be a finite number" if least is None else f"must be a finite number of at least {least:g}"


def choice_fault(value: Any, choices: tuple[str, ...]) -> str:
    """Returns the rule that a value breaks, "must be one of a, b"; "" where it breaks none."""
    return "" if isinstance(value, str) and value in choices else f"must be one of {', '.join(choices)}"


def check_int(name: str, value: Any, least: int, below: int | None = None) -> int:
    """Returns a whole number of at least `least`, and below `below` where given; raises ValueError for others.

    A number of another library becomes a plain one.
    """
    _check(name, value, int_fault(value, least, below))
    return operator.index(value)


def check_seed(value: Any) -> int:
    """Returns a whole number from 0 to 2^63 − 1; raises ValueError for others."""
    return check_int("seed", value, 0, SEEDS)


def check_bool(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is True or False."""
    _check(name, value, "" if isinstance(value, bool) else "must be True or False")


def check_path(name: str, value: Any) -> Path:
    """Returns a path of text or of another path; raises ValueError for anything else, such as bytes."""
    try:
        return Path(value)
    except TypeError:
        raise ValueError(f"{name} must be a path, got {value!r}") from None


def check_parts(opener: str, first: Any) -> None:
    """Raises TypeError where a class got the path of a saved object in the place of its first part.

    Args:
        opener: the class and its method that opens a saved object, such as "Pipeline.from_pretrained".
    """
    if isinstance(first, (str, Path)):
        kind = opener.partition(".")[0]
        raise TypeError(f"{kind} takes parts; open a saved one by {opener}({str(first)!r})")


def check_real(name: str, value: Any, least: float) -> None:
    """Raises ValueError unless `value` is a finite number of at least `least`."""
    _check(name, value, real_fault(value, least))


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raises ValueError unless `value` is of the type."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of the texts."""
    _check(name, value, choice_fault(value, choices))


def _check(name: str, value: Any, fault: str) -> None:
    if fault:
        raise ValueError(f"{name} {fault}, got {value!r}")
