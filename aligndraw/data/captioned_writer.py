"""Writes folders of captioned images (aligndraw.data.captioned), whole or not at all; an interrupted writer resumes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from aligndraw.data.image_store import ImageStore, closed_as
from aligndraw.files import atomic_write, discard, locked, save_array, scratch, sweep, write_array
from aligndraw.printable import one_line
from aligndraw.text import MAX_WORDS, UNKNOWN, Vocabulary, text_fault, words_of, write_tokenizer

SKIPPED = "skipped.txt"  # the captions and images left out, each with the reason
_LIST = re.compile(r"""[\[({]\s*['"].*['"]\s*,?\s*[\])}]""", re.DOTALL)  # a list of strings in Python or JSON
_CHUNK_SIZE = 4096  # images copied together


class CaptionedWriter:
    """Collects images in a folder beside the data set's place, and moves the whole data set to its place.

        with CaptionedWriter("faces", (3, 32, 32), plan={"from": "my camera"}) as writer:
            writer.store("train", ["a.jpg"], images)
            writer.finish({"train": [("a.jpg", "a face .")]})

    The data set depends on captions and images alone, neither on the order of storing nor on interruptions.

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
        if images.dtype != np.uint8 or images.shape != (len(keys), *self.image_shape):
            wanted = f"uint8 {[len(keys), *self.image_shape]}"
            raise ValueError(f"images must be {wanted}, got {images.dtype} {list(images.shape)}")
        _check_keys(keys)
        self._images.append(split, keys, images)

    def finish(
        self,
        captions: Mapping[str, Iterable[tuple[str, str]]],
        *,
        min_count: int = 1,
        vocabulary: Vocabulary | None = None,
        encode: Callable[[str], list[int]] | None = None,
        skipped: Sequence[str] = (),
    ) -> CaptionedImages:
        """Writes the data set, verifies it, and moves it to its place.

        Args:
            captions: of each split, keys of images with captions, in the order of the images. Captions of images that
                are not stored are left out, and so are images without captions.
            min_count: least count of a word in the captions of the first split for it to be in the vocabulary.
            vocabulary: a given one instead.
            encode: returns the word ids of a caption, instead of the vocabulary.
            skipped: one line per omission, for `skipped.txt`.

        Raises:
            DataError: a split has captions, but none of a stored image; or there is no caption at all; or no word comes
                `min_count` times.
            ValueError: a caption is unusable or no text; `caption_error` finds it beforehand.
        """
        listed = {split: _pairs(split, pairs) for split, pairs in captions.items()}
        kept = {
            split: [(key, " ".join(text.split())) for key, text in pairs if key in self.stored(split)]
            for split, pairs in listed.items()
            if pairs
        }
        if not all(kept.values()) or not kept:
            empty = next((f" of split {split}" for split, pairs in kept.items() if not pairs), "")
            raise DataError(f"there is no image with a caption{empty}")
        words = vocabulary or _counted((text for _, text in next(iter(kept.values()))), min_count)
        encode = encode or words.encode
        with atomic_write(self.folder) as whole:
            whole.mkdir()
            write_tokenizer(words, whole / TOKENIZER)
            checksums = {TOKENIZER: file_checksum(whole / TOKENIZER)}
            sizes = {}
            for split, pairs in kept.items():
                sizes[split] = self._write(whole, split, pairs, encode, checksums)
            manifest = {
                "format": FORMAT,
                "image": list(self.image_shape),
                "splits": sizes,
                "words": len(words),
                "origin": self.plan,
                "files": {n: {"bytes": (whole / n).stat().st_size, "sha256": sha} for n, sha in checksums.items()},
            }
            checksum = _write_text(whole / MANIFEST, json.dumps(manifest, indent=1) + "\n")
            if skipped:
                _write_text(whole / SKIPPED, "".join(f"{one_line(line)}\n" for line in skipped))
            CaptionedImages.open(whole).verify()
            self._check_place()
            self._images.close(checksum)
        return CaptionedImages.open(self.folder)

    def _write(
        self,
        folder: Path,
        split: str,
        pairs: list[tuple[str, str]],
        encode: Callable[[str], list[int]],
        checksums: dict[str, str],
    ) -> dict[str, int]:
        """Writes the files of a split and adds their checksums; returns its numbers of images and captions."""
        row = {key: i for i, key in enumerate(dict.fromkeys(key for key, _ in pairs))}
        numbered = sorted(((row[key], text) for key, text in pairs), key=lambda pair: pair[0])
        ids = [encode(text) for _, text in numbered]
        stored, used = self._images.pixels(split), [self.stored(split)[key] for key in row]
        blocks = (stored[used[start : start + _CHUNK_SIZE]] for start in range(0, len(used), _CHUNK_SIZE))
        names = {part: f"{split}-{part}" for part in (IMAGES, CAPTIONS, WORDS, LENGTHS, INDEX)}
        checksums[names[IMAGES]] = write_array(folder / names[IMAGES], (len(used), *self.image_shape), np.uint8, blocks)
        checksums[names[CAPTIONS]] = _write_text(folder / names[CAPTIONS], "".join(f"{t}\n" for _, t in numbered))
        arrays: dict[str, NDArray[Any]] = {
            WORDS: np.array([i for caption in ids for i in caption], np.int32),
            LENGTHS: np.array([len(caption) for caption in ids], np.int32),
            INDEX: np.array([index for index, _ in numbered], np.int64),
        }
        for part, array in arrays.items():
            checksums[names[part]] = save_array(folder / names[part], array)
        return {"images": len(used), "captions": len(numbered)}

    def _check_place(self) -> None:
        if not self.folder.exists():
            return
        with suppress(NotADirectoryError):
            if not any(self.folder.iterdir()):
                return
        if not self.overwrite:
            raise DataError(f"{self.folder} exists already: give another folder, or --overwrite")
        CaptionedImages.open(self.folder)  # the writer removes nothing but captioned images


def _pairs(split: str, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns keys of images with captions; raises DataError where they are no pairs of text."""
    listed = list(pairs)
    for pair in listed:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            got = type(pair).__name__
            raise DataError(f"captions of split {split} must be pairs of a key and a caption, got {got}")
        if not isinstance(pair[1], str):
            raise DataError(f"the caption {text_fault(pair[1])}")
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
            f"no word of the training captions comes {min_count} times, and the most frequent comes {most} times: "
            "lower --min-count"
        )
    return Vocabulary((UNKNOWN, *sorted(frequent, key=lambda word: (-counts[word], word))))


def _write_text(path: Path, text: str, errors: str = "strict") -> str:
    """Writes UTF-8 text; returns its SHA-256."""
    content = text.encode("utf-8", errors)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
