"""Any images with a table of captions: .csv with a head line, or .jsonl with an object a line.

file_name,caption,split
cats/1.jpg,"a cat, asleep",train
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aligndraw.data.captioned import DataError
from aligndraw.data.captioned_writer import caption_fault
from aligndraw.data.image_files import Collection, divide
from aligndraw.data.image_names import check_folder, safe_name

# The names that a column may have.
FILE, CAPTION, SPLIT = ("file_name", "file", "image"), ("caption", "captions", "text"), ("split",)


def read_captions(
    images: Path, captions: Path, *, validation: int | None = None, test: int | None = None
) -> Collection:
    """What a table tells of images.

    Args:
        images: the folder that the file names begin in.
        captions: .csv or .jsonl; columns or keys `file_name` (or file, image), `caption` (or captions, text; in .jsonl
            also a list of them), and, if the images are divided already, `split`.
        validation: images for validation where there is no split, as for `image_files.divide`.
        test: images for testing.

    Raises:
        DataError: the file or the folder is missing, or something else.
    """
    check_folder(images)
    if captions.suffix not in (".csv", ".jsonl"):
        raise DataError(f"captions must be in a .csv or a .jsonl file, got {captions}")
    try:
        text = captions.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {captions}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{captions} must be UTF-8 text: {error}") from error
    collection = Collection()
    splits: dict[str, str | None] = {}
    said: dict[str, list[str]] = {}
    for line, entry in (_csv if captions.suffix == ".csv" else _jsonl)(captions, text, collection):
        what = f"{captions.name}, line {line}"
        name, texts, split = (_value(entry, names) for names in (FILE, CAPTION, SPLIT))
        try:
            if safe_name(name) not in said and not (images / name).is_file():
                raise ValueError(f"there is no such file in {images}")
        except ValueError as error:
            collection.skipped.append(f"{what}: image {str(name)[:80]}: {error}")
            continue
        if split is not None and not (isinstance(split, str) and re.fullmatch(r"\w+", split, re.ASCII)):
            collection.skipped.append(f"{what}: the split must be a word, got {str(split)[:80]!r}")
            continue
        if splits.setdefault(name, split) != split:
            collection.skipped.append(f"{what}: image {name} is in split {splits[name]} already")
            continue
        collection.files[name] = images / name
        for caption in texts if isinstance(texts, list) else [texts]:
            fault = caption_fault(caption)
            if fault:
                collection.skipped.append(f"{what}: {fault}")
            else:
                said.setdefault(name, []).append(str(caption))
    if set(splits.values()) <= {None}:
        parts = divide(list(said), validation, test)
    else:
        parts = {}
        for name in sorted(said, key=lambda name: splits[name] != "train"):
            parts.setdefault(splits[name] or "train", []).append(name)
    collection.captions = {split: [(n, text) for n in names for text in said[n]] for split, names in parts.items()}
    return collection


def _value(entry: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((entry[name] for name in names if entry.get(name) not in (None, "")), None)


def _csv(file: Path, text: str, collection: Collection) -> Iterator[tuple[int, dict[str, Any]]]:
    before = csv.field_size_limit(len(text) + 1)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        for names in (FILE, CAPTION):
            if not set(names) & set(reader.fieldnames or ()):
                got = ", ".join(reader.fieldnames or ())[:120]
                raise DataError(f"{file} must have a column {' or '.join(names)} in its head line, got {got!r}")
        for entry in reader:
            yield reader.line_num, entry
    except csv.Error as error:
        raise DataError(f"{file} must be comma-separated values: {error}") from error
    finally:
        csv.field_size_limit(before)


def _jsonl(file: Path, text: str, collection: Collection) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError(f"it is no object but {type(entry).__name__}")
        except (ValueError, RecursionError) as error:
            collection.skipped.append(f"{file.name}, line {number}: {error}")
            continue
        yield number, entry
