"""What may be wrong with a JSON file, one fault after the other."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEXTS = (
    *(b"", b"{", b"[]", b"7", b"null", b'"x"', b"NaN", b"\xff\xfe", b"\0" * 99),
    *(b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900),
)
VALUES = (None, True, -1, 0.5, 10**30, "x", [], {}, [[1]], {"a": 1})


def faults(path: Path) -> Iterator[str]:
    """Puts another content in place of the file, each time around; says which, and restores the file at the end."""
    whole = path.read_bytes()
    record = json.loads(whole)
    for text in TEXTS:
        path.write_bytes(text)
        yield repr(text[:20])
    for place in _places(record):
        *outer, last = place
        for value in ("nothing", *VALUES):
            changed = copy.deepcopy(record)
            inner = changed
            for key in outer:
                inner = inner[key]
            if value == "nothing":
                del inner[last]
            else:
                inner[last] = value
            path.write_text(json.dumps(changed))
            yield f"{'/'.join(map(str, place))}: {value!r}"
        path.write_text(json.dumps(record).replace(json.dumps(_at(record, place)), "Infinity", 1))
        yield f"{'/'.join(map(str, place))}: Infinity"
    path.write_bytes(whole)


def _at(record: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        record = record[key]
    return record


def _places(record: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each key of an object, and the first entry of a list."""
    entries = record.items() if isinstance(record, dict) else enumerate(record[:1]) if isinstance(record, list) else ()
    for key, value in entries:
        yield (*place, key)
        yield from _places(value, (*place, key))
