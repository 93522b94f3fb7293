"""Writes folders of captioned images (aligndraw.data.captioned): whole or not at all, and taken up where it stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
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
from aligndraw.files import write_array
from aligndraw.text import MAX_WORDS, UNKNOWN, Vocabulary, words_of, write_tokenizer

PLAN, PIXELS, JOURNAL = "plan.json", "images.raw", "journal.txt"
SKIPPED = "skipped.txt"  # what the data set had besides, each with the reason, where there is any
_LIST = re.compile(r"""[\[({]\s*['"].*['"]\s*,?\s*[\])}]""", re.DOTALL)  # as Python and JSON write lists of texts


class CaptionedWriter:
    """Fills a folder beside its place, `.<name>.partial`, and moves it there when it is whole.

        with CaptionedWriter("faces", (3, 32, 32), plan={"from": "my camera"}) as writer:
            writer.store("train", ["a.jpg"], images)
            writer.finish({"train": [("a.jpg", "a face .")]})

    When the block ends in an error, what is stored so far goes again; with `resumable` it stays, and the next writer of
    the same plan has it (`stored`).

    Args:
        folder: where to; there must be nothing, or, with `overwrite`, captioned images at most.
        image_shape: C, H, W.
        plan: what is to be made, ready for JSON; it becomes the folder's `origin`.
        resumable: keep what is stored when the block ends in an error.
        overwrite: replace captioned images that the folder holds.

    Raises:
        DataError: the folder is taken.
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
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        self._rows: dict[str, dict[str, int]] = {}

    def __enter__(self) -> CaptionedWriter:
        self._check_place()
        plan = json.dumps({**self.plan, "image": list(self.image_shape)}, sort_keys=True)
        begun = self.partial / PLAN
        if not (self.resumable and begun.is_file() and begun.read_text(encoding="utf-8") == plan):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            begun.write_text(plan, encoding="utf-8")
        for journal in self.partial.glob(f"*-{JOURNAL}"):
            self._take_up(journal.name.removesuffix(f"-{JOURNAL}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (error and self.resumable and any(self._rows.values())):
            shutil.rmtree(self.partial, ignore_errors=True)

    def stored(self, split: str) -> Mapping[str, int]:
        """The keys of the images that a split has, with their rows."""
        return self._rows.get(split, {})

    def store(self, split: str, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Adds images uint8 [n, C, H, W] to a split, each under a key of its own."""
        if images.dtype != np.uint8 or images.shape != (len(keys), *self.image_shape):
            wanted = f"uint8 {[len(keys), *self.image_shape]}"
            raise ValueError(f"images must be {wanted}, got {images.dtype} {list(images.shape)}")
        rows = self._rows.setdefault(split, {})
        # First the images, then their keys: what the journal names is there.
        with self._path(split, PIXELS).open("ab") as file:
            file.write(images.tobytes())
        with self._path(split, JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write("".join(json.dumps(key) + "\n" for key in keys))
        rows.update({key: len(rows) + i for i, key in enumerate(keys)})

    def finish(
        self,
        captions: Mapping[str, Iterable[tuple[str, str]]],
        *,
        min_count: int = 1,
        vocabulary: Vocabulary | None = None,
        encode: Callable[[str], list[int]] | None = None,
        skipped: Sequence[str] = (),
    ) -> CaptionedImages:
        """Writes the captions and puts the folder in its place.

        Args:
            captions: of each split, keys of images with captions. Those of an image that is not stored are left out,
                and so is an image without any.
            min_count: how often a word must be in the captions of the first split to be in the vocabulary.
            vocabulary: a given one instead.
            encode: the word ids of a caption, when not those of the vocabulary.
            skipped: what was left out and why, a line each, for `skipped.txt`.

        Raises:
            DataError: no split has an image with a caption.
            ValueError: a caption is of no use: `caption_fault` tells beforehand.
        """
        kept = {
            split: [(key, " ".join(text.split())) for key, text in pairs if key in self.stored(split)]
            for split, pairs in captions.items()
        }
        kept = {split: pairs for split, pairs in kept.items() if pairs}
        if not kept:
            raise DataError("there is no image with a caption")
        words = vocabulary or _counted((text for _, text in next(iter(kept.values()))), min_count)
        encode = encode or (lambda text: words.encode(text, unknown=UNKNOWN))
        write_tokenizer(words, self.partial / TOKENIZER)
        names = [TOKENIZER]
        sizes = {}
        for split, pairs in kept.items():
            sizes[split] = self._write(split, pairs, encode)
            names += [f"{split}-{part}" for part in (IMAGES, CAPTIONS, WORDS, LENGTHS, INDEX)]
        files = {
            n: {"bytes": (self.partial / n).stat().st_size, "sha256": file_checksum(self.partial / n)} for n in names
        }
        manifest = {
            "format": FORMAT,
            "image": list(self.image_shape),
            "splits": sizes,
            "words": len(words),
            "origin": self.plan,
            "files": files,
        }
        (self.partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if skipped:
            lines = (" ".join(line.split()) + "\n" for line in skipped)
            (self.partial / SKIPPED).write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        self._check_place()
        for path in self.partial.iterdir():
            if path.name not in (*names, MANIFEST, *[SKIPPED][: len(skipped)]):
                path.unlink()
        old = self.folder.with_name(f".{self.folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        self.partial.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        return CaptionedImages.open(self.folder)

    def _write(self, split: str, pairs: list[tuple[str, str]], encode: Callable[[str], list[int]]) -> dict[str, int]:
        """The files of a split, its captions in the order of its images, and images without one left out."""
        used = sorted({self._rows[split][key] for key, _ in pairs})
        row = {old: new for new, old in enumerate(used)}
        numbered = sorted(((row[self._rows[split][key]], text) for key, text in pairs), key=lambda pair: pair[0])
        ids = [encode(text) for _, text in numbered]
        self._write_images(split, used)
        arrays: dict[str, NDArray[Any]] = {
            WORDS: np.array([i for caption in ids for i in caption], np.int32),
            LENGTHS: np.array([len(caption) for caption in ids], np.int32),
            INDEX: np.array([index for index, _ in numbered], np.int64),
        }
        for part, array in arrays.items():
            np.save(self._path(split, part), array)
        self._path(split, CAPTIONS).write_text(
            "".join(f"{text}\n" for _, text in numbered), encoding="utf-8", newline="\n"
        )
        return {"images": len(used), "captions": len(numbered)}

    def _write_images(self, split: str, rows: list[int]) -> None:
        stored = np.memmap(self._path(split, PIXELS), np.uint8, "r", shape=(len(self._rows[split]), *self.image_shape))
        blocks = (stored[rows[start : start + 4096]] for start in range(0, len(rows), 4096))
        write_array(self._path(split, IMAGES), (len(rows), *self.image_shape), np.uint8, blocks)

    def _take_up(self, split: str) -> None:
        """Goes by the journal: images that it does not name, and a line that was cut off, are forgotten."""
        journal, pixels = self._path(split, JOURNAL), self._path(split, PIXELS)
        size = int(np.prod(self.image_shape))
        lines = journal.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        lines = lines[: pixels.stat().st_size // size]
        self._rows[split] = {json.loads(line): i for i, line in enumerate(lines)}
        journal.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.truncate(pixels, len(lines) * size)

    def _check_place(self) -> None:
        if not self.folder.exists():
            return
        with suppress(NotADirectoryError):
            if not any(self.folder.iterdir()):
                return
        if not self.overwrite:
            raise DataError(f"{self.folder} exists already: give another folder, or --overwrite")
        CaptionedImages.open(self.folder)  # nothing else is ever removed

    def _path(self, split: str, part: str) -> Path:
        return self.partial / f"{split}-{part}"


def caption_fault(caption: object) -> str:
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
