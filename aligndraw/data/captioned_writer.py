"""Writes folders of captioned images (aligndraw.data.captioned), whole or not at all; an interrupted writer resumes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.arguments import check_path
from aligndraw.data.captioned import (
    CAPTIONS,
    FORMAT,
    IMAGES,
    INDEX,
    LENGTHS,
    MANIFEST,
    TOKENIZER,
    WORDS,
    CaptionedImages,
    DataError,
    file_checksum,
)
from aligndraw.data.image_store import Block, ImageStore, closed_as
from aligndraw.files import atomic_write, discard, locked, scratch, sweep, write_array
from aligndraw.printable import counted, one_line
from aligndraw.text import MAX_WORDS, UNKNOWN, Vocabulary, text_fault, words_of, write_tokenizer

SKIPPED = "skipped.txt"  # the captions and images left out, each with the reason
_LIST = re.compile(r"""[\[({]\s*['"].*['"]\s*,?\s*[\])}]""", re.DOTALL)  # a list of strings in Python or JSON
_CHUNK_SIZE = 4096  # images that are copied together
_CHUNK_BYTES = 1 << 16  # of word ids that are copied together


class CaptionedWriter:
    """Collects images in a folder beside the data set's place, and moves the whole data set to its place.

        with CaptionedWriter("faces", (3, 32, 32), plan={"from": "my camera"}) as writer:
            writer.store("train", ["a.jpg"], images)
            writer.finish({"train": [("a.jpg", "a face .")]})

    The data set depends on captions and images alone, neither on the order of storing nor on interruptions.

    Captions may come with their images instead, part by part, and never are all in memory:

        for name, images, captions in parts:
            if writer.has_part("train", name):
                writer.take("train", name)
            else:
                writer.add("train", name, images, captions)
        writer.finish()

    Args:
        folder: the place of the data set; it must be absent or empty, or, with `overwrite`, hold captioned images.
        image_shape: C, H, W.
        plan: describes the data set, ready for JSON; it becomes the folder's `origin`.
        resumable: collects the images in `.<name>.partial`, which an error in the block leaves in place; the next
            writer of the same plan starts with them (`stored`).
        overwrite: replaces captioned images in the folder.

    Raises:
        DataError: the folder is taken, or another process writes it.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        image_shape: tuple[int, int, int],
        plan: Mapping[str, Any],
        *,
        resumable: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.image_shape, self.plan = check_path("folder", folder), image_shape, dict(plan)
        self.resumable, self.overwrite = resumable, overwrite
        self._partial = self.folder.with_name(f".{self.folder.name}.partial")
        self._held = ExitStack()
        self._images: ImageStore
        self._parts: dict[str, list[Block]] = {}  # of each split, in their order

    def __enter__(self) -> CaptionedWriter:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(self.folder.parent)
        self._remove_leftover()
        self._check_place()
        self._images = self._held.enter_context(self._lasting() if self.resumable else self._passing())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)

    @contextmanager
    def _passing(self) -> Iterator[ImageStore]:
        """Yields a store that exists for the block."""
        with scratch(self.folder.parent) as place:
            yield self._opened(place)

    @contextmanager
    def _lasting(self) -> Iterator[ImageStore]:
        """Yields the store in `.<name>.partial`, which an error in the block leaves in place if it has images."""
        self._partial.mkdir(exist_ok=True)
        try:
            with self._lock():
                images = None
                try:
                    images = self._opened(self._partial)
                    yield images
                except BaseException:
                    if not images:
                        discard(self._partial)
                    raise
                with suppress(OSError):  # the data set is in its place; the next writer removes the rest
                    discard(self._partial)
        finally:
            with suppress(OSError):  # it is empty if the lock could not be made
                self._partial.rmdir()

    def _opened(self, place: Path) -> ImageStore:
        return ImageStore(place, self.image_shape, {**self.plan, "image": list(self.image_shape)})

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._partial / "lock"))
            except BlockingIOError as error:
                raise DataError(f"another process is writing {self.folder}: wait for it, or stop it") from error
            yield

    def _remove_leftover(self) -> None:
        """Removes the images of the finished data set, which a stop just after finishing has left."""
        made = closed_as(self._partial)
        if made is not None and (self.folder / MANIFEST).is_file() and file_checksum(self.folder / MANIFEST) == made:
            with self._lock():
                discard(self._partial)

    def stored(self, split: str) -> Mapping[str, int]:
        """Returns the keys of the stored images of a split, with their rows."""
        return self._images.rows(split)

    def store(self, split: str, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Adds images uint8 [n, C, H, W] to a split, each under a key of its own."""
        self._check_images(images, len(keys))
        _check_keys(keys)
        self._images.append(split, keys, images)

    def _check_images(self, images: NDArray[np.uint8], count: int) -> None:
        if images.dtype != np.uint8 or images.shape != (count, *self.image_shape):
            wanted = f"uint8 {[count, *self.image_shape]}"
            raise ValueError(f"images must be {wanted}, got {images.dtype} {list(images.shape)}")

    def has_part(self, split: str, name: str) -> bool:
        """Returns whether a part was stored before an interruption."""
        return self._images.part(split, name) is not None

    def take(self, split: str, name: str) -> Any:
        """Takes up a part that was stored before an interruption, as the next of its split; returns its notes."""
        part = self._images.part(split, name)
        if part is None:
            raise KeyError(name)
        self._parts.setdefault(split, []).append(part)
        return self._images.notes(part)

    def add(
        self,
        split: str,
        name: str,
        images: NDArray[np.uint8],
        captions: Sequence[Sequence[str]],
        notes: Any = None,
    ) -> None:
        """Adds a part: images uint8 [n, C, H, W] and the captions of each, in the order of the data set.

        Args:
            split: that the part is the next of.
            name: changes with the content, so that `take` never takes up another one.
            captions: images without captions are left out.
            notes: for `take`, ready for JSON.
        """
        self._check_images(images, len(captions))
        texts = [[_one_line(text) for text in one] for one in captions]
        kept = [i for i, one in enumerate(texts) if one]
        part = self._images.add(split, name, images[kept], [texts[i] for i in kept], notes)
        self._parts.setdefault(split, []).append(part)

    def finish(
        self,
        captions: Mapping[str, Iterable[tuple[str, str]]] | None = None,
        *,
        min_count: int = 1,
        vocabulary: Vocabulary | None = None,
        encode: Callable[[str], list[int]] | None = None,
        skipped: Sequence[str] = (),
    ) -> CaptionedImages:
        """Writes the data set, verifies it, and moves it to its place.

        Args:
            captions: of each split, keys of images with captions, in the order of the images. Captions of images that
                are not stored are left out, and so are images without captions. None where they came with the images.
            min_count: least count of a word in the captions of the first split for it to be in the vocabulary.
            vocabulary: a given one instead.
            encode: returns the word ids of a caption, instead of the vocabulary.
            skipped: one line per omission, for `skipped.txt`.

        Raises:
            DataError: a split has captions, but none of a stored image; or there is no caption at all; or no word comes
                `min_count` times.
            ValueError: a caption is unusable or no text; `caption_error` finds it beforehand.
        """
        given = {split: _pairs(split, pairs) for split, pairs in (captions or {}).items()}
        splits = {split: self._keyed(split, pairs) for split, pairs in given.items() if pairs}
        splits |= {split: self._added(parts) for split, parts in self._parts.items()}
        if not all(split.images for split in splits.values()) or not splits:
            empty = next((f" of split {name}" for name, split in splits.items() if not split.images), "")
            raise DataError(f"there is no image with a caption{empty}")
        first = next(iter(splits.values()))
        words = vocabulary or _counted((text for texts in first.texts() for text in texts), min_count)
        encode = encode or words.encode
        with atomic_write(self.folder) as whole:
            whole.mkdir()
            write_tokenizer(words, whole / TOKENIZER)
            checksums = {TOKENIZER: file_checksum(whole / TOKENIZER)}
            for name, split in splits.items():
                checksums |= self._write(whole, name, split, encode)
            manifest = {
                "format": FORMAT,
                "image": list(self.image_shape),
                "splits": {k: {"images": split.images, "captions": split.captions} for k, split in splits.items()},
                "words": len(words),
                "origin": self.plan,
                "files": {n: {"bytes": (whole / n).stat().st_size, "sha256": sha} for n, sha in checksums.items()},
            }
            checksum = _write_text(whole / MANIFEST, [json.dumps(manifest, indent=1) + "\n"])
            if skipped:
                _write_text(whole / SKIPPED, (f"{one_line(line)}\n" for line in skipped))
            CaptionedImages.open(whole).verify()
            self._check_place()
            self._images.close(checksum)
        return CaptionedImages.open(self.folder)

    def _keyed(self, split: str, pairs: list[tuple[str, str]]) -> _Split:
        """Returns the images of these keys, in the order of their first captions."""
        rows, texts_of = self.stored(split), dict[str, list[str]]()
        for key, text in pairs:
            if key in rows:
                texts_of.setdefault(key, []).append(_one_line(text))
        used = [rows[key] for key in texts_of]

        def blocks() -> Iterator[NDArray[np.uint8]]:
            stored = self._images.pixels(split)
            for start in range(0, len(used), _CHUNK_SIZE):
                yield stored[used[start : start + _CHUNK_SIZE]]

        return _Split(len(used), sum(map(len, texts_of.values())), blocks, lambda: iter(texts_of.values()))

    def _added(self, parts: list[Block]) -> _Split:
        """Returns the images of these parts."""
        store = self._images
        return _Split(
            sum(part.images for part in parts),
            sum(part.captions for part in parts),
            lambda: map(store.images, parts),
            lambda: (texts for part in parts for texts in store.captions(part)),
        )

    def _write(self, folder: Path, name: str, split: _Split, encode: Callable[[str], list[int]]) -> dict[str, str]:
        """Writes the files of a split; returns the checksum of each."""
        images, captions, words, lengths, index = (f"{name}-{k}" for k in (IMAGES, CAPTIONS, WORDS, LENGTHS, INDEX))
        checksums = {
            images: write_array(folder / images, (split.images, *self.image_shape), np.uint8, split.blocks()),
            captions: _write_text(
                folder / captions, ("".join(f"{t}\n" for ts in texts for t in ts) for texts in _chunks(split.texts()))
            ),
        }
        ids = folder / "ids"  # of all captions, until their number is known
        total = 0

        def encoded() -> Iterator[NDArray[np.int32]]:
            """Yields the lengths of captions, and writes their ids."""
            nonlocal total
            with ids.open("wb") as file:
                for texts in _chunks(split.texts()):
                    rows = [encode(text) for one in texts for text in one]
                    total += sum(map(len, rows))
                    file.write(np.array([i for row in rows for i in row], np.int32).tobytes())
                    yield np.array([len(row) for row in rows], np.int32)

        length_sum = write_array(folder / lengths, (split.captions,), np.int32, encoded())
        with ids.open("rb") as file:
            blocks = (np.frombuffer(block, np.int32) for block in iter(lambda: file.read(_CHUNK_BYTES), b""))
            checksums[words] = write_array(folder / words, (total,), np.int32, blocks)
        ids.unlink()
        checksums[lengths] = length_sum
        numbers = enumerate(_chunks(split.texts()))
        images_of = (
            np.repeat(np.arange(k * _CHUNK_SIZE, k * _CHUNK_SIZE + len(texts)), list(map(len, texts)))
            for k, texts in numbers
        )
        checksums[index] = write_array(folder / index, (split.captions,), np.int64, images_of)
        return checksums

    def _check_place(self) -> None:
        if not self.folder.exists():
            return
        with suppress(NotADirectoryError):
            if not any(self.folder.iterdir()):
                return
        if not self.overwrite:
            raise DataError(f"{self.folder} exists already: give another folder, or --overwrite")
        CaptionedImages.open(self.folder)  # the writer removes nothing but captioned images


@dataclass(frozen=True)
class _Split:
    """What a split will hold.

    Attributes:
        images, captions: their numbers.
        blocks: yields the images, uint8 [n, C, H, W], in order.
        texts: yields the captions of each image.
    """

    images: int
    captions: int
    blocks: Callable[[], Iterator[NDArray[np.uint8]]]
    texts: Callable[[], Iterator[Sequence[str]]]


def _chunks(texts: Iterator[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    while chunk := list(islice(texts, _CHUNK_SIZE)):
        yield chunk


def _one_line(text: str) -> str:
    """Returns a caption in one line; raises DataError where it is no text."""
    if not isinstance(text, str):
        raise DataError(f"the caption {text_fault(text)}")
    return " ".join(text.split())


def _pairs(split: str, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns keys of images with captions; raises DataError where they are no pairs of text."""
    listed = list(pairs)
    for pair in listed:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            got = type(pair).__name__
            raise DataError(f"captions of split {split} must be pairs of a key and a caption, got {got}")
        _one_line(pair[1])
    _check_keys(key for key, _ in listed)
    return listed


def _check_keys(keys: Iterable[str]) -> None:
    for key in keys:
        if not isinstance(key, str):
            raise DataError(f"keys of images must be strings, got {type(key).__name__}")


def caption_error(caption: object) -> str:
    """Returns why a caption cannot be stored; "" where it can."""
    if not isinstance(caption, str):
        return f"the caption {text_fault(caption)}"
    if _LIST.fullmatch(caption.strip()):
        return "the caption is a list written as text: give each caption an entry of its own"
    count = len(words_of(caption))
    if count == 0:
        return "the caption has no words"
    if count >= MAX_WORDS:  # one word is reserved for a full stop
        return f"the caption has {count} words, more than {MAX_WORDS - 1}"
    fault = text_fault(caption)
    return fault and f"the caption {fault}"


def _counted(captions: Iterable[str], min_count: int) -> Vocabulary:
    """Returns `UNKNOWN` and the words that are frequent enough, the most frequent first.

    Raises:
        DataError: no word is.
    """
    counts = Counter(word for caption in captions for word in words_of(caption))
    frequent = [word for word, count in counts.items() if count >= min_count]
    if not frequent:
        most = max(counts.values(), default=0)
        raise DataError(
            f"no word of the training captions comes {counted(min_count, 'time')}, and the most frequent comes "
            f"{counted(most, 'time')}: "
            "lower --min-count"
        )
    return Vocabulary((UNKNOWN, *sorted(frequent, key=lambda word: (-counts[word], word))))


def _write_text(path: Path, pieces: Iterable[str]) -> str:
    """Writes UTF-8 text; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            content = piece.encode("utf-8")
            digest.update(content)
            file.write(content)
    return digest.hexdigest()
