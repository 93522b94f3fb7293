"""Nearest neighbours by exact search, to see whether a model copies training images (paper, Figure 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aligndraw.arguments import check_int


def nearest_images(
    queries: NDArray[Any],
    images: NDArray[Any],
    count: int = 1,
    chunk: int = 4096,
    *,
    on_chunk: Callable[[int], object] = lambda images: None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the `count` images nearest to each query by Euclidean distance; the earlier image wins a tie.

    Args:
        queries: [q, ...], of any shape and real dtype. Uint8, like that of the images, stands for value / 255.
        images: [n, ...], in memory or mapped; read `chunk` by `chunk`.
        count: from 1 to n.
        chunk: images read together.
        on_chunk: called with the number of images just read.

    Returns:
        positions int64 [q, count], nearest first, and distances float64 [q, count].

    Raises:
        ValueError: shapes or numbers do not fit.
    """
    if queries.shape[1:] != images.shape[1:] or queries.ndim < 2:
        raise ValueError(
            f"queries must be of the shape of images, got {list(queries.shape[1:])} and {list(images.shape[1:])}"
        )
    if (queries.dtype == np.uint8) != (images.dtype == np.uint8):
        raise ValueError(f"queries must be uint8 where images are, got {queries.dtype} and {images.dtype}")
    check_int("count", count, 1, len(images) + 1)
    check_int("chunk", chunk, 1)
    wanted = _rows(queries)
    norms = wanted.square().sum(1, keepdim=True)
    best = wanted.new_empty(len(wanted), 0)
    where = torch.empty(len(wanted), 0, dtype=torch.int64)
    for start in range(0, len(images), chunk):
        part = _rows(images[start : start + chunk])
        # |a|² − 2 a·b + |b|² in float64, exact for uint8 images.
        distances = norms + part.square().sum(1) - 2 * wanted @ part.T
        positions = torch.arange(start, start + len(part)).expand(len(wanted), -1)
        best, order = torch.cat([best, distances], 1).sort(dim=1, stable=True)
        best, where = best[:, :count], torch.cat([where, positions], 1).gather(1, order)[:, :count]
        on_chunk(len(part))
    scale = 255 if images.dtype == np.uint8 else 1
    return where.numpy(), best.clamp(min=0).sqrt().numpy() / scale


def _rows(values: NDArray[Any]) -> torch.Tensor:
    """Returns float64 [n, d]."""
    return torch.from_numpy(np.asarray(values).reshape(len(values), -1).astype(np.float64))
