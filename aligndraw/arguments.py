"""Checks of arguments of public functions. A message names the argument, the rule and the value, in one line."""

from __future__ import annotations

import math
import operator
from typing import Any

SEEDS = 2**63


def check_int(name: str, value: Any, least: int, below: int | None = None) -> None:
    """Raises ValueError unless `value` is a whole number of at least `least`, and below `below` where given."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (below is not None and number >= below):
        rule = f"a whole number of at least {least}" + (f" and below {below}" if below is not None else "")
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_seed(value: Any) -> None:
    """Raises ValueError unless `value` is a whole number from 0 to 2^63 − 1."""
    check_int("seed", value, 0, SEEDS)


def check_real(name: str, value: Any, least: float) -> None:
    """Raises ValueError unless `value` is a finite number of at least `least`."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise ValueError(f"{name} must be a finite number of at least {least:g}, got {value!r}")
