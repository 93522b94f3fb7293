"""Names of image files: one for each file, and none outside the folder."""

import os
import unicodedata

import pytest

from aligndraw.data import image_names
from aligndraw.data.image_names import ImageNames, safe_name


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("a.jpg", "a.jpg"),
        ("a/b/c.jpg", "a/b/c.jpg"),
        ("./a.jpg", "a.jpg"),
        ("t//.//a.jpg", "t/a.jpg"),
        ("t\\0.jpg", "t/0.jpg"),
        (".\\t\\0.jpg", "t/0.jpg"),
        ("t/../u/a.jpg", "u/a.jpg"),
        ("a..b.jpg", "a..b.jpg"),
        ("12:30.jpg", "12:30.jpg"),
        ("ü ?.jpg", "ü ?.jpg"),
    ],
)
def test_safe_names(name, usual):
    assert safe_name(name) == usual


@pytest.mark.parametrize(
    "name",
    ["", ".", "a/..", None, 3, "/etc/passwd", "//a.jpg", "../a.jpg", "a/../../b", "..\\a.jpg", "C:\\a.jpg", "c:a.jpg"]
    + ["a\0b", "x" * 300, "a/" * 600, "\ud800.jpg"],
)
def test_unsafe_names(name):
    with pytest.raises(ValueError, match="it leads out of|it is no file name"):
        safe_name(name)


@pytest.fixture
def folder(tmp_path):
    for name in ("images/a.jpg", "images/t/a.jpg", "outside/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "images"


def test_one_name_for_each_file(folder):
    """Two spellings were two images, which could come into train and test."""
    (folder / "link.jpg").symlink_to("a.jpg")
    (folder / "u").symlink_to("t")
    os.link(folder / "a.jpg", folder / "A.JPG")  # as a file system that ignores case shows it
    names = ImageNames(folder)
    assert [names.find(name) for name in ("a.jpg", "./a.jpg", "t/../a.jpg", "link.jpg", "A.JPG")] == ["a.jpg"] * 5
    assert [names.find(name) for name in ("./t/a.jpg", "t\\a.jpg", "u/a.jpg")] == ["t/a.jpg"] * 3
    assert names.files == {"a.jpg": folder / "a.jpg", "t/a.jpg": folder / "t" / "a.jpg"}
    assert (folder / "a.jpg").samefile(names.files[names.find("a.jpg")])


def test_composed_and_decomposed_letters(folder):
    """As a file system that ignores the difference shows them."""
    one, two = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    (folder / one).write_text("é")
    if not (folder / two).exists():
        os.link(folder / one, folder / two)
    names = ImageNames(folder)
    assert names.find(two) == names.find(one) == two


def test_different_files_stay_apart(folder):
    """Though their names differ in case alone."""
    if (folder / "A.JPG").exists():
        pytest.skip("this file system ignores case")
    (folder / "A.JPG").write_text("another")
    names = ImageNames(folder)
    assert [names.find(name) for name in ("a.jpg", "A.JPG", "a.jpg")] == ["a.jpg", "A.JPG", "a.jpg"]


@pytest.mark.parametrize("link", ["file", "folder", "chain"])
def test_a_link_that_leads_out(folder, link):
    outside = folder.parent / "outside"
    if link == "file":
        (folder / "b.jpg").symlink_to(outside / "b.jpg")
    elif link == "folder":
        (folder / "b").symlink_to(outside)
    else:
        (folder / "one.jpg").symlink_to("../outside/b.jpg")
        (folder / "b.jpg").symlink_to("one.jpg")
    with pytest.raises(ValueError, match="^it is a link that leads out of the folder of the images$"):
        ImageNames(folder).find("b/b.jpg" if link == "folder" else "b.jpg")


def test_the_folder_itself_may_be_a_link(folder):
    (folder.parent / "here").symlink_to(folder)
    assert ImageNames(folder.parent / "here").find("t/a.jpg") == "t/a.jpg"


def test_what_is_no_file(folder):
    (folder / "c.jpg").mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    for name in ("none.jpg", "c.jpg", "loop.jpg", "pipe.jpg", "a.jpg/b.jpg"):
        with pytest.raises(ValueError, match=f"^there is no such file in {folder}$"):
            ImageNames(folder).find(name)


def test_a_folder_that_cannot_be_read(folder, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied")

    names = ImageNames(folder)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="^Permission denied$"):
        patch.setattr(image_names.os, "stat", refuse)
        names.find("a.jpg")


def test_a_second_folder(folder):
    """It has what the first has not, or has as an empty file or a folder alone."""
    (folder / "t" / "only.jpg").write_text("only")
    (folder / "t" / "c.jpg").write_text("c")
    (folder / "t" / "d.jpg").write_text("d")
    (folder / "c.jpg").touch()
    (folder / "d.jpg").mkdir()
    names = ImageNames(folder)
    for name, where in (("a.jpg", folder), *((f"{name}.jpg", folder / "t") for name in ("only", "c", "d"))):
        assert names.find(name, folder / "t") == name and names.files[name] == where / name
