"""Arrays that stay in their files: memory-mapped, and out of the process's memory between two readings."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.ragged import pad_rows, ranges
from aligndraw.files import reading

STEP = 64  # captions whose places are found together
_ROWS = 4096 * STEP  # of an array, read together
_BLOCK = 1 << 17  # bytes of a text, read together


def release(*arrays: NDArray[Any]) -> None:
    """Takes the pages of mapped arrays out of the process's memory; the system may keep them in its cache.

    Without it a process seems to grow by all that it has read. Other arrays stay as they are.
    """
    for array in arrays:
        if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            array.base.madvise(mmap.MADV_DONTNEED)


def taken(array: NDArray[Any], rows: Any, together: int = 16) -> NDArray[Any]:
    """Returns rows of an array by a slice or by their numbers int64 [B], as a copy.

    Of a mapped array few pages are in the process's memory at once: the system maps 64 kB around each row.

    Args:
        together: rows that are read before their pages are given back.
    """
    if isinstance(rows, slice) or not isinstance(array.base, mmap.mmap):
        found = np.array(array[rows])
        release(array)
        return found
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), together):
        found[start : start + together] = array[rows[start : start + together]]
        release(array)
    return found


def in_blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yields the rows of a mapped array, a few at a time in the process's memory."""
    for start in range(0, len(array), _ROWS):
        yield array[start : start + _ROWS]
        release(array)


def bounds(array: NDArray[np.integer[Any]]) -> tuple[int, int, int]:
    """Returns the least and the largest number of a mapped array, and the sum; (1, 1, 0) where it has none."""
    found = [(int(part.min()), int(part.max()), int(part.sum(dtype=np.int64))) for part in in_blocks(array)] or [
        (1, 1, 0)
    ]
    least, largest, sums = zip(*found)
    return min(least), max(largest), sum(sums)


class MappedCaptions(Sequence[str]):
    """The captions of a split, read from their files: text, word ids and lengths.

    Two numbers for `STEP` captions are in memory: where their words begin, and where their text does.

    Args:
        text: a file with one caption per line.
        words: int32, the word ids of all captions one after the other, mapped.
        lengths: int32 [k], words of each caption, mapped; their sum is the number of `words`.

    Attributes:
        lines: the number of lines of the text, which should be k.
    """

    def __init__(self, text: Path, words: NDArray[np.int32], lengths: NDArray[np.int32]) -> None:
        self._text, self._words, self._lengths = text, words, lengths
        self._first_word = _starts(lengths)
        self._first_byte, self.lines = _line_starts(text)

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, number: Any) -> Any:
        """Returns a caption; of a slice a list of them."""
        if isinstance(number, slice):
            return self.texts(np.arange(*number.indices(len(self))))
        if not 0 <= number < len(self):
            raise IndexError(f"caption must be in 0…{len(self) - 1}, got {number}")
        return self.texts(np.array([number]))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), 64 * STEP):
            yield from self[start : start + 64 * STEP]

    def ids(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the word ids of captions, int64 [B, N] padded with 0, and lengths int64 [B]."""
        groups, group = np.unique(numbers // STEP, return_inverse=True)
        members = np.minimum(groups[:, None] * STEP + np.arange(STEP), len(self) - 1)
        counts = taken(self._lengths, members.reshape(-1), 16 * STEP).reshape(members.shape).astype(np.int64)
        before = np.cumsum(counts, 1) - counts + self._first_word[groups, None]
        place = group.reshape(-1), numbers % STEP
        lengths = counts[place]
        words = taken(self._words, ranges(before[place], lengths), 256).astype(np.int64)
        return pad_rows(words, lengths), lengths

    def texts(self, numbers: NDArray[np.int64]) -> list[str]:
        """Returns captions as they were written.

        Raises:
            aligndraw.json_files.FileError: the text is damaged.
        """
        found, lines, group = [""] * len(numbers), [b""], -1
        with reading(self._text, "damaged"), self._text.open("rb", buffering=0) as file:
            for place in np.argsort(numbers, kind="stable").tolist():  # group by group, one of them in memory
                number = int(numbers[place])
                if number // STEP != group:
                    group = number // STEP
                    file.seek(self._first_byte[group])
                    lines = file.read(self._first_byte[group + 1] - self._first_byte[group]).split(b"\n")
                found[place] = lines[number % STEP].decode()
        return found


def _starts(lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns the sum of the lengths before each group of `STEP`."""
    sums = np.concatenate(
        [np.add.reduceat(part, np.arange(0, len(part), STEP), dtype=np.int64) for part in in_blocks(lengths)]
    )
    starts: NDArray[np.int64] = np.cumsum(sums) - sums
    return starts


def _line_starts(text: Path) -> tuple[list[int], int]:
    """Returns the byte where each group of `STEP` lines begins, then the end of the text, and the number of lines."""
    starts, lines, place = [0], 0, 0
    with text.open("rb") as file:
        while block := file.read(_BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            last = (lines // STEP + 1) * STEP - lines - 1  # the first of these ends that closes a group
            starts += (ends[last::STEP] + (place + 1)).tolist()
            lines, place = lines + len(ends), place + len(block)
    return ([*starts, place] if lines % STEP else starts), lines
