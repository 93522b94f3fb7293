"""The data that the authors of alignDRAW released with their code: NumPy arrays and Python 2 pickles.

train-images-32x32.npy   [n, 3072] in [0, 1], the channels red, green and blue one after the other
train-captions.npy       [k, N], word ids, valid up to the length of each caption
train-captions-len.npy   [k] or [k, 1]
train-cap2im.pkl         {caption: image}
dictionary.pkl           {word: id}

and the first four for dev and test. A pickle may hold plain dictionaries, lists, words and numbers; anything else is
refused before it is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.captioned_writer import CaptionedWriter
from aligndraw.data.pickles import load_pickle
from aligndraw.files import load_array, reading
from aligndraw.printable import counted
from aligndraw.text import MAX_WORDS, UNKNOWN, Vocabulary, text_fault

SPLITS = {"train": "train", "dev": "validation", "test": "test"}
SIDE, CHUNK_SIZE = 32, 4096


def store_released(
    source: Path,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    on_images: Callable[[int], object] = lambda images: None,
) -> CaptionedImages:
    """Stores the released arrays as captioned images, with the released word ids.

    Args:
        source: the folder with the files; dev and test are left out where they have no file.
        folder: where to.
        overwrite: replaces captioned images in the folder.
        on_images: called with the number of images just done.

    Raises:
        DataError: a file is missing, damaged or foreign, or the folder is taken.
        OSError: it cannot be written.
    """
    vocabulary = _vocabulary(source / "dictionary.pkl")
    if not (source / "train-images-32x32.npy").is_file():
        raise DataError(f"there are no released images in {source}: it has no train-images-32x32.npy")
    present = [name for name in SPLITS if name == "train" or any(source.glob(f"{name}-*"))]
    ids = {word: i for i, word in enumerate(vocabulary.words)}
    with CaptionedWriter(folder, (3, SIDE, SIDE), {"kind": "released"}, overwrite=overwrite) as writer:
        captions = {}
        for name in present:
            images = _load(source / f"{name}-images-32x32.npy", "f", (None, 3 * SIDE * SIDE))
            for start in range(0, len(images), CHUNK_SIZE):
                part = images[start : start + CHUNK_SIZE]
                if not (part.min() >= 0 and part.max() <= 1):
                    raise DataError(f"{source / f'{name}-images-32x32.npy'} must lie in [0, 1]")
                pixels = np.rint(part * 255).astype(np.uint8).reshape(-1, 3, SIDE, SIDE)
                writer.store(SPLITS[name], [str(start + i) for i in range(len(part))], pixels)
                on_images(len(part))
            captions[SPLITS[name]] = _captions(source, name, len(images), vocabulary)
        return writer.finish(
            captions, vocabulary=vocabulary, encode=lambda text: [ids[word] for word in text.split(" ")]
        )


def _vocabulary(path: Path) -> Vocabulary:
    """Returns the words in the order of their ids; an id without a word gets one that no caption has."""
    dictionary = load_pickle(path)
    if not isinstance(dictionary, dict) or not dictionary:
        raise DataError(f"{path} must hold a dictionary from words to ids, got {type(dictionary).__name__}")
    words: dict[int, str] = {}
    for word, number in dictionary.items():
        if not isinstance(word, str) or type(number) is not int or not 0 <= number < 10**6:
            raise DataError(
                f"{path} must hold words with ids of at least 0, got {str(word)[:40]!r}: {str(number)[:40]!r}"
            )
        if fault := text_fault(word):
            raise DataError(f"{path}: the word {word[:40]!r} {fault}")
        if number in words:
            raise DataError(f"{path} must give each word an id of its own, got {number} twice")
        words[number] = UNKNOWN if word == "UNK" else word
    try:
        return Vocabulary(tuple(words.get(i, f"[{i}]") for i in range(max(words) + 1)))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _captions(source: Path, name: str, images: int, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Returns pairs of an image and a caption of a split."""
    ids = _load_whole(source / f"{name}-captions.npy", (None, None))
    lengths = _load_whole(source / f"{name}-captions-len.npy", None).reshape(-1)
    image_of = load_pickle(source / f"{name}-cap2im.pkl")
    longest = min(ids.shape[1], MAX_WORDS)
    if not len(ids):
        raise DataError(f"{source / f'{name}-captions.npy'} must hold at least one caption")
    if len(lengths) != len(ids) or not ((lengths >= 1) & (lengths <= longest)).all():
        raise DataError(f"{source / f'{name}-captions-len.npy'} must hold {counted(len(ids), 'length')} in 1…{longest}")
    if not ((ids >= 0) & (ids < len(vocabulary))).all():
        raise DataError(f"{source / f'{name}-captions.npy'} must hold ids in 0…{len(vocabulary) - 1}")
    where = image_of if isinstance(image_of, dict) else {}
    pairs = []
    for i, (row, length) in enumerate(zip(ids, lengths)):
        image = where.get(i)
        if type(image) is not int or not 0 <= image < images:
            wanted = f"give caption {i} one of {counted(images, 'image')}"
            raise DataError(f"{source / f'{name}-cap2im.pkl'} must {wanted}, got {str(image)[:40]}")
        caption = vocabulary.decode(row[:length])
        if fault := text_fault(caption):
            raise DataError(f"{source / f'{name}-captions.npy'}: caption {i} {fault}")
        pairs.append((str(image), caption))
    return pairs


def _load_whole(path: Path, shape: tuple[int | None, ...] | None) -> NDArray[np.int64]:
    """Returns an array of whole numbers, which may be stored as floats."""
    array = np.asarray(_load(path, "iuf", shape))
    if not (np.abs(array) < 2**31).all() or (array % 1).any():
        raise DataError(f"{path} must hold whole numbers of ids or lengths")
    return array.astype(np.int64)


def _load(path: Path, kinds: str, shape: tuple[int | None, ...] | None) -> NDArray[Any]:
    """Returns an array of numbers, memory-mapped."""
    try:
        with reading(path, "no NumPy array"):
            array = load_array(path, mapped=True)
    except FileNotFoundError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(str(error)) from error
    fits = shape is None or (array.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, array.shape)))
    if array.dtype.kind not in kinds or not fits:
        wanted = "" if shape is None else f" [{', '.join('·' if s is None else str(s) for s in shape)}]"
        raise DataError(f"{path} must be an array of numbers{wanted}, got {array.dtype} {list(array.shape)}")
    return array
