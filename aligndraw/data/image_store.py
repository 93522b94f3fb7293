"""A store of images in files that grow block by block. Stored images survive a stop at any moment.

journal.jsonl   the plan; then a line per block, with the SHA-256 of the rest of the line and of the pixels:
                {"split": "train", "keys": ["a.jpg", ...], "sha256": ...}, images under keys
                {"split": "train", "name": "part 1", "captions": [["a cat"], ...], "notes": ..., "sha256": ...}, a part
train.raw       uint8, the concatenated blocks of the split

The journal alone lists the stored blocks. The line of a block is written after its pixels. Each write begins at the end
of the file according to the journal, and so overwrites the rest of an interrupted write. Memory holds the keys, but of
a part only its name.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
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
class Block:
    """Images that were stored together.

    Attributes:
        split: of the images.
        first: the row of the first image in the split.
        images, captions: their numbers.
        place, size: of its line in the journal, in bytes.
    """

    split: str
    first: int
    images: int
    captions: int
    place: int
    size: int


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
        self._blocks: list[Block] = []
        self._counts: dict[str, int] = {}
        self._rows: dict[str, dict[str, int]] = {}
        self._parts: dict[tuple[str, str], Block] = {}
        head = _line({"plan": dict(plan)})
        lines = _lines(folder)
        if next(lines, None) == head:
            self._end = len(head)
            self._take_up(lines)
        else:
            for path in folder.glob("*.raw"):
                path.unlink()
            self._log(head)

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def rows(self, split: str) -> Mapping[str, int]:
        """Returns the keys of the images of a split, with their rows in `pixels`."""
        return self._rows.get(split, {})

    def part(self, split: str, name: str) -> Block | None:
        """Returns a stored part; None where there is none of this name."""
        return self._parts.get((split, name))

    def append(self, split: str, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Adds images uint8 [n, C, H, W] to a split. A new image replaces an old one with the same key.

        Raises:
            OSError: they cannot be written; the store is as before.
        """
        self._append({"split": split, "keys": list(keys)}, images)

    def add(
        self,
        split: str,
        name: str,
        images: NDArray[np.uint8],
        captions: Sequence[Sequence[str]],
        notes: Any = None,
    ) -> Block:
        """Adds a part with images uint8 [n, C, H, W], the captions of each, and notes, ready for JSON; returns it.

        Raises:
            OSError: it cannot be written; the store is as before.
        """
        texts = [list(one) for one in captions]
        return self._append({"split": split, "name": name, "captions": texts, "notes": notes}, images)

    def pixels(self, split: str) -> NDArray[np.uint8]:
        """Returns the stored images of a split, uint8 [n, C, H, W], memory-mapped.

        Raises:
            DataError: they have changed since they were stored.
        """
        for block in self._blocks:
            if block.split == split:
                self._read(block)
        shape = (self._counts[split], *self.image_shape)
        return np.memmap(self._raw(split), np.uint8, "r", shape=shape)

    def images(self, part: Block) -> NDArray[np.uint8]:
        """Returns the images of a part, uint8 [n, C, H, W]; DataError as for `pixels`."""
        return np.frombuffer(self._read(part)[1], np.uint8).reshape(part.images, *self.image_shape)

    def captions(self, part: Block) -> list[list[str]]:
        """Returns the captions of each image of a part."""
        captions: list[list[str]] = self._record(part)["captions"]
        return captions

    def notes(self, part: Block) -> Any:
        """Returns the notes of a part."""
        return self._record(part)["notes"]

    def close(self, sha256: str) -> None:
        """Notes the checksum of the data set made from the images; see `closed_as`."""
        self._log(_line({"closed": sha256}))

    def _append(self, record: dict[str, Any], images: NDArray[np.uint8]) -> Block:
        pixels, split = images.tobytes(), record["split"]
        line = _line({**record, "sha256": _checksum(record, pixels)})
        block = self._block(record, len(line))
        _write_at(self._raw(split), block.first * self._size, pixels)
        self._log(line)
        self._enter(block, record)
        return block

    def _block(self, record: Mapping[str, Any], size: int) -> Block:
        """Returns the block of a record that comes next in the journal."""
        split, texts = record["split"], record.get("captions")
        images = len(record["keys"] if texts is None else texts)
        return Block(split, self._counts.get(split, 0), images, sum(map(len, texts or ())), self._end, size)

    def _enter(self, block: Block, record: Mapping[str, Any]) -> None:
        self._blocks.append(block)
        self._counts[block.split] = block.first + block.images
        if "name" in record:
            self._parts[block.split, record["name"]] = block
        else:
            rows = self._rows.setdefault(block.split, {})
            rows.update({key: block.first + i for i, key in enumerate(record["keys"])})

    def _take_up(self, lines: Iterator[bytes]) -> None:
        """Reads the journal up to the first line that is no block or whose pixels are missing."""
        for line in lines:
            with suppress(*FAULTS):
                record = parse_json(line)
                _check(record)
                block = self._block(record, len(line))
                if self._pixels(block, record) is not None:
                    self._enter(block, record)
                    self._end += len(line)
                    continue
            return

    def _record(self, block: Block) -> dict[str, Any]:
        with suppress(*FAULTS), (self.folder / JOURNAL).open("rb") as file:
            file.seek(block.place)
            record: dict[str, Any] = parse_json(file.read(block.size))
            _check(record)
            return record
        raise DataError(f"{self.folder / JOURNAL} has changed since it was written: start again")

    def _read(self, block: Block) -> tuple[dict[str, Any], bytes]:
        """Returns the record and the pixels of a block."""
        record = self._record(block)
        pixels = self._pixels(block, record)
        if pixels is None:
            raise DataError(f"{self._raw(block.split)} has changed since it was written: start again")
        return record, pixels

    def _pixels(self, block: Block, record: Mapping[str, Any]) -> bytes | None:
        """Returns the pixels of a block; None where they are not those of its record."""
        with suppress(FileNotFoundError), self._raw(block.split).open("rb") as file:
            file.seek(block.first * self._size)
            pixels = file.read(block.images * self._size)
            if _checksum({k: v for k, v in record.items() if k != "sha256"}, pixels) == record["sha256"]:
                return pixels
        return None

    def _log(self, line: bytes) -> None:
        _write_at(self.folder / JOURNAL, self._end, line)
        self._end += len(line)

    def _raw(self, split: str) -> Path:
        return self.folder / f"{split}.raw"


def closed_as(folder: Path) -> str | None:
    """Returns the checksum of the data set made from the images in a folder, if there is one."""
    with suppress(*FAULTS):
        return str(parse_json(deque(_lines(folder), maxlen=1)[0])["closed"])
    return None


def _lines(folder: Path) -> Iterator[bytes]:
    """Yields the whole lines of the journal; an unfinished one is left out."""
    with suppress(FileNotFoundError), (folder / JOURNAL).open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _check(record: Mapping[str, Any]) -> None:
    """Raises ValueError where a line of the journal is no block."""
    named = isinstance(record["split"], str) and ("keys" in record or isinstance(record["name"], str))
    items, kind = (record["keys"], str) if "keys" in record else (record["captions"], list)
    if not named or not all(isinstance(item, kind) for item in items):
        raise ValueError("it is no block")


def _checksum(record: Mapping[str, Any], pixels: bytes) -> str:
    return hashlib.sha256(_line(record) + pixels).hexdigest()


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Replaces the end of a file, from an offset on, by these bytes."""
    with path.open("ab") as file:
        file.truncate(offset)
        file.write(data)
