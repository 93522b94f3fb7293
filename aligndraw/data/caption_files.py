"""Images with a table of captions: .csv or .tsv with a header, or .jsonl with one object per line.

file_name,caption,split
cats/1.jpg,"a cat, asleep",train

Ambiguous rows are left out; the message names the row and the remedy.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aligndraw.data.captioned import DataError
from aligndraw.data.captioned_writer import caption_error
from aligndraw.data.image_files import Collection, random_split
from aligndraw.data.image_names import ImageNames
from aligndraw.files import read_text
from aligndraw.json_files import parse_json

# The accepted names of columns.
FILE, CAPTION, SPLIT = ("file_name", "file", "image"), ("caption", "captions", "text"), "split"
SEPARATORS = ",;\t"
_IMAGE = re.compile(r"\.(png|jpe?g|gif|bmp|tiff?|webp|p[bgpn]m)$", re.IGNORECASE)

# Line numbers, each with its entry or with a message about its fault.
_Rows = Iterator[tuple[int, "dict[str, Any] | str"]]


def read_captions(
    images: Path, captions: Path, *, validation: int | None = None, test: int | None = None
) -> Collection:
    """Returns the images and captions of a table.

    Args:
        images: the folder that file names are relative to.
        captions: .csv, .tsv or .jsonl; columns or keys `file_name` (or file, image), `caption` (or captions, text; in
            .jsonl also a list of them), and, if the images are divided already, `split`.
        validation: images for validation where there is no split, as for `image_files.random_split`.
        test: images for testing.

    Raises:
        DataError: the file or the folder is missing, or something else.
    """
    names = ImageNames(images)
    if captions.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        raise DataError(f"captions must be in a .csv, .tsv or .jsonl file, got {captions}")
    try:
        text = read_text(captions)
    except OSError as error:
        raise DataError(f"cannot read {captions}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(str(error)) from error
    collection = Collection(files=names.files, likely_cause=names.likely_cause)
    used: set[str] = set()  # splits
    splits: dict[str, str | None] = {}
    lines: dict[str, int] = {}  # the first line of each image
    texts: dict[str, dict[str, str]] = {}  # the captions of each image, by their words

    def skip(line: int, why: str, lost: int = 1) -> None:
        collection.skip(f"{captions.name}, line {line}", why, lost)

    for line, entry in (_jsonl if captions.suffix.lower() == ".jsonl" else _table)(captions, text):
        try:
            if isinstance(entry, str):
                raise ValueError(entry)
            split = _split(entry)
            used.update(filter(None, [split]))
            given, found = _value(entry, FILE), _value(entry, CAPTION)
            name = _found(names, given)
            known = splits.setdefault(name, split)
            if known != split:
                raise ValueError(f"image {name} is in {f'split {known}' if known else 'no split'} already")
        except ValueError as error:
            skip(line, str(error), _count(entry))
            continue
        lines.setdefault(name, line)
        for caption in found if isinstance(found, list) else [found]:
            fault = caption_error(caption)
            if not fault and " ".join(caption.split()) in texts.setdefault(name, {}):
                skip(line, f"image {name} has this caption already", 0)
            elif fault:
                skip(line, fault)
            else:
                texts[name][" ".join(caption.split())] = caption
    if not texts and not collection.skipped:
        raise DataError(f"{captions} has no captions")
    if used:
        parts: dict[str, list[str]] = {}
        for name in sorted(texts, key=lambda name: splits[name] != "train"):
            if split := splits[name]:
                parts.setdefault(split, []).append(name)
            else:
                skip(lines[name], f"image {name} has no split, as others have", len(texts[name]))
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
    filled = [name for name in given if entry[name] not in (None, "", [])]
    if len(filled) > 1:
        raise ValueError(f"it has {' and '.join(filled)}: keep one of them")
    if not filled:
        got = ", ".join(map(str, entry))[:120]
        raise ValueError(f"its {given[0]} is empty" if given else f"it must have {_either(names)}, got {got}")
    return entry[filled[0]]


def _count(entry: dict[str, Any] | str) -> int:
    """Returns the number of captions in an entry, or 1 where it is unknown."""
    texts = [entry[name] for name in CAPTION if name in entry] if isinstance(entry, dict) else []
    return max(1, sum(len(text) if isinstance(text, list) else 1 for text in texts))


def _split(entry: dict[str, Any]) -> str | None:
    split = entry.get(SPLIT)
    if split in (None, ""):
        return None
    if not isinstance(split, str) or not re.fullmatch(r"\w+", split, re.ASCII):
        raise ValueError(f"the split must be a word, got {str(split)[:80]!r}")
    return split.lower()


def _found(names: ImageNames, given: object) -> str:
    try:
        return names.find(given)
    except ValueError as error:
        raise ValueError(f"image {str(given)[:80]}: {error}") from None


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _table(file: Path, text: str) -> _Rows:
    lines = io.StringIO(text, newline="").readlines()
    before = csv.field_size_limit(len(text) + 1)
    row = 1
    try:
        for separator in SEPARATORS:
            reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
            head = [cell.strip().lower() for cell in next(reader, [])]
            if all(set(head) & set(names) for names in (FILE, CAPTION)):
                break
        else:
            head = [cell.strip() for cell in next(csv.reader(lines), [])]
            lacking = next(names for names in (FILE, CAPTION) if not {cell.lower() for cell in head} & set(names))
            got = ", ".join(head)[:120]
            raise DataError(f"{file} must have a column {_either(lacking)} in its head line, got {got!r}")
        for name in (*FILE, *CAPTION, SPLIT):
            if head.count(name) > 1:
                raise DataError(f"{file} must have one column {name}, got several")
        where = next(i for i, name in enumerate(head) if name in FILE)
        row = reader.line_num + 1
        for cells in reader:
            for line in range(row + 1, reader.line_num + 1):
                _check_inner_line(file, row, line, next(csv.reader([lines[line - 1]], delimiter=separator), []), where)
            if any(cell.strip() for cell in cells):
                yield row, _row(head, cells, separator)
            row = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file}, line {row}: its double quotes do not close before the end of a cell: a caption stands in them as "
            'a whole, and a double quote within it is written ""'
        ) from error
    finally:
        csv.field_size_limit(before)


def _row(head: list[str], cells: list[str], separator: str) -> dict[str, Any] | str:
    if len(cells) == len(head):
        return dict(zip(head, (cell.strip() for cell in cells)))
    mend = "a caption with a separator in it must stand in double quotes"
    if len(cells) == 1 and any(other in cells[0] for other in SEPARATORS):
        mend = f"separate its cells by {separator!r}, as the head line does"
    return f"it has {len(cells)} cell{'s' * (len(cells) > 1)} and the head line {len(head)}: {mend}"


def _check_inner_line(file: Path, row: int, line: int, cells: list[str], where: int) -> None:
    """Raises DataError where a later line of a row looks like a row itself: an unclosed quote has swallowed it."""
    if len(cells) > max(1, where) and _IMAGE.search(cells[where].strip()):
        raise DataError(
            f"{file}, line {row}: a double quote opens here and does not close before line {line}, which is a row of "
            f"its own ({cells[where].strip()[:80]}): close it, or leave it out"
        )


def _jsonl(file: Path, text: str) -> _Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = parse_json(line, pairs=_object)
            if not isinstance(entry, dict):
                raise ValueError(f"it is no object but {type(entry).__name__}")
        except ValueError as error:
            yield number, str(error)
            continue
        yield number, entry


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for key, value in pairs:
        if key in entry:
            raise ValueError(f"it has the key {key[:80]!r} twice")
        entry[key] = value
    return entry
