"""Names and captions of the outside world on a terminal: nothing in them is obeyed."""

import ast
import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aligndraw
from aligndraw.cli import main
from aligndraw.printable import counted, escape, one_line
from aligndraw.text import CaptionError, Vocabulary

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
OBEYED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")
HOSTILE = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202egnp.exe\u2066\x85\rb\x00\x7f"


def test_controls_are_escaped():
    for character in map(chr, range(0x110000)):
        kind = unicodedata.category(character)
        obeyed = kind in ("Cc", "Cs", "Zl", "Zp") or character in BIDI
        shown = escape(character)
        assert (shown != character) == obeyed or character == "\ufeff", ascii(character)
        assert shown.isprintable() or not obeyed
    assert escape("\x1b[1m\n\x9b\u202e") == r"\x1b[1m\n\x9b\u202e"
    assert escape(os.fsdecode(b"caf\xe9\xff")) == r"caf\xe9\xff"  # the bytes of a name that is no UTF-8
    assert escape("\ud83d") == r"\ud83d"


@pytest.mark.parametrize("text", ["हिन्दी क्\u200dष", "می\u200cخواهم", "👩\u200d👧 ❤\ufe0f", "a b\u00a0c", "C:\\x"])
def test_words_are_left_as_they_are(text):
    assert escape(text) == text and one_line(text) == text.replace("\u00a0", " ")


def test_one_line():
    assert one_line("  a\n b\x1b[m\t\u2028c ") == r"a b\x1b[m c"


def test_error_messages_about_captions():
    with pytest.raises(CaptionError) as caught:
        Vocabulary(("a", "\x9bb")).encode(HOSTILE)
    assert not OBEYED.search(str(caught.value)) and "\n" not in str(caught.value)
    with pytest.raises(CaptionError) as caught:
        Vocabulary(("a",)).index(HOSTILE)
    assert not OBEYED.search(str(caught.value))


def test_commands_print_by_one_function():
    """A bare `print` would let escapes through."""
    for path in (Path(aligndraw.__file__).parent / "cli").rglob("*.py"):
        calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        bare = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not bare or path.name == "telling.py", f"{path}: lines {bare}"


@pytest.fixture
def told(capfd):
    """Runs a command; returns its status and all that it printed, which must not be obeyed."""

    def run(*arguments):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = end.code
        printed = "".join(capfd.readouterr())
        assert not OBEYED.search(printed), ascii(printed)
        return status, printed

    return run


def test_names_and_captions_of_a_data_set(told, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    good = [f"{i}\x1b[7m\u202e.png" for i in range(4)]
    for name in good:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(images / name)
    (images / "bad\x9b.png").write_bytes(b"nothing")
    splits = ("train", "train", "validation", "test")
    lines = [{"file_name": n, "caption": "a \x1b[31mred\u202e bus .", "split": s} for n, s in zip(good, splits)]
    names = (HOSTILE.replace("\0", ""), "bad\x9b.png", "x\n\x1by.png")
    lines += [{"file_name": name, "caption": "a", "split": "train"} for name in names]
    lines.append({"file_name": good[0], "caption": " ", "split": "train"})
    lines.append({"file_name": good[1], "caption": "a", "split": HOSTILE})
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "o\x1bu\u202et"
    given = ("--images", images, "--captions", tmp_path / "c.jsonl", "--allow-skipped", 1)
    status, printed = told("data", "folder", *given, "--out", out)
    assert "skipped: " in printed and r"\x1b" in printed and r"\u202e" in printed, (status, printed)
    for path in out.glob("skipped.txt"):
        text = path.read_text(encoding="utf-8")
        assert not OBEYED.search(text) and len(text.splitlines()) == text.count("\n") and r"\x9b" in text


def test_errors_that_name_a_file(told, tmp_path):
    for place in (f"no\x1b[2J{BIDI}", "no\n\x9bsuch", os.fsdecode(b"no\xff")):
        for command in (
            ("sample", "a", "--model", tmp_path / place),
            ("train", "mnist", "--resume", "--out", tmp_path / place),
            ("sample", "--captions-file", tmp_path / place, "-o", tmp_path / "x.npz"),
            ("train", "captioned", "--data", tmp_path / place),
            ("sample", "a", f"--{place}"),
            (place,),
        ):
            status, printed = told(*command)
            assert status in (1, 2) and printed.startswith("aligndraw: error: ") and printed.count("\n") == 1, printed
            assert "\\" in printed


def test_captions_that_a_model_does_not_know(told, tmp_path):
    status, printed = told("sample", HOSTILE.replace("\0", ""), "-o", tmp_path / "x.png")
    _, harmless = told("sample", "zebra", "-o", tmp_path / "x.png")
    assert status == 2 and r"\x1b" in printed and "\x1b" not in printed
    assert printed.count("\n") == harmless.count("\n")


NOUNS = (
    "batches|bits|bytes|captions|cells|channels|classes|colours|columns|CPUs|digits|dimensions|drawings|epochs|fields|"
    "files|folders|images|lengths|letters|lines|models|nats|numbers|parts|pictures|pixels|points|processes|rows|"
    "samples|seconds|sentences|shards|steps|tensors|threads|times|tokens|triples|updates|values|vectors|words"
)
KINDS = "(?:different|new|real|released|test|training)"
NO_NUMBERS = {"'CPU' if backend == 'cpp' else 'CUDA'", "arguments.split", "shape", "split"}
NEVER_ONE = {"4 * c.shape[1]", "channels", "config.channels", "len(different)"}  # where they stand


def counts_without_care():
    """Texts of the package that put a plural after a number that may be 1, as file:line and the text.

    Not those of two numbers, as in "2 x 3 pixels" and "1 to 5 words", those above a limit, and those of a constant.
    """
    package = Path(aligndraw.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for before, number, text in zip([ast.Constant(""), *parts], parts, parts[1:]):
                if not isinstance(number, ast.FormattedValue) or not isinstance(text, ast.Constant):
                    continue
                value = ast.unparse(number.value)
                whole = number.format_spec is None or not ast.unparse(number.format_spec).endswith(("f'", "g'"))
                pair = isinstance(before, ast.Constant) and before.value.endswith((" x ", " to "))
                may_be_one = whole and not pair and not value.isupper() and value not in NO_NUMBERS | NEVER_ONE
                if may_be_one and re.match(rf" ({KINDS} )?({NOUNS})\b(?!, more than)", text.value):
                    yield f"{path.relative_to(package)}:{node.lineno}: {value}{text.value[:20]}"


def test_one_is_no_plural():
    """`1 images` stood in messages: numbers that may be 1 come from `counted`."""
    assert list(counts_without_care()) == []


def test_counted():
    assert [counted(n, "image") for n in (0, 1, 2, 1234)] == ["0 images", "1 image", "2 images", "1,234 images"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
