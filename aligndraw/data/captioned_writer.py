"""Writes folders of captioned images (aligndraw.data.captioned): whole or not at all, and taken up where it stopped."""

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
from aligndraw.text import MAX_WORDS, UNKNOWN, Vocabulary, words_of, write_tokenizer

SKIPPED = "skipped.txt"  # what the data set had besides, each with the reason, where there is any
_LIST = re.compile(r"""[\[({]\s*['"].*['"]\s*,?\s*[\])}]""", re.DOTALL)  # as Python and JSON write lists of texts
_CHUNK_SIZE = 4096  # images copied together


class CaptionedWriter:
    """Collects images in a folder beside the data set's place, and puts the data set there when it is whole.

        with CaptionedWriter("faces", (3, 32, 32), plan={"from": "my camera"}) as writer:
            writer.store("train", ["a.jpg"], images)
            writer.finish({"train": [("a.jpg", "a face .")]})

    The data set depends on captions and images alone, not on the order in which images were stored, nor on how often
    that was interrupted.

    Args:
        folder: where to; there must be nothing, or, with `overwrite`, captioned images at most.
        image_shape: C, H, W.
        plan: what is to be made, ready for JSON; it becomes the folder's `origin`.
        resumable: collect the images in `.<name>.partial`, where they stay when the block ends in an error; the next
            writer of the same plan has them (`stored`).
        overwrite: replace captioned images that the folder holds.

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
        self.folder, self.image_shape, self.plan = Path(folder), image_shape, dict(plan)
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
        """Yields a store that goes with the block."""
        with scratch(self.folder.parent) as place:
            yield self._opened(place)

    @contextmanager
    def _lasting(self) -> Iterator[ImageStore]:
        """Yields the store in `.<name>.partial`, which stays if it has images when the block ends in an error."""
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
                with suppress(OSError):  # the data set is in its place; the next writer removes what is left
                    discard(self._partial)
        finally:
            with suppress(OSError):  # it is empty where not even the lock could be made
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
        """Removes the images that the data set in the folder was made of, which a stop just after that has left."""
        made = closed_as(self._partial)
        if made is not None and (self.folder / MANIFEST).is_file() and file_checksum(self.folder / MANIFEST) == made:
            with self._lock():
                discard(self._partial)

    def stored(self, split: str) -> Mapping[str, int]:
        """The keys of the images that a split has, with their rows."""
        return self._images.rows(split)

    def store(self, split: str, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Adds images uint8 [n, C, H, W] to a split, each under a key of its own."""
        if images.dtype != np.uint8 or images.shape != (len(keys), *self.image_shape):
            wanted = f"uint8 {[len(keys), *self.image_shape]}"
            raise ValueError(f"images must be {wanted}, got {images.dtype} {list(images.shape)}")
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
        """Writes the data set, reads it back, and puts it in its place.

        Args:
            captions: of each split, keys of images with captions, in the order that the images are to have. Captions
                of an image that is not stored are left out, and so is an image without any.
            min_count: how often a word must be in the captions of the first split to be in the vocabulary.
            vocabulary: a given one instead.
            encode: the word ids of a caption, when not those of the vocabulary.
            skipped: what was left out and why, a line each, for `skipped.txt`.

        Raises:
            DataError: a split has captions, but none of an image that is stored; or there is no caption at all.
            ValueError: a caption is of no use: `caption_error` tells beforehand.
        """
        listed = {split: list(pairs) for split, pairs in captions.items()}
        kept = {
            split: [(key, " ".join(text.split())) for key, text in pairs if key in self.stored(split)]
            for split, pairs in listed.items()
            if pairs
        }
        if not all(kept.values()) or not kept:
            empty = next((f" of split {split}" for split, pairs in kept.items() if not pairs), "")
            raise DataError(f"there is no image with a caption{empty}")
        words = vocabulary or _counted((text for _, text in next(iter(kept.values()))), min_count)
        encode = encode or (lambda text: words.encode(text, unknown=UNKNOWN))
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
        """Writes the files of a split and adds their checksums; returns how many images and captions it has."""
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
        CaptionedImages.open(self.folder)  # nothing else is ever removed


def caption_error(caption: object) -> str:
    """What keeps a caption from being stored, or ""."""
    if not isinstance(caption, str):
        return f"the caption is no text but {type(caption).__name__}"
    if _LIST.fullmatch(caption.strip()):
        return "the caption is a list written as text: give each caption an entry of its own"
    if any("\ud800" <= character <= "\udfff" for character in caption):
        return "the caption has half a character"
    count = len(words_of(caption))
    if count == 0:
        return "the caption has no words"
    # One is kept for a full stop.
    return f"the caption has {count} words, more than {MAX_WORDS - 1}" if count >= MAX_WORDS else ""


def _counted(captions: Iterable[str], min_count: int) -> Vocabulary:
    """`UNKNOWN`, then the words that are frequent enough, the most frequent first."""
    counts = Counter(word for caption in captions for word in words_of(caption))
    frequent = [word for word, count in counts.items() if count >= min_count]
    return Vocabulary((UNKNOWN, *sorted(frequent, key=lambda word: (-counts[word], word))))


def _write_text(path: Path, text: str, errors: str = "strict") -> str:
    """Writes UTF-8 text; returns its SHA-256."""
    content = text.encode("utf-8", errors)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
