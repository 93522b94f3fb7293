"""Images under keys, stored block by block in files that grow: what is stored survives a stop at any moment.

journal.jsonl   the plan; then per block {"split": "train", "keys": ["a.jpg", ...], "sha256": of its keys and pixels}
train.raw       uint8, the blocks of the split one after the other

The journal alone says what is stored. The line of a block is written after its pixels, and each write begins where the
journal says that the file ends, whatever a stopped write has left behind that place.
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
    """Images that were stored together: their keys, and the place of the first among those of the split."""

    split: str
    keys: list[str]
    first: int
    sha256: str


class ImageStore:
    """The images in a folder, which another process must not write to.

    Args:
        folder: exists; it may hold images of the same plan, and images of another plan are removed.
        image_shape: C, H, W.
        plan: what the images are of, ready for JSON.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, image_shape: tuple[int, int, int], plan: Mapping[str, Any]) -> None:
        self.folder, self.image_shape = folder, image_shape
        self._size = int(np.prod(image_shape))
        self._end = 0  # of what is good in the journal, in bytes
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
        """The keys of the images that a split has, with their rows in `pixels`."""
        return self._rows.get(split, {})

    def append(self, split: str, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Adds images uint8 [n, C, H, W] to a split. An image whose key is there already takes its place.

        Raises:
            OSError: they cannot be written; the store is as before.
        """
        pixels, keys = images.tobytes(), list(keys)
        block = _Block(split, keys, self._counts.get(split, 0), _checksum(split, keys, pixels))
        _write_at(self._raw(split), block.first * self._size, pixels)
        self._log(_line({"split": split, "keys": keys, "sha256": block.sha256}))
        self._add(block)

    def pixels(self, split: str) -> NDArray[np.uint8]:
        """The stored images of a split, uint8 [n, C, H, W], mapped from their file.

        Raises:
            DataError: they are not those that were stored.
        """
        for block in self._blocks:
            if block.split == split and not self._is_intact(block):
                raise DataError(f"{self._raw(split)} has changed since it was written: start again")
        shape = (self._counts[split], *self.image_shape)
        return np.memmap(self._raw(split), np.uint8, "r", shape=shape)

    def close(self, sha256: str) -> None:
        """Notes that a data set with this checksum was made of the images; see `closed_as`."""
        self._log(_line({"closed": sha256}))

    def _add(self, block: _Block) -> None:
        self._blocks.append(block)
        self._counts[block.split] = block.first + len(block.keys)
        self._rows.setdefault(block.split, {}).update({key: block.first + i for i, key in enumerate(block.keys)})

    def _take_up(self, lines: Sequence[bytes]) -> None:
        """Goes by the journal up to the first line that is no block or whose pixels are not there."""
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
    """The checksum of the data set that was made of the images in a folder, if there is one."""
    with suppress(*FAULTS):
        return str(parse_json(_lines(folder)[-1])["closed"])
    return None


def _lines(folder: Path) -> list[bytes]:
    """The whole lines of the journal; one that was cut off is left out."""
    try:
        return [line for line in (folder / JOURNAL).read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _checksum(split: str, keys: list[str], pixels: bytes) -> str:
    return hashlib.sha256(json.dumps([split, keys]).encode() + b"\n" + pixels).hexdigest()


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Makes these bytes the end of a file, from an offset on."""
    with path.open("ab") as file:
        file.truncate(offset)
        file.write(data)
