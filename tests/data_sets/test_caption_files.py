"""Tables of captions, .csv and .jsonl."""

import json

import pytest

from aligndraw.data.caption_files import read_captions
from aligndraw.data.captioned import DataError


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "deep/c.jpg"):
        (folder / name).touch()
    return folder


@pytest.fixture
def table(tmp_path):
    """Writes a table; returns its path."""

    def write(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


ALL = {"validation": 0, "test": 0}
EXPECTED = [("a.jpg", "a cat, asleep"), ("a.jpg", "a cat"), ("deep/c.jpg", "two\nlines")]


def test_csv(images, table):
    text = '\ufefffile_name,caption,more\r\na.jpg,"a cat, asleep",1\r\ndeep/c.jpg,"two\nlines",2\r\na.jpg,a cat,3\r\n'
    found = read_captions(images, table("x.csv", text), **ALL)
    assert found.captions["train"] == EXPECTED and not found.skipped
    assert found.files["deep/c.jpg"] == images / "deep/c.jpg"


def test_jsonl(images, table):
    lines = [{"image": "a.jpg", "captions": ["a cat, asleep", "a cat"]}, {"file": "deep/c.jpg", "text": "two\nlines"}]
    found = read_captions(images, table("x.jsonl", "\n\n".join(map(json.dumps, lines))), **ALL)
    assert found.captions["train"] == EXPECTED and not found.skipped


def test_divided_already(images, table):
    found = read_captions(images, table("x.csv", "file,text,split\nb.jpg,b,dev\na.jpg,a,train\ndeep/c.jpg,c,dev\n"))
    assert found.captions == {"train": [("a.jpg", "a")], "dev": [("b.jpg", "b"), ("deep/c.jpg", "c")]}
    assert next(iter(found.captions)) == "train"  # whose words are the vocabulary


def test_divided_here(images, table):
    found = read_captions(images, table("x.csv", "file,text\nb.jpg,b\na.jpg,a\ndeep/c.jpg,c\n"), validation=1, test=1)
    assert {split: len(pairs) for split, pairs in found.captions.items()} == {"train": 1, "validation": 1, "test": 1}


def test_what_is_wrong_is_named_and_left_out(images, table):
    lines = [
        {"file": "a.jpg", "text": "good", "split": "train"},
        {"file": "../a.jpg", "text": "out"},
        {"file": "gone.jpg", "text": "gone"},
        {"text": "no file"},
        {"file": "b.jpg", "text": "good", "split": "../train"},
        {"file": "a.jpg", "text": "both", "split": "test"},
        {"file": "a.jpg", "text": ["", 5, "x " * 50_000], "split": "train"},
        {"file": "a.jpg", "split": "train"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n{\n[]\n"
    found = read_captions(images, table("x.jsonl", text))
    assert found.captions == {"train": [("a.jpg", "good")]}
    expected = (
        "2: image ../a.jpg: it leads out of the folder of the images",
        f"3: image gone.jpg: there is no such file in {images}",
        "4: image None: it is no file name",
        "5: the split must be a word, got '../train'",
        "6: image a.jpg is in split train already",
        "7: the caption has no words",
        "7: the caption is no text but int",
        "7: the caption has 50000 words, more than 255",
        "8: the caption is no text but NoneType",
        "9: Expecting property name enclosed in double quotes",
        "10: it is no object but list",
    )
    for line, start in zip(found.skipped, expected, strict=True):
        assert line.startswith(f"x.jsonl, line {start}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "", "captions must be in a .csv or a .jsonl file, got .*x.txt"),
        ("x.csv", "", "x.csv must have a column file_name or file or image in its head line, got ''"),
        ("x.csv", "file,words\n", "must have a column caption or captions or text in its head line, got 'file,|words'"),
        ("x.csv", b"file,text\n\xff", "x.csv must be UTF-8 text"),
        ("x.csv", 'file,text\n"a', None),
    ],
)
def test_tables_of_another_kind(images, table, name, text, message):
    if message is None:
        assert not read_captions(images, table(name, text)).files
        return
    with pytest.raises(DataError, match=message):
        read_captions(images, table(name, text))


def test_missing(images, tmp_path):
    with pytest.raises(DataError, match="cannot read .*none.csv: No such file"):
        read_captions(images, tmp_path / "none.csv")
    with pytest.raises(DataError, match="there is no folder"):
        read_captions(tmp_path / "none", tmp_path / "none.csv")
