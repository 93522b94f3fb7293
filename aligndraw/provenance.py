"""The data that a model was trained on, by its notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.arguments import check_int
from aligndraw.data import CaptionedSplit, DataSet, recorded_data_set
from aligndraw.json_files import entry


def training_data(notes: Mapping[str, Any], validation_size: int) -> DataSet:
    """Returns the data set that a model was trained on.

    Args:
        notes: of the model.
        validation_size: as for `open_data_set`.

    Raises:
        ValueError: the notes do not name the data, or the data are gone, damaged or changed.
    """
    try:
        record = data_of(notes)
    except ValueError as error:
        raise ValueError(
            f"the model does not name its training data: name them (--data); its notes: {error}"
        ) from error
    data = recorded_data_set(record, validation_size)
    if record["sha256"] not in (None, data.record["sha256"]):
        place = record["path"] or "the package"
        raise ValueError(f"{place} holds other data than those of the model: name the data (--data)")
    return data


def training_images(
    notes: Mapping[str, Any], limit: int | None = None, name: str | None = None, path: str | None = None
) -> NDArray[np.uint8]:
    """Returns images that a model was trained on, uint8 [n, C, H, W], in the order of its training.

    Args:
        notes: of the model.
        limit: their number; by default all of stored ones, and the first 20,000 of generated ones.
        name, path: of the data set, as in `open_data_set`, where the notes do not name it or it has moved.

    Raises:
        ValueError: the notes do not name the data, or the seed of generated ones; or the data are gone, damaged or
            changed.
    """
    if limit is not None:
        check_int("limit", limit, 1)
    given = {"name": name, "path": path}
    data = training_data(notes, 1) if name is None else recorded_data_set(given, 1)
    if isinstance(data.source, CaptionedSplit):
        return data.source.images[:limit]
    try:
        seed, epochs = entry(notes, "seed", int), entry(notes, "epochs", int, default=2**31)
        size = entry(entry(notes, "training", dict, default={}), "epoch_size", int, default=10_000)
        if seed < 0 or size < 1:
            raise ValueError("its seed or its epoch_size is negative")
    except ValueError as error:
        raise ValueError(f"the model does not name its training pictures of {data.name}: its notes: {error}") from error
    missing = min(limit or 20_000, size * epochs)
    parts: list[NDArray[np.uint8]] = []
    while missing > 0:
        examples = data.source.epoch(seed, len(parts), size)
        parts.append(examples.batch(slice(0, min(size, missing)))[0])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def data_of(record: Any) -> dict[str, str | None]:
    """Returns name, path, checksum and bans of the data set in the record of a run or the notes of a model.

    Raises:
        ValueError: they are missing, or of another type.
    """
    data = entry(record, "data", dict)
    others = {key: entry(data, key, str, type(None), default=None) for key in ("path", "sha256", "bans")}
    return {"name": entry(data, "name", str), **others}
