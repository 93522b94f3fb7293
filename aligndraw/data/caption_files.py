"""Images with captions: a table of both, an image folder with such tables, or a text file per image.

The forms of tables stand in `aligndraw.data.caption_tables`. Ambiguous rows are left out; the message names the row and
the remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aligndraw.arguments import check_path
from aligndraw.data.caption_folders import SPLITS, folder_entries, split_of_folders
from aligndraw.data.caption_tables import CAPTION, FILE, SPLIT, caption_names, lacking, nearest, read_rows, unread
from aligndraw.data.captioned import DataError
from aligndraw.data.captioned_writer import caption_error
from aligndraw.data.image_files import Collection, random_split
from aligndraw.data.image_names import ImageNames

_EMPTY: tuple[Any, ...] = (None, "", [])  # values of an entry that stand for none


def read_captions(
    images: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
    *,
    validation: int | None = None,
    test: int | None = None,
) -> Collection:
    """Returns images and their captions.

    Args:
        images: the folder that file names are relative to.
        captions: a table, whose columns or keys are `file_name` (or filename, file, image, image_name), `caption` (or
            captions, text, prompt, comment; in .jsonl also a list of them; or caption_0, caption_1, ...), and, if the
            images are divided already, `split`. Or a folder with tables metadata.csv or metadata.jsonl at any depth,
            whose file names are relative to the table, or with a .txt per image, one caption per line. None for
            `images`.
        validation: images for validation, as for `image_files.random_split`; only where there is no split, neither in
            a column `split` nor by the name of a folder (`split_of_folders`).
        test: images for testing, likewise.

    Raises:
        DataError: the file or the folder is missing, or something else; or the folders of some images tell a split, but
            not those of others; or the images are divided already, and `validation` or `test` is given.
    """
    images = check_path("images", images)
    names = ImageNames(images)
    captions = images if captions is None else check_path("captions", captions)
    if captions.is_dir():
        entries = folder_entries(captions, images)
    else:
        entries = ((f"{captions.name}, line {line}", entry) for line, entry in read_rows(captions))
    collection = Collection(files=names.files, likely_cause=names.likely_cause)
    used: set[str] = set()  # splits
    stated = False  # whether an entry states a split itself
    splits: dict[str, str | None] = {}
    places: dict[str, str] = {}  # the first entry of each image
    texts: dict[str, dict[str, str]] = {}  # the captions of each image, by their words

    for where, entry in entries:
        try:
            if isinstance(entry, str):
                raise ValueError(entry)
            collection.unread += (name for name in unread(entry) if name not in collection.unread)
            given = _value(entry, FILE)
            split = _split(entry)
            stated = stated or split is not None
            split = split or split_of_folders(given)
            used.update(filter(None, [split]))
            found = captions_of(entry)
            name = _found(names, given)
            known = splits.setdefault(name, split)
            if known != split:
                raise ValueError(f"image {name} is in {f'split {known}' if known else 'no split'} already")
        except ValueError as error:
            collection.skip(where, str(error), _count(entry))
            continue
        places.setdefault(name, where)
        for caption in found:
            fault = caption_error(caption)
            if not fault and " ".join(caption.split()) in texts.setdefault(name, {}):
                collection.skip(where, f"image {name} has this caption already")
            elif fault:
                collection.skip(where, fault, 1)
            else:
                texts[name][" ".join(caption.split())] = caption
    if not texts and not collection.skipped:
        raise DataError(f"{captions} has no captions")
    if used:
        sizes = [name for name, size in (("validation", validation), ("test", test)) if size is not None]
        if sizes:
            raise DataError(
                f"{captions}: its images are divided already, into {' and '.join(sorted(used))}: leave out "
                f"{' and '.join(f'--{name}' for name in sizes)}, which divides images at random"
            )
        if not stated:
            _check_divided(images, splits)
        parts: dict[str, list[str]] = {}
        for name in sorted(texts, key=lambda name: splits[name] != "train"):
            if split := splits[name]:
                parts.setdefault(split, []).append(name)
            else:
                collection.skip(places[name], f"image {name} has no split, as others have", len(texts[name]))
        for split in sorted(used):
            if not any(texts[name] for name in parts.get(split, ())):
                raise DataError(f"{captions} has no caption of split {split} that can be used{collection.example()}")
    else:
        parts = random_split([name for name in texts if texts[name]], validation, test)
    collection.captions = {
        split: [(name, text) for name in names for text in texts[name].values()] for split, names in parts.items()
    }
    return collection


def _value(entry: dict[str, Any], names: Sequence[str]) -> Any:
    """Returns the value of an entry under one of these names."""
    given = [name for name in names if name in entry]
    filled = [name for name in given if entry[name] not in _EMPTY]
    if len(filled) > 1:
        raise ValueError(f"it has {' and '.join(filled)}: keep one of them")
    if not filled:
        got = ", ".join(map(str, entry))[:120]
        needed = f"it must have {lacking(entry)}, got {got}{nearest(entry)}"
        raise ValueError(f"its {given[0]} is empty" if given else needed)
    return entry[filled[0]]


def captions_of(entry: dict[str, Any]) -> list[Any]:
    """Returns the captions of an entry: one, a list, or those of numbered columns."""
    numbered = {name: entry[name] for name in caption_names(entry) if name not in CAPTION}
    filled = [text for text in numbered.values() if text not in _EMPTY]
    if filled and all(entry.get(name) in _EMPTY for name in CAPTION):
        return filled
    found = _value(entry, caption_names(entry))
    return found if isinstance(found, list) else [found]


def _count(entry: dict[str, Any] | str) -> int:
    """Returns the number of captions in an entry, or 1 where it is unknown."""
    texts = [entry[name] for name in caption_names(entry)] if isinstance(entry, dict) else []
    texts = [text for text in texts if text not in _EMPTY]
    return max(1, sum(len(text) if isinstance(text, list) else 1 for text in texts))


def _split(entry: dict[str, Any]) -> str | None:
    split = entry.get(SPLIT)
    if split in (None, ""):
        return None
    if not isinstance(split, str) or not re.fullmatch(r"\w+", split, re.ASCII):
        raise ValueError(f"the split must be a word, got {str(split)[:80]!r}")
    return SPLITS.get(split.lower(), split.lower())


def _check_divided(images: Path, splits: dict[str, str | None]) -> None:
    """Raises DataError where the folders of some images tell a split, but not those of others."""
    known = next((name for name, split in splits.items() if split), None)
    for name, split in splits.items():
        if known and not split:
            raise DataError(
                f"{(images / name).parent} tells no split of its images, as {(images / known).parent} does "
                f"({splits[known]}): rename the folder train, validation or test, or give every image its split in a "
                "column split"
            )


def _found(names: ImageNames, given: object) -> str:
    try:
        return names.find(given)
    except ValueError as error:
        raise ValueError(f"image {str(given)[:80]}: {error}") from None
