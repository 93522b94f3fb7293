"""Rows of different lengths in one flat array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the numbers first[0] … first[0] + count[0] − 1, then those from first[1] on, ..."""
    return (first - (np.cumsum(count) - count)).repeat(count) + np.arange(count.sum())


def pad_rows(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the concatenated rows of `values` as [B, N], padded on the right with 0."""
    rows = np.zeros((len(lengths), lengths.max(initial=0)), np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = values
    return rows
