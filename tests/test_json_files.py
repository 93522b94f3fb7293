"""JSON of any kind: a value, or one line that says why not."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligndraw.json_files import DEPTH, FAULTS, entry, naming, parse_json, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_written_is_read(value):
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"a": 1', "Expecting"),
        (b"\xff{}", "it must be UTF-8 text: save it as such"),
        (b'{"a": "caf\xe9"}', "it must be UTF-8 text: save it as such"),
        ("[NaN]", "its numbers must be finite, got NaN"),
        ("-Infinity", "its numbers must be finite, got -Infinity"),
        ('{"a": [1e999]}', "its numbers must be finite, got 1e999"),
        ("1" * 5000, "its whole numbers must have at most 40 digits, got 5000"),
        ('{"a": [{"b": 1, "c": 2, "b": 1}]}', "an object has the key 'b' twice"),
        *((f"{'[' * n}{']' * n}", "nested too deeply") for n in (DEPTH + 1, 990, 100_000)),
        *(('{"a":' * n + "1" + "}" * n, "nested too deeply") for n in (DEPTH + 1, 990, 100_000)),
        ("[" * 100_000, "nested too deeply|Expecting value"),
    ],
)
def test_what_is_refused(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="a.json is no list: .") as caught:
        with naming(tmp_path / "a.json", "no list"):
            read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_depth():
    assert parse_json("[" * (DEPTH - 1) + "1" + "]" * (DEPTH - 1)) and parse_json("[" * DEPTH + "]" * DEPTH)


def test_every_fault_names_the_file(tmp_path):
    for kind in (*FAULTS, KeyError, IndexError, UnicodeError):
        error = kind("utf-8", b"", 0, 1, "a\nb") if kind is UnicodeDecodeError else kind("a\nb")
        with pytest.raises(ValueError, match=r"x.json is wrong: \S.*") as caught, naming(tmp_path / "x.json", "wrong"):
            raise error
        assert "\n" not in str(caught.value).replace(r"\n", "")
    with pytest.raises(FileNotFoundError), naming(tmp_path / "x.json", "wrong"):
        read_json(tmp_path / "x.json")


RECORD = {"a": 1, "b": 1.5, "c": True, "d": None, "e": "x", "f": [1], "g": {}}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("a", [int]), ("a", [float]), ("b", [float]), ("c", [bool]), ("d", [str, type(None)]), ("e", [str])],
)
def test_entries(name, kinds):
    assert entry(RECORD, name, *kinds) is RECORD[name]
    assert math.isnan(entry(RECORD, "z", *kinds, default=math.nan))


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("z", [int], "'z' is missing"),
        ("b", [int], "'b' must be a whole number, got 1.5"),
        ("c", [int], "'c' must be a whole number, got true"),
        ("c", [float], "'c' must be a number, got true"),
        ("d", [str], "'d' must be text, got null"),
        ("f", [str, type(None)], "'f' must be text or null, got a list"),
        ("g", [list], "'g' must be a list, got an object"),
    ],
)
def test_wrong_entries(name, kinds, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        entry(RECORD, name, *kinds)
    with pytest.raises(ValueError, match="^it must be an object, got a list$"):
        entry([RECORD], name, *kinds, default=1)
