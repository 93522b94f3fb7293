"""Tables of captions, .csv and .jsonl."""

import json
import re

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


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *((word, "validation") for word in ("dev", "val", "valid", "Eval", "evaluation", "validation")),
        *(("testing", "test"), ("held_out", "held_out")),
    ],
)
def test_divided_already(images, table, word, split):
    rows = f"file,text,split\nb.jpg,b,{word}\na.jpg,a,training\ndeep/c.jpg,c,{word}\n"
    found = read_captions(images, table("x.csv", rows))
    assert found.captions == {"train": [("a.jpg", "a")], split: [("b.jpg", "b"), ("deep/c.jpg", "c")]}
    assert next(iter(found.captions)) == "train"  # whose words are the vocabulary


@pytest.mark.parametrize("sizes", [{"validation": 5}, {"test": 0}, {"validation": 1, "test": 1}])
@pytest.mark.parametrize("head", ["file,text,split", "file,text"])
def test_sizes_of_splits_of_images_that_are_divided_already(images, table, tmp_path, head, sizes):
    """They were ignored in silence, whether the column or the folders divide the images."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").touch()
    row = "train/a.jpg,a cat" + ",train" * head.endswith("split")
    with pytest.raises(DataError) as error:
        read_captions(tmp_path, table("x.csv", f"{head}\n{row}\n"), **sizes)
    given = " and ".join(f"--{name}" for name in sizes)
    message = f"its images are divided already, into train: leave out {given}, which divides images at random"
    assert str(error.value) == f"{tmp_path / 'x.csv'}: {message}"


def test_divided_here(images, table):
    found = read_captions(images, table("x.csv", "file,text\nb.jpg,b\na.jpg,a\ndeep/c.jpg,c\n"), validation=1, test=1)
    assert {split: len(pairs) for split, pairs in found.captions.items()} == {"train": 1, "validation": 1, "test": 1}


def test_what_is_wrong_is_named_and_left_out(images, table):
    lines = [
        {"file": "a.jpg", "text": "good", "split": "train"},
        {"file": "../a.jpg", "text": ["out", "away"]},
        {"file": "gone.jpg", "text": "gone"},
        {"text": "no file"},
        {"file": "b.jpg", "text": "good", "split": "../train"},
        {"file": "a.jpg", "text": "both", "split": "test"},
        {"file": "a.jpg", "text": ["", 5, "x " * 50_000], "split": "train"},
        {"file": "a.jpg", "split": "train"},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{\n[]\n{"file": "b.jpg", "text": "good", "split": "test"}\n'
    found = read_captions(images, table("x.jsonl", text))
    assert found.captions == {"train": [("a.jpg", "good")], "test": [("b.jpg", "good")]}
    assert found.lost == 12  # two of the second line, three of the seventh
    expected = (
        "2: image ../a.jpg: it leads out of the folder of the images",
        f"3: image gone.jpg: there is no such file in {images}",
        "4: it must have file_name, filename, file, image or image_name, got text",
        "5: the split must be a word, got '../train'",
        "6: image a.jpg is in split train already",
        "7: the caption has no words",
        "7: the caption is no text but int",
        "7: the caption has 50000 words, more than 255",
        "8: it must have caption, captions, text, prompt, comment or caption_0, got file, split",
        "9: Expecting property name enclosed in double quotes",
        "10: it is no object but list",
    )
    for line, start in zip(found.skipped, expected, strict=True):
        assert line.startswith(f"x.jsonl, line {start}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "", "captions must be in a .csv, .tsv, .txt, .token or .jsonl file, got .*x.json"),
        (
            "x.csv",
            "",
            "x.csv must have a column file_name, .* and a column caption, .* in its head line, got ''$",
        ),
        ("x.csv", "file,text\n", "x.csv has no captions$"),
        ("x.jsonl", "\n", "x.jsonl has no captions$"),
        (
            "x.csv",
            "file,words\n",
            "have a column caption, captions, text, prompt, comment or caption_0 in its head line, got 'file, words'",
        ),
        ("x.csv", b"file,text\n\xff", "x.csv, line 2: it must be UTF-8 text"),
    ],
)
def test_tables_of_another_kind(images, table, name, text, message):
    with pytest.raises(DataError, match=message):
        read_captions(images, table(name, text))


def test_missing(images, tmp_path):
    with pytest.raises(DataError, match="cannot read .*none.csv: No such file"):
        read_captions(images, tmp_path / "none.csv")
    with pytest.raises(DataError, match="there is no folder"):
        read_captions(tmp_path / "none", tmp_path / "none.csv")


def skipped(found, *lines):
    assert len(found.skipped) == len(lines), found.skipped
    for got, (number, wanted) in zip(found.skipped, lines):
        assert re.fullmatch(rf"x\.\w+, line {number}: {wanted}", got), got


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_of_another_width(images, table, separator):
    """A caption with a comma outside quotes was cut short there."""
    rows = ["file_name,caption", "a.jpg,a cat, asleep", "b.jpg,a dog", "deep/c.jpg", 'a.jpg, "a cat, awake"', "", " , "]
    text = "\n".join(rows).replace(", a", f"{separator} a").replace(",", separator)
    found = read_captions(images, table("x.csv", text), **ALL)
    awake = f"a cat{separator} awake"
    assert found.captions["train"] == [("b.jpg", "a dog"), ("a.jpg", awake)]
    mend = "a caption with a separator in it must stand in double quotes"
    skipped(found, *((n, f"it has {k} and the head line 2: {mend}") for n, k in [(2, "3 cells"), (4, "1 cell")]))


def test_more_columns(images, table):
    """Where the comma moves what follows, too."""
    text = "file,caption,split\na.jpg,a cat, asleep,train\nb.jpg,a dog,train\n"
    found = read_captions(images, table("x.csv", text))
    assert found.captions == {"train": [("b.jpg", "a dog")]}
    skipped(found, (2, "it has 4 cells and the head line 3: .*"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('b.jpg,"a dog\na.jpg,a cat\ndeep/c.jpg,a cow\n', 2),  # to the end of the file
        ('a.jpg,a cat\nb.jpg,"a dog\ndeep/c.jpg,"a cow"\n', 3),
        ('b.jpg,"a dog\na.jpg,a cat\ndeep/c.jpg,a "cow"\n', 2),
        ('b.jpg,"a dog" and a cat\n', 2),
        ('a.jpg,"two\nlines"\nb.jpg,"a "big" dog"\n', 4),
    ],
)
def test_quotes_that_do_not_close(images, table, text, line):
    """The next row was swallowed."""
    with pytest.raises(DataError) as error:
        read_captions(images, table("x.csv", "file,text\n" + text), **ALL)
    start = f"{images.parent / 'x.csv'}, line {line}: its double quotes do not close before the end of a cell: "
    assert str(error.value) == start + 'a caption stands in them as a whole, and a double quote within it is written ""'


@pytest.mark.parametrize(
    "text",
    [
        'file,text\nb.jpg,"a dog\na.jpg,a cat\ndeep/c.jpg,a cow"\n',
        'text,file\n"a dog,b.jpg\na cat,a.jpg\na "" cow",deep/c.jpg\n',
        'file,text,more\nb.jpg,"a dog\na.jpg,a cat, asleep,1\nb.jpg,a ""cow",2\n',
    ],
)
def test_a_quote_that_closes_rows_later(images, table, text):
    """Right by the rules of CSV, but a row stands within the caption."""
    start = "x.csv, line 2: a double quote opens here and does not close before line 3, which is a row of its own"
    with pytest.raises(DataError, match=rf"{start} \(a.jpg\): close it, or leave it out$"):
        read_captions(images, table("x.csv", text), **ALL)


def test_captions_of_several_lines(images, table):
    text = 'file,text\na.jpg,"a cat,\nasleep"\nb.jpg,"a list: one, two\nand more"\n'
    found = read_captions(images, table("x.csv", text), **ALL)
    assert found.captions["train"] == [("a.jpg", "a cat,\nasleep"), ("b.jpg", "a list: one, two\nand more")]
    assert not found.skipped


def test_quotes_within_a_caption(images, table):
    text = 'file,text\na.jpg,a "big" cat\nb.jpg,"a ""big"" dog"\n'
    found = read_captions(images, table("x.csv", text), **ALL)
    assert found.captions["train"] == [("a.jpg", 'a "big" cat'), ("b.jpg", 'a "big" dog')] and not found.skipped


@pytest.mark.parametrize(
    "text", ["['a cat', 'a pet']", '["a cat", "a dog\'s pet"]', "('a cat',)", '{"en": "a cat"}', "[ 'a' 'b' ]"]
)
def test_a_list_written_as_text(images, table, text):
    """It was one caption."""
    quoted = text.replace('"', '""')
    fault = "the caption is a list written as text: give each caption an entry of its own"
    found = read_captions(images, table("x.csv", f'file,text\nb.jpg,a dog\na.jpg,"{quoted}"\n'), **ALL)
    assert found.captions["train"] == [("b.jpg", "a dog")]
    skipped(found, (3, fault))
    found = read_captions(images, table("x.jsonl", json.dumps({"file": "a.jpg", "text": ["a cat", text]})), **ALL)
    assert found.captions["train"] == [("a.jpg", "a cat")]
    skipped(found, (1, fault))


@pytest.mark.parametrize("text", ["[a cat]", "(a cat) and 'a dog'", "'a cat'", "a cat's [toy]", "'quoted' (here)"])
def test_captions_with_brackets(images, table, text):
    found = read_captions(images, table("x.csv", f"file,text\na.jpg,{text}\n"), **ALL)
    assert found.captions["train"] == [("a.jpg", text)]


def test_one_image_spelled_in_several_ways(images, table):
    """They were several, which could come into train and test."""
    names = ("deep/c.jpg", "./deep/c.jpg", "deep\\\\c.jpg", "deep//c.jpg", "deep/../deep/c.jpg")
    lines = [f'{{"file": "{name}", "text": "number {i}"}}' for i, name in enumerate(names)]
    found = read_captions(images, table("x.jsonl", "\n".join(lines)), **ALL)
    assert found.captions["train"] == [("deep/c.jpg", f"number {i}") for i in range(5)]
    assert found.files["deep/c.jpg"] == images / "deep" / "c.jpg" and not found.skipped


def test_one_image_in_two_splits(images, table):
    text = "file,text,split\na.jpg,a cat,train\n./a.jpg,a pet,test\nb.jpg,a dog,test\n"
    found = read_captions(images, table("x.csv", text))
    assert found.captions == {"train": [("a.jpg", "a cat")], "test": [("b.jpg", "a dog")]}
    skipped(found, (3, "image a.jpg is in split train already"))


def test_a_link_out_of_the_folder(images, table, tmp_path):
    (tmp_path / "private.jpg").touch()
    (images / "d.jpg").symlink_to("../private.jpg")
    found = read_captions(images, table("x.csv", "file,text\nd.jpg,a door\na.jpg,a cat\n"), **ALL)
    assert found.captions["train"] == [("a.jpg", "a cat")]
    skipped(found, (2, "image d.jpg: it is a link that leads out of the folder of the images"))


def test_other_keys(images, table):
    """These were "no text but NoneType"."""
    lines = [
        {"picture": "a.jpg", "caption": "a cat"},
        {"file": "a.jpg", "sentence": "a cat"},
        {"image": {"file_name": "a.jpg"}, "text": "a cat"},
        {"file": "a.jpg", "caption": ""},
        {"file": "a.jpg", "caption": None},
        {"file": "a.jpg", "captions": []},
        {"file": "a.jpg", "captions": [{"raw": "a cat"}]},
        {"file": "a.jpg", "caption": {"raw": "a cat"}},
        {"file": "a.jpg", "caption": 5},
        {"file": "a.jpg", "text": "a cat", "caption": "another"},
        {"file": "a.jpg", "text": "good", "caption": None},
        {"file": "a.jpg", "text": "split", "split": 1},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"file": "a.jpg", "text": "a", "text": "b"}\n'
    found = read_captions(images, table("x.jsonl", text), **ALL)
    assert found.captions["train"] == [("a.jpg", "good")]
    skipped(
        found,
        (1, "it must have file_name, filename, file, image or image_name, got picture, caption"),
        (2, "it must have caption, captions, text, prompt, comment or caption_0, got file, sentence"),
        (3, "image .*: it is no file name"),
        *((n, "its caption is empty") for n in (4, 5)),
        (6, "its captions is empty"),
        *((n, "the caption is no text but dict") for n in (7, 8)),
        (9, "the caption is no text but int"),
        (10, "it has caption and text: keep one of them"),
        (12, "the split must be a word, got '1'"),
        (13, "it has the key 'text' twice"),
    )


def test_empty_cells(images, table):
    text = "file,text,split\na.jpg,a cat,train\nb.jpg,,train\n,a dog,train\ndeep/c.jpg,a cow,\n"
    found = read_captions(images, table("x.csv", text))
    assert found.captions == {"train": [("a.jpg", "a cat")]}
    skipped(
        found,
        (3, "its text is empty"),
        (4, "its file is empty"),
        (5, "image deep/c.jpg has no split, as others have"),
    )


def test_splits_are_words_whatever_their_case(images, table):
    """Train and train would be two splits, of which a file system may keep one."""
    text = "file,text,split\na.jpg,a cat,Train\nb.jpg,a dog, train \ndeep/c.jpg,a cow,TEST\n"
    found = read_captions(images, table("x.csv", text))
    assert {split: len(pairs) for split, pairs in found.captions.items()} == {"train": 2, "test": 1}
    assert not found.skipped


def test_rows_that_are_there_twice(images, table):
    text = "file,text\na.jpg,a cat\nb.jpg,a cat\n./a.jpg,a  cat\na.jpg,a pet\n"
    found = read_captions(images, table("x.csv", text), **ALL)
    assert found.captions["train"] == [("a.jpg", "a cat"), ("a.jpg", "a pet"), ("b.jpg", "a cat")]
    skipped(found, (4, "image a.jpg has this caption already"))


def test_heads(images, table):
    """In any case, with spaces."""
    found = read_captions(images, table("x.CSV", "\ufeff File_Name , Caption \r\na.jpg,a cat\r\n"), **ALL)
    assert found.captions["train"] == [("a.jpg", "a cat")]
    for head, message in (
        ("file,caption,Caption", "x.csv must have one column caption, got several"),
        (
            "a.jpg,a cat",
            "must have a column file_name, .* and a column caption, .* in its head line, got 'a.jpg, a cat'$",
        ),
        ("file:caption", "must have a column .* in its head line, got 'file:caption'"),
        ('"file,caption', "x.csv, line 1: its double quotes do not close"),
    ):
        with pytest.raises(DataError, match=message):
            read_captions(images, table("x.csv", f"{head}\na.jpg,a cat,a pet\n"))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends(images, table, ending):
    text = ending.join(["file,text", "a.jpg,a cat", "gone.jpg,a dog", 'b.jpg,"a\nb"', "gone.jpg,x", ""])
    found = read_captions(images, table("x.csv", text), **ALL)
    assert found.captions["train"] == [("a.jpg", "a cat"), ("b.jpg", "a\nb")]
    assert [line.partition(": ")[0] for line in found.skipped] == ["x.csv, line 3", "x.csv, line 6"]


def test_another_encoding(images, table):
    for name in ("x.csv", "x.jsonl"):
        with pytest.raises(DataError, match=rf"{name}, line 3: it must be UTF-8 text: save it as such"):
            read_captions(images, table(name, b"file,text\na.jpg,a cat\nb.jpg,caf\xe9\n"))


def test_a_split_of_which_nothing_is_left(images, table):
    rows = "a.jpg,a,train\nc.jpg,c,dev\nnone.jpg,c,dev\nb.jpg,b,train\n"
    with pytest.raises(DataError) as error:
        read_captions(images, table("x.csv", f"file,text,split\n{rows}"))
    assert str(error.value).endswith(
        "x.csv has no caption of split validation that can be used, such as x.csv, line 3: image c.jpg: there is no "
        f"such file in {images} (c.jpg is in {images / 'deep'})"
    )


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("deeper/c.jpg", "c.jpg is in {images}/deep"),
        ("images/deep/c.jpg", "c.jpg is in {images}/deep"),
        ("a.png", "{images} has a.jpg, not a.png"),
        ("a", "{images} has a.jpg, not a"),
        ("z.jpg", ""),
    ],
)
def test_the_likely_cause(images, table, name, cause):
    found = read_captions(images, table("x.csv", f"file,text\n{name},a\n"))
    assert (found.lost, found.likely_cause()) == (1, cause.format(images=images))


def test_no_images_at_all(table, tmp_path):
    (tmp_path / "none").mkdir()
    found = read_captions(tmp_path / "none", table("x.csv", "file,text\na.jpg,a\n"))
    with pytest.raises(DataError, match=r"1 of 1 caption cannot be used.*line 2: .* \(.*none has no files\); mend"):
        found.check_lost(0.05)


def test_a_caption_that_is_there_twice_is_not_lost(images, table):
    found = read_captions(images, table("x.csv", "file,text\na.jpg,a\na.jpg,a\n"))
    assert found.lost == 0 and len(found.skipped) == 1


def test_rows_with_another_separator_than_the_head(images, table):
    """The advice was to put the caption in double quotes, which does not help."""
    found = read_captions(images, table("x.csv", "file;text\na.jpg,a cat\nb.jpg;a dog\n"))
    assert found.captions["train"] == [("b.jpg", "a dog")]
    mend = "separate its cells by ';', as the head line does"
    assert found.skipped == [f"x.csv, line 2: it has 1 cell and the head line 2: {mend}"]
