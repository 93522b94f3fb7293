"""Tables of captions as rows, one per entry: .csv, .tsv, .txt or .token, and .jsonl with one object per line.

file_name,caption,split          a head line, then cells between commas, semicolons, tabs or bars
cats/1.jpg,"a cat, asleep",train

cats/1.jpg#0<TAB>a cat, asleep   or no head line, as in Flickr8k.token.txt
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aligndraw.data.captioned import DataError
from aligndraw.data.image_names import is_image
from aligndraw.files import read_text
from aligndraw.json_files import parse_json
from aligndraw.printable import counted

# The accepted names of columns and keys.
FILE = ("file_name", "filename", "file", "image", "image_name")
CAPTION = ("caption", "captions", "text", "prompt", "comment")
SPLIT = "split"
SUFFIXES = (".csv", ".tsv", ".txt", ".token", ".jsonl")
SEPARATORS = ",;\t|"
_NUMBERED = re.compile(r"caption_(\d+)")  # a column per caption of an image
_LINE_END = re.compile(r"\r\n|\r|\n")
_TOKEN = re.compile(r"([^\t]+)#\d+\t(.*)")  # image, caption
_MISSING = ("nan", "NaN")  # a missing value of pandas, written as text

# Line numbers, each with its entry or with a message about its fault.
Rows = Iterator[tuple[int, "dict[str, Any] | str"]]


def read_rows(file: Path) -> Rows:
    """Yields the rows of a table: the line number, and the entry by column or a message about its fault.

    Raises:
        DataError: the file is missing, is no such table, or its quotes do not close.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise DataError(f"captions must be in a {either(SUFFIXES)} file, got {file}")
    text = _text(file)
    if file.suffix.lower() == ".jsonl":
        return _jsonl(text)
    first = next(filter(str.strip, _lines(text)), "")
    return _tokens(text) if _TOKEN.fullmatch(first) else _table(file, text)


def read_caption_lines(file: Path) -> list[tuple[int, str]]:
    """Returns the numbers and the captions of the lines of a text file that are not blank. Raises DataError."""
    return [(number, line.strip()) for number, line in enumerate(_lines(_text(file)), 1) if line.strip()]


def is_table(file: Path) -> bool:
    """Returns whether a file is a table of captions by its name and its head line, or its first line."""
    if file.suffix.lower() not in SUFFIXES:
        return False
    try:
        _, first = next(read_rows(file), (0, ""))
    except DataError:
        return False
    return file.suffix.lower() != ".jsonl" or (isinstance(first, dict) and not lacking(first))


def caption_names(names: Collection[str]) -> list[str]:
    """Returns the names of columns of captions, those with a number last and in its order."""
    numbered = {name: int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))}
    return [*(name for name in CAPTION if name in names), *sorted(numbered, key=lambda name: numbered[name])]


def unread(names: Iterable[str]) -> list[str]:
    """Returns the columns that have no meaning here; one without a name, as pandas writes it, is not among them."""
    known = (*FILE, *CAPTION, SPLIT, "")
    return [name for name in names if name not in known and not _NUMBERED.fullmatch(name)]


def name_fault(names: Iterable[str]) -> str:
    """Returns a message about the first column that is nearly one of the accepted ones, "" where there is none."""
    for name in unread(names):
        bare, digits = re.fullmatch(r"(.*?)s?(\d*)", re.sub(r"[\W_]", "", name)).groups()  # type: ignore[union-attr]
        meant = next((known for known in (*CAPTION, SPLIT, *FILE) if _nearly(bare, known.replace("_", ""))), None)
        if digits and meant is not None:
            meant = f"caption_{int(digits)}" if meant in CAPTION else None
        if meant is not None:
            return f"the column {name[:80]!r} is not read: name it {meant}, or otherwise if it means something else"
    return ""


def either(names: Sequence[str]) -> str:
    """Returns names as "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def lacking(names: Collection[str], before: str = "") -> str:
    """Returns the names of which a table or an object must have one of each kind, and has none; "" where it has.

    Args:
        before: stands before the names of each kind.
    """
    return " and ".join(f"{before}{either(kind)}" for kind in _lacking_kinds(names))


def nearest(names: Collection[str]) -> str:
    """Returns the end of a message about lacking names: the nearest to those that stand there, if any is near."""
    near = [
        max(found)[1]
        for kind in _lacking_kinds(names)
        if (found := [(_likeness(name, known), known) for name in unread(names) for known in kind])
        and max(found)[0] > 0.6
    ]
    return f": did you mean {' and '.join(near)}?" if near else ""


def _lacking_kinds(names: Collection[str]) -> list[tuple[str, ...]]:
    has_file, has_caption = not set(names).isdisjoint(FILE), bool(caption_names(names))
    return [kind for kind, has in ((FILE, has_file), ((*CAPTION, "caption_0"), has_caption)) if not has]


def _likeness(name: str, known: str) -> float:
    return difflib.SequenceMatcher(None, name[:80], known).ratio()


def _nearly(name: str, known: str) -> bool:
    """Returns whether a name is a known one, maybe with a typing error: a letter more, less or other, or two exchanged.

    A short name with an error may be another word, such as test for text.
    """
    if name == known or len(known) < 5:
        return name == known
    start = len(os.path.commonprefix([name, known]))
    name, known = name[start:], known[start:]
    end = len(os.path.commonprefix([name[::-1], known[::-1]]))
    name, known = name[: len(name) - end], known[: len(known) - end]
    return max(len(name), len(known)) <= 1 or (len(name) == 2 and name == known[::-1])


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(str(error)) from error


def _lines(text: str) -> list[str]:
    return _LINE_END.split(text)


def _tokens(text: str) -> Rows:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        match = _TOKEN.fullmatch(line)
        if match:
            yield number, {"image": match[1].strip(), "caption": match[2].strip()}
        else:
            yield number, "it must be an image, # and a number, a tab and a caption, as the first line is"


def _table(file: Path, text: str) -> Rows:
    lines = io.StringIO(text, newline="").readlines()
    before = csv.field_size_limit(len(text) + 1)
    row = 1
    try:
        for separator in SEPARATORS:
            reader = _reader(lines, separator)
            try:
                head = [cell.lower() for cell in _head(reader)]
            except csv.Error:  # quotes around cells, which another separator may divide
                if not any(_closes(lines, other) for other in SEPARATORS):
                    raise
                continue
            if not lacking(head):
                break
        else:
            head = max((_head(csv.reader(lines, delimiter=separator)) for separator in SEPARATORS), key=len)
            names, got = [cell.lower() for cell in head], ", ".join(head)[:120]
            raise DataError(
                f"{file} must have {lacking(names, 'a column ')} in its head line, got {got!r}{nearest(names)}"
            )
        for name in (*FILE, *caption_names(head), SPLIT):
            if head.count(name) > 1:
                raise DataError(f"{file} must have one column {name}, got several")
        if fault := name_fault(head):
            raise DataError(f"{file}: {fault}")
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


def _head(reader: Iterable[list[str]]) -> list[str]:
    """Returns the cells of the first line that is not blank."""
    filled = (cells for cells in reader if any(cell.strip() for cell in cells))
    return [cell.strip() for cell in next(filled, [])]


def _closes(lines: list[str], separator: str) -> bool:
    """Returns whether the double quotes of the head line close before the end of a cell."""
    with suppress(csv.Error):
        return bool(_head(_reader(lines, separator)))
    return False


def _reader(lines: list[str], separator: str) -> Any:
    """Returns a reader of cells.

    Tables with bars have a space before each caption and no quotes around it: a quote after the space is the caption's.
    """
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator != "|", strict=True)


def _row(head: list[str], cells: list[str], separator: str) -> dict[str, Any] | str:
    if len(cells) == len(head):
        return {name: "" if cell.strip() in _MISSING else cell.strip() for name, cell in zip(head, cells)}
    mend = "a caption with a separator in it must stand in double quotes"
    if len(cells) == 1 and any(other in cells[0] for other in SEPARATORS):
        mend = f"separate its cells by {separator!r}, as the head line does"
    return f"it has {counted(len(cells), 'cell')} and the head line {len(head)}: {mend}"


def _check_inner_line(file: Path, row: int, line: int, cells: list[str], where: int) -> None:
    """Raises DataError where a later line of a row looks like a row itself: an unclosed quote has swallowed it."""
    if len(cells) > max(1, where) and is_image(cells[where].strip()):
        raise DataError(
            f"{file}, line {row}: a double quote opens here and does not close before line {line}, which is a row of "
            f"its own ({cells[where].strip()[:80]}): close it, or leave it out"
        )


def _jsonl(text: str) -> Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = parse_json(line, pairs=_object)
            if not isinstance(entry, dict):
                raise ValueError(f"it is no object but {type(entry).__name__}")
            entry = _object([(key.strip().lower(), value) for key, value in entry.items()])
            if not lacking(entry) and (fault := name_fault(entry)):
                raise ValueError(fault)
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
