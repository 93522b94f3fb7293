"""A store of images under keys, in files that grow block by block. Stored images survive a stop at any moment.

journal.jsonl   the plan; then per block {"split": "train", "keys": ["a.jpg", ...], "sha256": of its keys and pixels}
train.raw       uint8, the concatenated blocks of the split

The journal alone lists the stored blocks. The line of a block is written after its pixels. Each write begins at the end
of the file according to the journal, and so overwrites the rest of an interrupted write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.captioned import DataError
from aligndraw.json_files import FAULTS, parse_json

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class _Block:
    """Images that were stored together: their keys, and the row of the first in its split."""

    split: str
    keys: list[str]
    first: int
    sha256: str


class ImageStore:
    """The images in a folder that no other process writes to.

    Args:
        folder: exists; it may hold images of the same plan. Images of another plan are removed.
        image_shape: C, H, W.
        plan: describes the images, ready for JSON.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, image_shape: tuple[int, int, int], plan: Mapping[str, Any]) -> None:
        self.folder, self.image_shape = folder, image_shape
        self._size = int(np.prod(image_shape))
        self._end = 0  # of the valid part of the journal, in bytes
        self._blocks: list[_Block] = []
        self._counts: dict[str, int] = {}
        self._rows: dict[str, dict[str, int]] = {}
        head = _line({"plan": dict(plan)})
        lines = _lines(folder)
        if lines[:1] == [head]:
            self._end = len(head)
            self._take_up(lines[1:])
        else:
            for path in folder.glob("*.raw"):
                path.unlink()
            self._log(head)

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def rows(self, split: str) -> Mapping[str, int]:
        """Returns the keys of the images of a split, with their rows in `pixels`."""
        return self._rows.get(split, {})

    def append(self, split: str, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Adds images uint8 [n, C, H, W] to a split. A new image replaces an old one with the same key.

        Raises:
            OSError: they cannot be written; the store is as before.
        """
        pixels, keys = images.tobytes(), list(keys)
        block = _Block(split, keys, self._counts.get(split, 0), _checksum(split, keys, pixels))
        _write_at(self._raw(split), block.first * self._size, pixels)
        self._log(_line({"split": split, "keys": keys, "sha256": block.sha256}))
        self._add(block)

    def pixels(self, split: str) -> NDArray[np.uint8]:
        """Returns the stored images of a split, uint8 [n, C, H, W], memory-mapped.

        Raises:
            DataError: they have changed since they were stored.
        """
        for block in self._blocks:
            if block.split == split and not self._is_intact(block):
                raise DataError(f"{self._raw(split)} has changed since it was written: start again")
        shape = (self._counts[split], *self.image_shape)
        return np.memmap(self._raw(split), np.uint8, "r", shape=shape)

    def close(self, sha256: str) -> None:
        """Notes the checksum of the data set made from the images; see `closed_as`."""
        self._log(_line({"closed": sha256}))

    def _add(self, block: _Block) -> None:
        self._blocks.append(block)
        self._counts[block.split] = block.first + len(block.keys)
        self._rows.setdefault(block.split, {}).update({key: block.first + i for i, key in enumerate(block.keys)})

    def _take_up(self, lines: Sequence[bytes]) -> None:
        """Reads the journal up to the first line that is no block or whose pixels are missing."""
        for line in lines:
            with suppress(*FAULTS):
                record = parse_json(line)
                split, keys = str(record["split"]), list(map(str, record["keys"]))
                block = _Block(split, keys, self._counts.get(split, 0), record["sha256"])
                if self._is_intact(block):
                    self._add(block)
                    self._end += len(line)
                    continue
            return

    def _is_intact(self, block: _Block) -> bool:
        with suppress(FileNotFoundError), self._raw(block.split).open("rb") as file:
            file.seek(block.first * self._size)
            return _checksum(block.split, block.keys, file.read(len(block.keys) * self._size)) == block.sha256
        return False

    def _log(self, line: bytes) -> None:
        _write_at(self.folder / JOURNAL, self._end, line)
        self._end += len(line)

    def _raw(self, split: str) -> Path:
        return self.folder / f"{split}.raw"


def closed_as(folder: Path) -> str | None:
    """Returns the checksum of the data set made from the images in a folder, if there is one."""
    with suppress(*FAULTS):
        return str(parse_json(_lines(folder)[-1])["closed"])
    return None


def _lines(folder: Path) -> list[bytes]:
    """Returns the whole lines of the journal; an unfinished one is left out."""
    try:
        return [line for line in (folder / JOURNAL).read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _checksum(split: str, keys: list[str], pixels: bytes) -> str:
    return hashlib.sha256(json.dumps([split, keys]).encode() + b"\n" + pixels).hexdigest()


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Replaces the end of a file, from an offset on, by these bytes."""
    with path.open("ab") as file:
        file.truncate(offset)
        file.write(data)
