"""Folders of images with captions: tables and text files at any depth, and the splits that the folders tell."""

import pytest

from aligndraw.data.caption_files import read_captions
from aligndraw.data.caption_folders import split_of_folders
from aligndraw.data.captioned import DataError

ALL = {"validation": 0, "test": 0}
HEAD = "file_name,text\n"


@pytest.fixture
def folder(tmp_path):
    """Makes files from their texts; returns their folder."""

    def make(files):
        for name, text in files.items():
            place = tmp_path / "images" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        return tmp_path / "images"

    return make


def pictures(*folders):
    return {f"{folder}/{n}.png": "" for folder in folders for n in (1, 2)}


def tables(*folders):
    return {f"{folder}/metadata.csv": f"{HEAD}1.png,a {folder}\n2.png,the {folder}\n" for folder in folders}


def texts(*folders):
    return {f"{folder}/{n}.txt": f"{word} {folder}\n" for folder in folders for n, word in ((1, "a"), (2, "the"))}


def captions(folder):
    return [(f"{folder}/1.png", f"a {folder}"), (f"{folder}/2.png", f"the {folder}")]


@pytest.mark.parametrize(
    "names", [("training", "eval", "testing"), ("train2014", "val_2014", "my test"), ("train/a", "dev/b/c", "test/d")]
)
@pytest.mark.parametrize("captioned", [tables, texts])
def test_split_folders(folder, names, captioned):
    found = read_captions(folder({**pictures(*names), **captioned(*names)}))
    assert found.captions == dict(zip(("train", "validation", "test"), map(captions, names))) and not found.skipped


def test_one_table_that_names_images_in_split_folders(folder):
    names = ("train", "val", "test")
    rows = "".join(f"{name},{text}\n" for split in names for name, text in captions(split))
    images = folder({**pictures(*names), "metadata.csv": HEAD + rows, "other.csv": HEAD + rows})
    expected = dict(zip(("train", "validation", "test"), map(captions, names)))
    assert read_captions(images).captions == read_captions(images, images / "other.csv").captions == expected


def test_tables_at_any_depth(folder):
    found = read_captions(folder({**pictures("cats", "dogs/big"), **tables("cats", "dogs/big")}), **ALL)
    assert found.captions["train"] == [*captions("cats"), *captions("dogs/big")] and not found.skipped


def test_a_table_in_one_folder_and_text_files_in_another(folder):
    found = read_captions(folder({**pictures("train", "val"), **tables("train"), **texts("val")}))
    assert found.captions == {"train": captions("train"), "validation": captions("val")} and not found.skipped


def test_images_without_a_caption_are_named(folder):
    files = {**pictures("a", "b"), "a/metadata.csv": f"{HEAD}./2.png,a cat\n", "a/2.txt": "left to other programs"}
    found = read_captions(folder(files), **ALL)
    assert found.captions["train"] == [("a/2.png", "a cat")] and found.lost == 3
    missing = [f"image b/{n}.png: there is no b/{n}.txt in {folder({})}" for n in (1, 2)]
    assert found.skipped == [*missing, "image a/1.png: no row of a table names it"]


@pytest.mark.parametrize("captioned", [tables, texts])
@pytest.mark.parametrize("other", ["extra", "."])
def test_a_folder_without_a_split_beside_others(folder, captioned, other):
    images = folder({**pictures("train", "val", other), **captioned("train", "val", other)})
    with pytest.raises(DataError) as error:
        read_captions(images)
    message = str(error.value)
    assert message.startswith(f"{images / other} tells no split of its images, as {images / 'train'} does (train): ")
    assert message.endswith("or give every image its split in a column split")


@pytest.mark.parametrize("captioned", [tables, texts])
def test_a_split_without_captions(folder, captioned):
    images = folder({**pictures("train", "val/deep"), **captioned("train")})
    with pytest.raises(DataError) as error:
        read_captions(images)
    deep = images / "val/deep"
    assert str(error.value) == (
        f"{deep} has images but no captions: put metadata.csv, metadata.jsonl or a .txt per image into {deep}, or move "
        "the images elsewhere"
    )


def test_a_column_says_more_than_a_folder(folder):
    rows = "file_name,text,split\n1.png,a cat,test\n2.png,a dog,\n"
    found = read_captions(folder({**pictures("train"), "train/metadata.csv": rows}))
    assert found.captions == {"train": [("train/2.png", "a dog")], "test": [("train/1.png", "a cat")]}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jpg", None),
        ("trains/1.jpg", None),
        ("./Train/1.jpg", "train"),
        (r"a\valid\1.jpg", "validation"),
        ("val/train/1.jpg", "validation"),  # classes of images in the folder of a split
        ("train_val/1.jpg", None),
        ("train_val/evaluation/1.jpg", "validation"),
        ("../test/1.jpg", None),
        (5, None),
    ],
)
def test_split_of_folders(name, split):
    assert split_of_folders(name) == split


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.txt", "image,caption\n1.png,a cat\n"),
        ("Flickr8k.token.txt", "1.png#0\ta cat\n"),
        ("captions.csv", HEAD),
        ("metadata.tsv", "image\tcaption\n1.png\ta cat\n"),
        ("x.jsonl", '{"image": "1.png", "caption": "a cat"}'),
    ],
)
def test_a_table_of_another_name(folder, name, text):
    """The command does not guess that it holds the captions, but says how to name it."""
    images = folder({**pictures("."), name: text})
    with pytest.raises(DataError, match=f"; or name a table of them with --captions, as .*/{name} seems to be$"):
        read_captions(images)
    found = read_captions(folder({**texts(".")}), **ALL)
    hint = ": it seems to be a table, so name it with --captions"
    stem = name.removesuffix(".txt")
    assert found.skipped == ([f"{name}: there is no image {stem} in {images}{hint}"] if name != stem else [])


def test_linked_folders(folder, tmp_path):
    images = folder({**pictures("real"), **tables("real")})
    (images / "real/loop").symlink_to(images)
    (images / "train").symlink_to(images / "real")
    assert read_captions(images, **ALL).captions["train"] == captions("real")
