"""Images with captions in a folder, the storage format of all captioned data sets.

manifest.json              origin; images and captions of each split; size and SHA-256 of each file
tokenizer.json             the vocabulary (aligndraw.text.tokenizer_json)
train-images.npy           uint8 [n, C, H, W]
train-captions.txt         UTF-8, one caption per line, as it was written
train-words.npy            int32, the concatenated word ids of all captions
train-lengths.npy          int32 [k], words of each caption
train-image-index.npy      int64 [k], the image of each caption

and the same five files for the other splits, usually validation and test. All arrays are memory-mapped, and the text is
read where a caption is asked for. `CaptionedImages.open` reads a folder,
`CaptionedWriter` (aligndraw.data.captioned_writer) writes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.arguments import check_int, check_parts, check_path, check_seed
from aligndraw.data.mapped import MappedCaptions, bounds, taken
from aligndraw.data.ragged import pad_rows
from aligndraw.files import load_array, reading
from aligndraw.json_files import FileError, entry, naming, parse_json
from aligndraw.printable import counted
from aligndraw.text import MAX_WORDS, UNKNOWN, Vocabulary, read_tokenizer

FORMAT = "aligndraw captioned images 1"
MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"
IMAGES, CAPTIONS, WORDS, LENGTHS, INDEX = (
    "images.npy",
    "captions.txt",
    "words.npy",
    "lengths.npy",
    "image-index.npy",
)
_BLOCK = 4096  # captions that are read together
_FEW = 50  # an epoch of fewer than one in so many examples is drawn without a permutation of all


class DataError(FileError):
    """A data set is damaged, foreign or unusable; the message is one line and names the file."""


@dataclass(frozen=True, eq=False)
class CaptionedSplit:
    """Examples of one split, each a caption with its image. An image has as many examples as captions.

    Images and captions stay in their files: memory does not depend on their number.

    Attributes:
        images: uint8 [n, C, H, W], memory-mapped.
        image_index: int64 [k], the image of each example; memory-mapped, but for selected examples.
        vocabulary: of the word ids.
    """

    images: NDArray[np.uint8]
    image_index: NDArray[np.int64]
    vocabulary: Vocabulary
    _stored: MappedCaptions
    _is_reworded: bool = False  # whether the vocabulary is another than that of the stored word ids
    _numbers: NDArray[np.int64] | None = None  # [k], the caption of each selected example; None for all

    def __len__(self) -> int:
        return len(self.image_index)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Words of each caption, int64 [k]."""
        blocks = (self.texts(slice(start, start + _BLOCK))[1] for start in range(0, len(self), _BLOCK))
        return np.concatenate(list(blocks))

    def batch(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Returns images uint8 [B, C, H, W], word ids int64 [B, N] padded with 0, and lengths int64 [B]."""
        return self.pictures(index), *self.texts(index)

    def pictures(self, index: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns images uint8 [B, C, H, W]."""
        return taken(self.images, taken(self.image_index, index))

    def texts(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns word ids int64 [B, N] padded with 0, and lengths int64 [B]."""
        numbers = self._captions(index)
        if not self._is_reworded:
            return self._stored.ids(numbers)
        ids = [self.vocabulary.encode(caption) for caption in self._stored.texts(numbers)]
        lengths = np.array([len(caption) for caption in ids], np.int64)
        return pad_rows(np.array([i for caption in ids for i in caption], np.int64), lengths), lengths

    def parts(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """As `Resident.parts`: indices of images, int64 [B]."""
        return (taken(self.image_index, index),)

    @staticmethod
    def compose(images: Tensor, *parts: Tensor) -> Tensor:
        """As `Resident.compose`."""
        return images[parts[0]]

    def captions(self, index: slice | NDArray[np.int64] = slice(None)) -> list[str]:
        """Returns the captions as they were written."""
        return self._stored.texts(self._captions(index))

    def all_captions(self) -> Sequence[str]:
        """Returns all captions of every epoch, read from their file when they are asked for."""
        return self._stored if self._numbers is None else self.captions()

    def select(self, index: slice | NDArray[np.int64]) -> CaptionedSplit:
        """Returns examples by position, in the given order; the images stay the same."""
        return dataclasses.replace(self, image_index=taken(self.image_index, index), _numbers=self._captions(index))

    def reworded(self, vocabulary: Vocabulary) -> CaptionedSplit:
        """Returns the same examples with the word ids of another vocabulary, found batch by batch.

        Raises:
            CaptionError: a caption has words that the vocabulary lacks, and it has no `[UNK]`; or too many.
        """
        if UNKNOWN not in vocabulary.words:
            for start in range(0, len(self), _BLOCK):
                for caption in self.captions(slice(start, start + _BLOCK)):
                    vocabulary.encode(caption)
        return dataclasses.replace(self, vocabulary=vocabulary, _is_reworded=True)

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> CaptionedSplit:
        """Returns `size` examples, fully determined by (seed, epoch). None repeats before all others have come."""
        check_seed(seed)
        check_int("epoch", epoch, 0)
        check_int("size", size, 1)
        return self.select(drawn_rows(np.random.default_rng([seed, epoch]), len(self), size))

    def _captions(self, index: slice | NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers of the captions of examples."""
        if self._numbers is not None:
            return self._numbers[index]
        if isinstance(index, slice):
            return np.arange(*index.indices(len(self)))
        numbers = np.asarray(index, np.int64)
        if not ((numbers >= -len(self)) & (numbers < len(self))).all():
            raise IndexError(f"examples must be in 0…{len(self) - 1}")
        return numbers % len(self)


def drawn_rows(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    """Returns `size` of `count` rows at random, int64 [size]; none repeats before all others have come.

    Of very many rows it draws few, so that memory depends on `size` alone.
    """
    if count > _FEW * size:
        return rng.choice(count, size, replace=False)
    return np.concatenate([rng.permutation(count) for _ in range(-(-size // count))])[:size]


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """A folder of captioned images.

    Attributes:
        folder: its path.
        vocabulary: of the word ids.
        image_shape: C, H, W.
        sizes: images and captions of each split.
        origin: how the folder was made.
        checksum: SHA-256 of the manifest, which holds the checksums of all other files.
    """

    folder: Path
    vocabulary: Vocabulary
    image_shape: tuple[int, int, int]
    sizes: dict[str, dict[str, int]]
    origin: dict[str, Any]
    checksum: str
    _files: dict[str, dict[str, Any]]
    _stored: Vocabulary | None = None  # the vocabulary of the files, where `vocabulary` is another

    def __new__(cls, *parts: Any, **named: Any) -> CaptionedImages:
        if len(parts) == 1:  # the folder alone
            check_parts("CaptionedImages.open", parts[0])
        return super().__new__(cls)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> CaptionedImages:
        """Reads the manifest and the vocabulary, and checks the size of every file; `split` reads the rest.

        Raises:
            DataError: there is no such folder, or a file of it is missing, damaged or foreign.
        """
        folder = check_path("folder", folder)
        try:
            content = (folder / MANIFEST).read_bytes()
        except OSError as error:
            missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            mend = "; `aligndraw data folder` makes them of pictures and captions" if missing else ""
            raise DataError(f"there are no captioned images in {folder}: {MANIFEST}: {error.strerror}{mend}") from error
        with naming(folder / MANIFEST, "damaged or foreign", DataError):
            manifest = parse_json(content)
            if entry(manifest, "format", str) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            shape = [_count(side) for side in entry(manifest, "image", list)]
            if len(shape) != 3:
                raise ValueError(f"'image' must be three numbers, got {len(shape)}")
            channels, height, width = shape
            splits, listed = entry(manifest, "splits", dict), entry(manifest, "files", dict)
            sizes = {
                name: {k: _count(entry(entry(splits, name, dict), k, int)) for k in ("images", "captions")}
                for name in splits
            }
            files = {
                name: {k: entry(entry(listed, name, dict), k, kind) for k, kind in (("bytes", int), ("sha256", str))}
                for name in listed
            }
            wanted = {TOKENIZER, *(f"{s}-{part}" for s in sizes for part in (IMAGES, CAPTIONS, WORDS, LENGTHS, INDEX))}
            if set(files) != wanted:
                raise ValueError(f"it lists other files than {', '.join(sorted(wanted))}")
            origin = entry(manifest, "origin", dict)
        for name, file in files.items():
            try:
                size = (folder / name).stat().st_size
            except OSError as error:
                raise DataError(f"{folder / name} is missing: {error.strerror}") from error
            if size != file["bytes"]:
                raise DataError(
                    f"{folder / name} is damaged: it should have {counted(file['bytes'], 'byte')}, got {size}"
                )
        _check(folder / TOKENIZER, files[TOKENIZER]["sha256"])
        try:
            vocabulary = read_tokenizer(folder / TOKENIZER)
        except (ValueError, OSError) as error:
            raise DataError(str(error)) from error
        checksum = hashlib.sha256(content).hexdigest()
        return cls(folder, vocabulary, (channels, height, width), sizes, origin, checksum, files)

    def verify(self) -> None:
        """Reads and checks every split."""
        for name in self.sizes:
            self.split(name)

    def reworded(self, vocabulary: Vocabulary) -> CaptionedImages:
        """Returns the same images, whose splits have the word ids of another vocabulary (`CaptionedSplit.reworded`)."""
        return dataclasses.replace(self, vocabulary=vocabulary, _stored=self._stored or self.vocabulary)

    def split(self, name: str) -> CaptionedSplit:
        """Returns the examples of a split, in the order of their images, after checking every byte.

        Raises:
            ValueError: there is no such split.
            DataError: a file of it has another checksum than in the manifest, or does not fit the others.
        """
        if name not in self.sizes:
            raise ValueError(f"split must be one of {', '.join(map(repr, self.sizes))}, got {name!r}")
        for part in (IMAGES, CAPTIONS, WORDS, LENGTHS, INDEX):
            _check(self.folder / f"{name}-{part}", self._files[f"{name}-{part}"]["sha256"])
        images, captions = self.sizes[name]["images"], self.sizes[name]["captions"]
        pixels = self._array(name, IMAGES, "uint8", (images, *self.image_shape))
        words = self._array(name, WORDS, "int32", (None,))
        lengths = self._array(name, LENGTHS, "int32", (captions,))
        index = self._array(name, INDEX, "int64", (captions,))
        known = self._stored or self.vocabulary
        shortest, longest, total = bounds(lengths)
        first, last, _ = bounds(words)
        low, high, _ = bounds(index)
        for part, good in (
            (LENGTHS, shortest > 0 and total == len(words)),
            (LENGTHS, longest <= MAX_WORDS),  # a batch is as wide as its longest caption
            (WORDS, first >= 0 and last < len(known)),
            (INDEX, low >= 0 and high < images),
        ):
            if not good:
                raise DataError(f"{self.folder / f'{name}-{part}'} is damaged: its numbers do not fit the other files")
        text = self.folder / f"{name}-{CAPTIONS}"
        stored = MappedCaptions(text, words, lengths)
        if stored.lines != captions:
            raise DataError(f"{text} must have {counted(captions, 'line')}, one per caption, got {stored.lines:,}")
        split = CaptionedSplit(pixels, index, known, stored)
        return split if known == self.vocabulary else split.reworded(self.vocabulary)

    def _array(self, split: str, part: str, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Returns an array of a file, mapped."""
        path = self.folder / f"{split}-{part}"
        try:
            with reading(path, "damaged"):
                array = load_array(path, mapped=True)
        except (FileNotFoundError, ValueError) as error:
            raise DataError(str(error)) from error
        fits = array.ndim == len(shape) and all(s in (None, got) for s, got in zip(shape, array.shape))
        if array.dtype != dtype or not fits:
            wanted = f"{dtype} [{', '.join('·' if s is None else str(s) for s in shape)}]"
            raise DataError(f"{path} must be {wanted}, got {array.dtype} {list(array.shape)}")
        return array


def _check(path: Path, sha256: str) -> None:
    """Raises DataError where a file has another checksum."""
    if file_checksum(path) != sha256:
        raise DataError(f"{path} is damaged: its checksum is not the manifest's")


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"sizes and counts must be whole numbers of at least 1, got {str(value)[:40]}")
    return value


def file_checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
