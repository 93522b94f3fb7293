"""The forms in which captions of photographs are published: their heads, separators and folders."""

import json

import pytest

from aligndraw.data.caption_files import read_captions
from aligndraw.data.captioned import DataError

ALL = {"validation": 0, "test": 0}
EXPECTED = [("1.jpg", "A dog , running ."), ("1.jpg", 'A "big" dog .'), ("2.jpg", "Two cats .")]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (folder / name).touch()
    return folder


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        return place

    return write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # Flickr8k as on Kaggle, and its older form
        ("captions.txt", 'image,caption\n1.jpg,"A dog , running ."\n1.jpg,"A ""big"" dog ."\n2.jpg,Two cats .\n'),
        ("Flickr8k.token.txt", '1.jpg#0\tA dog , running .\n1.jpg#1\tA "big" dog .\n2.jpg#0\tTwo cats .\n'),
        ("results.token", '\ufeff\n1.jpg#0\tA dog , running .\r\n1.jpg#1\tA "big" dog .\n\n2.jpg#0\tTwo cats .'),
        # a column per caption, in the order of their numbers
        (
            "train.csv",
            'image,caption_10,caption_2,caption_3\n1.jpg,"A ""big"" dog .","A dog , running .",\n2.jpg,,Two cats .,\n',
        ),
        ("metadata.csv", 'file_name,text\n1.jpg,"A dog , running ."\n1.jpg,"A ""big"" dog ."\n2.jpg,Two cats .\n'),
        ("prompts.tsv", 'file\tprompt\n1.jpg\tA dog , running .\n1.jpg\t"A ""big"" dog ."\n2.jpg\tTwo cats .\n'),
        ("x.csv", 'image;caption\n1.jpg;A dog , running .\n1.jpg;A "big" dog .\n2.jpg;Two cats .\n'),
        # Flickr30k's results.csv, whose quotes are the caption's
        (
            "results.csv",
            'image_name| comment_number| comment\n1.jpg| 0| A dog , running .\n1.jpg| 1| A "big" dog .\n'
            "2.jpg| 0| Two cats .\n",
        ),
        # with blank lines, and an index as pandas writes it
        (
            "x.csv",
            '\n \r\n,image,caption\n0,1.jpg,"A dog , running ."\n\n\n,,\n1,1.jpg,"A ""big"" dog ."\n'
            "2,2.jpg,Two cats .\n\n",
        ),
    ],
)
def test_tables(images, write, name, text):
    found = read_captions(images, write(name, text), **ALL)
    assert found.captions["train"] == EXPECTED and not found.skipped


@pytest.mark.parametrize("file", ["file_name", "filename", "file", "image", "Image_Name"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_heads_in_quotes(images, write, file, separator):
    """The trial of the comma refused them before the right separator was tried."""
    rows = [(file, "caption"), ("1.jpg", "A dog , running ."), ("1.jpg", 'A ""big"" dog .'), ("2.jpg", "Two cats .")]
    text = "".join(f'"{name}"{separator}"{caption}"\n' for name, caption in rows)
    found = read_captions(images, write("x.csv", text), **ALL)
    assert found.captions["train"] == EXPECTED and not found.skipped and not found.unread


def test_a_quote_at_the_begin_of_a_caption_after_a_bar_and_a_space(images, write):
    text = (
        'image_name| comment_number| comment\n1.jpg| 0| "Stop" says a sign .\n2.jpg| 4   A cat .\n2.jpg|1|"A cat ."\n'
    )
    found = read_captions(images, write("results.csv", text), **ALL)
    assert found.captions["train"] == [("1.jpg", '"Stop" says a sign .'), ("2.jpg", "A cat .")]
    assert found.unread == ["comment_number"]
    skipped(
        found,
        "results.csv, line 3: it has 2 cells and the head line 3: a caption with a separator in it must stand in "
        "double quotes",
    )


def test_a_missing_value_of_pandas_is_no_caption(images, write):
    text = "image,caption_0,caption_1,split\n1.jpg,nan,A dog ,train\n2.jpg,NaN,nan,train\n3.jpg,a nan,,nan\n"
    found = read_captions(images, write("x.csv", text))
    assert found.captions == {"train": [("1.jpg", "A dog")]}
    skipped(found, "x.csv, line 3: its caption_0 is empty", "x.csv, line 4: image 3.jpg has no split, as others have")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "image,id,caption, Width,\n1.jpg,7,a cat,3,\n"),
        ("x.jsonl", '{"image": "1.jpg", "caption": "a cat", "id": 7}\n{"image": "1.jpg", "text": "a pet", "Width": 3}'),
    ],
)
def test_columns_that_are_not_read_are_named(images, write, name, text):
    found = read_captions(images, write(name, text), **ALL)
    assert found.captions["train"][0] == ("1.jpg", "a cat") and not found.skipped
    assert found.unread == ["id", "width"]


@pytest.mark.parametrize(
    ("column", "known"),
    [
        ("Caption 2", "caption_2"),
        ("caption3", "caption_3"),
        ("splits", "split"),
        ("texts", "text"),
        ("file-name", "file_name"),
        ("prompt_1", "caption_1"),
        ("capton", "caption"),  # a letter less, more, other, and two exchanged
        ("capption", "caption"),
        ("capzion", "caption"),
        ("Cpation", "caption"),
        ("splitt", "split"),
        ("iamge", "image"),
        ("fil_name", "file_name"),
        ("promt_2", "caption_2"),
    ],
)
def test_columns_that_are_nearly_right(images, write, column, known):
    message = f"the column {column.lower()!r} is not read: name it {known}, or otherwise if it means something else"
    with pytest.raises(DataError) as error:
        read_captions(images, write("x.csv", f"image,caption_1,{column}\n1.jpg,a cat,a pet\n"), **ALL)
    assert str(error.value) == f"{images.parent / 'x.csv'}: {message}"
    line = json.dumps({"image": "1.jpg", "caption_1": "a cat", column: "a pet"})
    skipped(read_captions(images, write("x.jsonl", line), **ALL), f"x.jsonl, line 1: {message}")


@pytest.mark.parametrize("column", ["caption_id", "captioner", "image_id", "comment_number", "title", "test", "size"])
def test_columns_that_only_look_like_others(images, write, column):
    found = read_captions(images, write("x.csv", f"image,caption,{column}\n1.jpg,a cat,a pet\n"), **ALL)
    assert found.captions["train"] == [("1.jpg", "a cat")] and found.unread == [column]


FILES = "file_name, filename, file, image or image_name"
CAPTIONS = "caption, captions, text, prompt, comment or caption_0"


@pytest.mark.parametrize(
    ("names", "lacking", "near"),
    [
        (("fil_name", "capton"), (FILES, CAPTIONS), ": did you mean file_name and caption?"),
        (("image", "capton"), (CAPTIONS,), ": did you mean caption?"),
        (("image", "width", "txt"), (CAPTIONS,), ": did you mean text?"),
        (("imagename", "caption_1"), (FILES,), ": did you mean image_name?"),
        (("path", "sentence"), (FILES, CAPTIONS), ""),
    ],
)
def test_a_head_without_the_columns(images, write, names, lacking, near):
    """The message names the columns found, those that would do, and the nearest."""
    for separator in ",;\t|":
        with pytest.raises(DataError) as error:
            read_captions(images, write("x.csv", f"{separator.join(names)}\n1.jpg{separator}a, cat\n"), **ALL)
        columns = " and ".join(f"a column {kind}" for kind in lacking)
        end = f"must have {columns} in its head line, got '{', '.join(names)}'{near}"
        assert str(error.value) == f"{images.parent / 'x.csv'} {end}"
    found = read_captions(images, write("x.jsonl", json.dumps(dict.fromkeys(names, "1.jpg"))), **ALL)
    skipped(found, f"x.jsonl, line 1: it must have {' and '.join(lacking)}, got {', '.join(names)}{near}")


@pytest.mark.parametrize(
    "first",
    [
        {"image": "1.jpg", "caption": ["A dog , running .", 'A "big" dog .']},
        {"file_name": "1.jpg", "caption_1": 'A "big" dog .', "caption_0": "A dog , running .", "caption_2": None},
        {"File_Name": "1.jpg", "TEXT": ["A dog , running .", 'A "big" dog .']},
        {"file_name": "1.jpg", "prompt": ["A dog , running .", 'A "big" dog .'], "text": ""},
    ],
)
def test_objects(images, write, first):
    lines = [first, {"image": "2.jpg", "prompt": "Two cats ."}]
    found = read_captions(images, write("metadata.jsonl", "\n" + "\n\n".join(map(json.dumps, lines))), **ALL)
    assert found.captions["train"] == EXPECTED and not found.skipped


def skipped(found, *lines):
    assert found.skipped == list(lines)


def test_faults_of_numbered_captions(images, write):
    text = "image,caption_0,caption_1,text\n1.jpg,,,\n2.jpg,a cat,a pet,another\n3.jpg,a cow,,\n"
    found = read_captions(images, write("x.csv", text), **ALL)
    assert found.captions["train"] == [("3.jpg", "a cow")] and found.lost == 1 + 3
    skipped(
        found,
        "x.csv, line 2: its text is empty",
        "x.csv, line 3: it has text and caption_0 and caption_1: keep one of them",
    )
    for head, message in (
        (
            "image,caption_a",
            "a column caption, captions, text, prompt, comment or caption_0 in its head line, got 'image, capt",
        ),
        ("image,caption_0,Caption_0", "must have one column caption_0, got several"),
    ):
        with pytest.raises(DataError, match=message):
            read_captions(images, write("x.csv", f"{head}\n1.jpg,a\n"))


def test_faults_of_tokens(images, write):
    text = "1.jpg#0\ta cat\n1.jpg a pet\n2.jpg#0\t\n4.jpg#0\ta dog\n1.jpg#1\ta cat\n1.jpg#2 a cow\n3.jpg#0\ta\tb\n"
    found = read_captions(images, write("x.token", text), **ALL)
    assert found.captions["train"] == [("1.jpg", "a cat"), ("3.jpg", "a\tb")] and found.lost == 4
    mend = "it must be an image, # and a number, a tab and a caption, as the first line is"
    skipped(
        found,
        f"x.token, line 2: {mend}",
        "x.token, line 3: its caption is empty",
        f"x.token, line 4: image 4.jpg: there is no such file in {images}",
        "x.token, line 5: image 1.jpg has this caption already",
        f"x.token, line 6: {mend}",
    )


def test_a_token_within_a_caption(images, write):
    (images / "a#1.jpg").touch()
    text = "1.jpg#0\tThe team #1\tof four\na#1.jpg#12\tA dog #2 .\n"
    found = read_captions(images, write("x.token", text), **ALL)
    assert found.captions["train"] == [("1.jpg", "The team #1\tof four"), ("a#1.jpg", "A dog #2 .")]
    assert not found.skipped


def test_a_key_twice_but_for_its_case(images, write):
    found = read_captions(images, write("x.jsonl", '{"image": "1.jpg", "text": "a", "Text": "b"}'), **ALL)
    skipped(found, "x.jsonl, line 1: it has the key 'text' twice")


def test_a_text_file_per_image(images, write):
    write("images/1.txt", '\nA dog , running .\n\nA "big" dog .\n')
    write("images/2.txt", "Two cats .")
    (images / "3.jpg").unlink()
    for folder in (images, None):
        found = read_captions(images, folder, **ALL)
        assert found.captions["train"] == EXPECTED and not found.skipped


def test_faults_of_text_files(images, write):
    write("texts/1.txt", "a cat\na  cat\n")
    write("texts/2.txt", " \n")
    write("texts/README.txt", "a page\nof text\n")
    write("texts/deep/1.txt", "a cow\n")
    write("texts/3.txt", "a dog\n")
    (images / "3.png").touch()
    (images / "4.jpg").touch()
    found = read_captions(images, images.parent / "texts", **ALL)
    assert found.captions["train"] == [("1.jpg", "a cat")] and found.lost == 5
    skipped(
        found,
        "1.txt, line 2: image 1.jpg has this caption already",
        "2.txt: it has no caption",
        "3.txt: it belongs to 3.jpg and 3.png: keep one of them",
        "README.txt: there is no image README in " + str(images),
        "deep/1.txt: there is no image deep/1 in " + str(images),
        "image 4.jpg: there is no 4.txt in " + str(images.parent / "texts"),
    )


def test_an_image_folder(tmp_path, write):
    """With a table in each folder of a split, whose names are relative to it."""
    for split, names in {"train": "ab", "test": "a"}.items():
        for name in names:
            write(f"images/{split}/{name}.png", "")
    write("images/train/metadata.csv", "file_name,text\na.png,a cat\nb.png,a dog\n")
    write("images/test/metadata.jsonl", '{"file_name": "a.png", "text": "a cow"}\n{"file_name": "c.png", "text": "c"}')
    found = read_captions(tmp_path / "images")
    assert found.captions == {
        "train": [("train/a.png", "a cat"), ("train/b.png", "a dog")],
        "test": [("test/a.png", "a cow")],
    }
    missing = f"image test/c.png: there is no such file in {tmp_path / 'images'}"
    skipped(found, f"test/metadata.jsonl, line 2: {missing}")


def test_one_table_of_an_image_folder(images, write):
    write("images/metadata.jsonl", '{"file_name": "1.jpg", "text": "a cat"}\n')
    write("images/1.txt", "left to other programs")
    found = read_captions(images, **ALL)
    assert found.captions["train"] == [("1.jpg", "a cat")]
    skipped(found, *(f"image {n}.jpg: no row of a table names it" for n in (2, 3)))
    write("images/metadata.csv", "file_name,text\n1.jpg,a cat\n")
    with pytest.raises(DataError, match=r"images must have one of metadata.csv and metadata.jsonl, got both$"):
        read_captions(images, **ALL)


def test_a_folder_without_captions(images):
    message = r"images must have captions: metadata.csv, metadata.jsonl or a .txt per image; or name a table of them"
    with pytest.raises(DataError, match=message):
        read_captions(images)
