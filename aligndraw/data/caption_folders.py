"""Folders of images with captions: tables metadata.csv or metadata.jsonl at any depth, else a text file per image.

A table holds for its folder and all folders below. A text file counts where no table holds. The folders of an image
tell its split (`split_of_folders`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from aligndraw.data.caption_tables import FILE, SPLIT, is_table, read_caption_lines, read_rows
from aligndraw.data.captioned import DataError
from aligndraw.data.image_names import is_image, safe_name

# The place of an entry, with the entry by column or a message about its fault.
Entries = Iterator[tuple[str, "dict[str, Any] | str"]]

METADATA = ("metadata.csv", "metadata.jsonl")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_of_folders(name: object) -> str | None:
    """Returns the split that the outermost folder with a split's word in its name tells: "train" for train2014/1.jpg.

    None where no folder of the image name tells one.
    """
    try:
        folders = PurePosixPath(safe_name(name)).parts[:-1]
    except ValueError:
        return None
    for folder in folders:
        told = {SPLITS[word] for word in re.findall("[a-z]+", folder.lower()) if word in SPLITS}
        if len(told) == 1:
            return told.pop()
    return None


def folder_entries(folder: Path, images: Path) -> Entries:
    """Returns the captions of a folder as entries whose file names are relative to it, and faults.

    Images without a caption are among the faults.

    Raises:
        DataError: there are no captions, also of a split that has images; or a folder has both kinds of tables.
    """
    files = _files(folder)
    pictures = [name for name in (files if images == folder else _files(images)) if is_image(name)]
    tables = [name for name in files if PurePosixPath(name).name in METADATA]
    held: set[PurePosixPath] = set()  # the folders of tables
    for place in (PurePosixPath(name).parent for name in tables):
        if place in held:
            raise DataError(f"{folder / place} must have one of {' and '.join(METADATA)}, got both")
        held.add(place)

    def is_free(name: str) -> bool:
        """Returns whether no table holds for a file."""
        return held.isdisjoint(PurePosixPath(name).parents)

    texts = [name for name in files if name.endswith(".txt") and is_free(name)]
    stems = {_stem(name) for name in pictures}
    if not tables and not any(_stem(name) in stems for name in texts):
        unnamed = _unnamed_table(folder, files)
        if unnamed or not texts:
            raise DataError(
                f"{folder} must have captions: {METADATA[0]}, {METADATA[1]} or a .txt per image; or name a table of "
                "them with --captions" + (f", as {unnamed} seems to be" if unnamed else "")
            )
    return _checked(
        _all_entries(folder, images, tables, texts, pictures, [name for name in pictures if is_free(name)]),
        folder,
        images,
        pictures,
    )


def _files(folder: Path) -> list[str]:
    """Returns the names of all files below a folder in order, relative to it; a folder with two names comes once."""
    found, seen = [], {os.path.realpath(folder)}
    for place, inner, files in os.walk(folder, followlinks=True):
        # By its real path, so that a link to a folder above ends, too.
        real = {os.path.realpath(os.path.join(place, name)): name for name in sorted(inner, reverse=True)}
        inner[:] = sorted(name for path, name in real.items() if path not in seen)
        seen.update(real)
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in files]
    return sorted(found)


def _unnamed_table(folder: Path, names: list[str]) -> Path | None:
    """Returns the first file that is a table of captions with another name than `METADATA`."""
    tables = (folder / name for name in names if PurePosixPath(name).name not in METADATA)
    return next(filter(is_table, tables), None)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _all_entries(
    folder: Path, images: Path, tables: list[str], texts: list[str], pictures: list[str], free: list[str]
) -> Entries:
    yielded: set[str] = set()
    for table in tables:
        for where, entry in _table_entries(table, folder):
            if isinstance(entry, dict):
                yielded.update(_names(entry))
            yield where, entry
    yield from _text_entries(texts, folder, images, free)
    for name in sorted({*pictures} - {*free} - yielded):
        yield f"image {name}", "no row of a table names it"


def _checked(entries: Entries, folder: Path, images: Path, pictures: list[str]) -> Entries:
    """Yields the entries; raises DataError where folders divide the images, and those of a split have no captions."""
    captioned: set[str] = set()
    stated = False  # whether an entry states a split itself
    for where, entry in entries:
        if isinstance(entry, dict):
            stated = stated or bool(entry.get(SPLIT))
            captioned.update(filter(None, map(split_of_folders, _names(entry))))
        yield where, entry
    for name in pictures if captioned and not stated else ():
        if (split := split_of_folders(name)) and split not in captioned:
            place = PurePosixPath(name).parent
            raise DataError(
                f"{images / place} has images but no captions: put {METADATA[0]}, {METADATA[1]} or a .txt per image "
                f"into {folder / place}, or move the images elsewhere"
            )


def _names(entry: dict[str, Any]) -> Iterator[str]:
    """Yields the image names of an entry in their canonical spelling."""
    for column in FILE:
        try:
            yield safe_name(entry.get(column))
        except ValueError:
            continue


def _table_entries(table: str, folder: Path) -> Entries:
    """Yields the rows of a table, with file names relative to the folder."""
    inside = PurePosixPath(table).parent
    for line, entry in read_rows(folder / table):
        if isinstance(entry, dict) and inside.name:
            moved = {k: f"{inside}/{v}" for k, v in entry.items() if k in FILE and v and isinstance(v, str)}
            entry = {**entry, **moved}
        yield f"{table}, line {line}", entry


def _text_entries(texts: list[str], folder: Path, images: Path, pictures: list[str]) -> Entries:
    """Yields the lines of text files, each of the image with the same name; and images without a text file."""
    by_stem: dict[str, list[str]] = {}
    for name in pictures:
        by_stem.setdefault(_stem(name), []).append(name)
    for where in texts:
        found = by_stem.pop(_stem(where), [])
        lines = read_caption_lines(folder / where)
        if not found:
            hint = ": it seems to be a table, so name it with --captions" if is_table(folder / where) else ""
            yield where, f"there is no image {_stem(where)} in {images}{hint}"
        elif len(found) > 1:
            yield where, f"it belongs to {' and '.join(found)}: keep one of them"
        elif not lines:
            yield where, "it has no caption"
        for line, caption in lines if len(found) == 1 else ():
            yield f"{where}, line {line}", {"image": found[0], "caption": caption}
    for stem, found in by_stem.items():
        for name in found:
            yield f"image {name}", f"there is no {stem}.txt in {folder}"
