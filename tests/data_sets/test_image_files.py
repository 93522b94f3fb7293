"""Collections of image files: what is stored of them, and what is skipped."""

import re

import numpy as np
import pytest
from PIL import Image

from aligndraw.data import image_files
from aligndraw.data.captioned import DataError
from aligndraw.data.image_files import Collection, random_split, store_collection


def save(path, pixels, **options):
    """Pixels [H, W, 3], or of another mode, as a file."""
    Image.fromarray(np.asarray(pixels, np.uint8), options.pop("mode", None)).save(path, **options)
    return path


def test_divide():
    names = [str(i) for i in range(100)]
    parts = random_split(names)
    assert [len(part) for part in parts.values()] == [80, 10, 10] and list(parts) == ["train", "validation", "test"]
    assert sorted(sum(parts.values(), [])) == sorted(names)
    assert parts == random_split(names) and parts["test"] != names[-10:]
    assert all(part == sorted(part, key=int) for part in parts.values())
    assert [len(p) for p in random_split(["x"] * 10**5).values()] == [90_000, 5000, 5000]
    assert [len(p) for p in random_split(names, 0, 7).values()] == [93, 0, 7]
    assert [len(random_split(names[:n])["test"]) for n in (1, 2, 3, 9, 10, 19, 20)] == [0, 0, 1, 1, 1, 1, 2]
    with pytest.raises(DataError, match="there are 100 images to take 99 for validation and 2 for test from"):
        random_split(names, 99, 2)


@pytest.fixture
def collection(tmp_path):
    """Seven images, of which three cannot be read."""
    files = {f"{i}.png": save(tmp_path / f"{i}.png", np.full((4, 4, 3), i)) for i in range(7)}
    files["1.png"].write_bytes(b"")
    files["3.png"].write_bytes(files["3.png"].read_bytes()[:-30])
    files["5.png"].unlink()
    captions = [(name, f"picture {name[0]}") for name in files]
    return Collection({"train": captions[:5], "test": captions[5:]}, files, ["caption 8: it is dull"])


def test_store(collection, tmp_path):
    done = []
    data = store_collection(
        collection,
        tmp_path / "data",
        {"kind": "mine"},
        size=(2, 3),
        processes=2,
        allow_skipped=0.5,
        on_images=done.append,
    )
    assert data.image_shape == (3, 2, 3) and sum(done) == 7
    train = data.split("train")
    assert train.captions() == ["picture 0", "picture 2", "picture 4"]
    assert train.images[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert data.split("test").captions() == ["picture 6"]
    assert data.origin == {"kind": "mine", "size": [2, 3], "crop": False, "min_count": 1}
    lines = (tmp_path / "data" / "skipped.txt").read_text().splitlines()
    for line, start in zip(
        lines, ("caption 8: it is dull", "image 1.png: ", "image 3.png: ", "image 5.png: "), strict=True
    ):
        assert line.startswith(start) and len(line) > 20


def test_interrupted_and_taken_up_again(collection, tmp_path, monkeypatch):
    """What was read is not read again."""
    monkeypatch.setattr(image_files, "CHUNK_SIZE", 2)
    whole = store_collection(collection, tmp_path / "whole", {}, processes=1, allow_skipped=1)
    read, names = image_files.read_image, []

    def interrupted(path, *rest):
        names.append(path.name)
        if path.name == "4.png" and len(names) < 7:
            raise KeyboardInterrupt
        return read(path, *rest)

    monkeypatch.setattr(image_files, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_collection(collection, tmp_path / "data", {}, processes=1, allow_skipped=1)
    data = store_collection(collection, tmp_path / "data", {}, processes=1, allow_skipped=1)
    assert data.checksum == whole.checksum
    # Those that could not be read are tried again.
    assert names == ["0.png", "1.png", "2.png", "3.png", "4.png", "1.png", "3.png", "4.png", "5.png", "6.png"]


def test_a_file_that_changes_before_the_next_call_is_read_again(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "CHUNK_SIZE", 2)
    with monkeypatch.context() as patch:
        patch.setattr(image_files.CaptionedWriter, "finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store_collection(collection, tmp_path / "data", {}, processes=1, allow_skipped=1)
    save(tmp_path / "0.png", np.full((4, 4, 3), 99))
    save(tmp_path / "1.png", np.full((4, 4, 3), 98))
    data = store_collection(collection, tmp_path / "data", {}, processes=1, allow_skipped=1)
    train = data.split("train")
    assert train.captions() == [f"picture {i}" for i in (0, 1, 2, 4)]
    assert train.images[:, 0, 0, 0].tolist() == [99, 98, 2, 4]


def test_nothing_to_store(collection, tmp_path):
    with pytest.raises(DataError, match="no image to store, such as image 1.png: "):
        store_collection(
            Collection({"train": [("1.png", "one"), ("3.png", "two")]}, collection.files),
            tmp_path / "data",
            {},
            allow_skipped=1,
        )
    with pytest.raises(DataError, match=re.escape("there is no image to store")):
        store_collection(Collection(), tmp_path / "data", {})
    assert not (tmp_path / "data").exists() and not (tmp_path / ".data.partial").exists()


def test_too_much_to_skip(collection, tmp_path, monkeypatch):
    """Of eight captions three whose images cannot be read, and one that was lost before."""
    collection.lost = 1
    with pytest.raises(
        DataError, match=r"4 of 8 captions cannot be used, more than 49 %, such as .*; mend it, or allow a larger share"
    ):
        store_collection(collection, tmp_path / "data", {}, allow_skipped=0.49)
    assert not (tmp_path / "data").exists()
    with monkeypatch.context() as patch:  # what was read is kept for a call that allows it
        patch.setattr(image_files, "read_image", lambda *_: 1 / 0)
        collection.captions, collection.lost = {"train": collection.captions["train"]}, 0
        data = store_collection(collection, tmp_path / "data", {}, allow_skipped=0.5)
    assert data.sizes == {"train": {"images": 3, "captions": 3}}


def test_a_split_of_which_nothing_is_left(collection, tmp_path):
    collection.captions["test"] = [("5.png", "picture 5")]
    with pytest.raises(DataError, match="there is no image with a caption of split test"):
        store_collection(collection, tmp_path / "data", {}, allow_skipped=1)


def test_memory_goes_by_the_pixels(collection, tmp_path, monkeypatch):
    """256 images were held at once, whatever their size."""
    monkeypatch.setattr(image_files, "CHUNK_BYTES", 2 * 3 * 4 * 4)
    stored, store = [], image_files.CaptionedWriter.store
    monkeypatch.setattr(
        image_files.CaptionedWriter, "store", lambda *rest: (stored.append(len(rest[2])), store(*rest))[1]
    )
    for size, counts in (((4, 4), [1, 1, 1, 1]), ((2, 4), [2, 1, 1]), ((8, 8), [1, 1, 1, 1])):
        stored.clear()
        store_collection(collection, tmp_path / f"{size}", {}, size=size, processes=1, allow_skipped=1)
        assert stored == counts, size


@pytest.mark.parametrize("size", [(2049, 32), (32, 100_000), (0, 4)])
def test_sizes_of_no_use(collection, tmp_path, size):
    """The images were blamed for it."""
    with pytest.raises(ValueError, match=f"size must be 1…2048 by 1…2048, got {size[0]} by {size[1]}"):
        store_collection(collection, tmp_path / "data", {}, size=size, allow_skipped=1)
    assert not (tmp_path / "data").exists() and not (tmp_path / ".data.partial").exists()
