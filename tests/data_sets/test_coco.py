"""COCO's format: what annotation files tell, and everything that is wrong with them."""

import json

import numpy as np
import pytest

from aligndraw.data.captioned import DataError
from aligndraw.data.coco import read_coco, write_coco
from aligndraw.data.image_files import store_collection


def annotations(folder, name, images, captions):
    """Writes an annotation file; an image that is a number has a file."""
    record = {
        "images": [{"id": i, "file_name": f"{i}.png"} if isinstance(i, int) else i for i in images],
        "annotations": [
            {"id": k, "image_id": c[0], "caption": c[1]} if isinstance(c, tuple) else c for k, c in enumerate(captions)
        ],
    }
    for i in images:
        if isinstance(i, int):
            (folder / f"{i}.png").touch()
    path = folder / f"captions_{name}.json"
    path.write_text(json.dumps(record))
    return path


def test_captions_of_images(tmp_path):
    """The first ones of each image, in the order of the file."""
    file = annotations(tmp_path, "a", [7, 5], [(7, "one"), (5, "two"), (7, "three"), (7, "four")])
    found = read_coco(tmp_path, [file], captions=2, validation=0, test=0)
    assert found.captions["train"] == [("7.png", "one"), ("7.png", "three"), ("5.png", "two")]
    assert found.files == {"7.png": tmp_path / "7.png", "5.png": tmp_path / "5.png"} and not found.skipped


def test_splits(tmp_path):
    """Validation and test are from the last file; its other images are of no use where another is for training."""
    one = annotations(tmp_path, "one", range(40), [(i, f"a {i}") for i in range(40)])
    two = annotations(tmp_path, "two", range(50, 80), [(i, f"a {i}") for i in range(50, 80)])
    sizes = {split: len(pairs) for split, pairs in read_coco(tmp_path, [one]).captions.items()}
    assert sizes == {"train": 32, "validation": 4, "test": 4}
    both = read_coco(tmp_path, [one, two], validation=5, test=6).captions
    assert both["train"] == [(f"{i}.png", f"a {i}") for i in range(40)]
    assert len(both["validation"]) == 5 and len(both["test"]) == 6
    assert all(50 <= int(name[:-4]) < 80 for split in ("validation", "test") for name, _ in both[split])


def test_images_in_a_folder_of_their_own(tmp_path):
    """train2014/ beside captions_train2014.json, as COCO has it."""
    (tmp_path / "train2014").mkdir()
    (tmp_path / "train2014" / "x.jpg").touch()
    file = annotations(tmp_path, "train2014", [{"id": 1, "file_name": "x.jpg"}], [(1, "a thing")])
    assert read_coco(tmp_path, [file]).files == {"x.jpg": tmp_path / "train2014" / "x.jpg"}


def test_what_is_wrong_is_named_and_left_out(tmp_path):
    images = [
        1, 2, 1, 3, "nothing",
        {"id": 4, "file_name": "../secret.png"}, {"id": 5, "file_name": "/etc/passwd"},
        {"id": 6, "file_name": "gone.png"}, {"id": [7], "file_name": "2.png"}, {"id": 8},
        {"id": 9, "file_name": "2.png"}, {"id": True, "file_name": "3.png"},
    ]  # fmt: skip
    captions = [
        (1, "good"), (1, " "), (1, None), (99, "of nothing"), (4, "of a secret"), (2, "x " * 50_000), (3, "good"),
        {"id": 0, "image_id": 1, "caption": "again"}, 17, {"image_id": [1], "caption": "a list"},
        {"id": True, "image_id": True, "caption": "of true, which equals 1"},
    ]  # fmt: skip
    file = annotations(tmp_path, "a", images, captions)
    (tmp_path.parent / "secret.png").touch()
    found = read_coco(tmp_path, [file], validation=0, test=0)
    assert found.captions["train"] == [("1.png", "good"), ("3.png", "good")]
    assert found.skipped == [
        f"captions_a.json: {line}"
        for line in (
            "image 1 (1.png): it is listed twice",
            "image null (None): it is no file name",
            "image 4 (../secret.png): it leads out of the folder of the images",
            "image 5 (/etc/passwd): it leads out of the folder of the images",
            f"image 6 (gone.png): there is no such file in {tmp_path}",
            "image [7] (2.png): its id must be a whole number or a word",
            "image 8 (None): it is no file name",
            "image 9 (2.png): it is listed twice",
            "image true (3.png): its id must be a whole number or a word",
            "caption 1: the caption has no words",
            "caption 2: the caption is no text but NoneType",
            "caption 3: there is no image 99",
            "caption 4: there is no image 4",
            "caption 5: the caption has 50000 words, more than 255",
            "caption 0: it is listed twice",
            "caption null: there is no image null",
            "caption null: there is no image [1]",
            "caption true: there is no image true",
            "image 2.png: it has no caption",
        )
    ]


def test_one_image_spelled_or_linked_in_several_ways(tmp_path):
    """The same file in train and in test; and a link that leads out of the folder."""
    (tmp_path / "secret.png").touch()
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link.png").symlink_to("1.png")
    (folder / "out.png").symlink_to("../secret.png")
    one = annotations(folder, "one", [1, {"id": 3, "file_name": "link.png"}], [(1, "a")])
    others = [{"id": 4, "file_name": "./1.png"}, {"id": 5, "file_name": "out.png"}]
    two = annotations(folder, "two", [2, *others], [(2, "b")])
    found = read_coco(folder, [one, two], validation=1, test=0)
    assert found.captions == {"train": [("1.png", "a")], "validation": [("2.png", "b")], "test": []}
    assert found.skipped == [
        "captions_one.json: image 3 (link.png): it is listed twice",
        "captions_two.json: image 4 (./1.png): another file has it already",
        "captions_two.json: image 5 (out.png): it is a link that leads out of the folder of the images",
    ]


def test_images_in_a_folder_too_deep(tmp_path):
    """They had all been skipped, with success, and so had a file with other annotations than captions."""
    folder = tmp_path / "images" / "train2014" / "train2014"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.jpg").touch()
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)]
    file = annotations(tmp_path, "train2014", images, [(i, f"a {i}") for i in range(3)])
    with pytest.raises(DataError) as error:
        read_coco(tmp_path / "images", [file, file])
    assert str(error.value) == (
        f"{file} has no image with a caption that can be used, such as captions_train2014.json: image 0 (0.jpg): there "
        f"is no such file in {tmp_path / 'images'} (0.jpg is in {folder})"
    )


def test_annotations_of_another_kind(tmp_path):
    boxes = [{"id": i, "image_id": i, "bbox": [0, 0, 1, 1], "category_id": 3} for i in range(3)]
    file = annotations(tmp_path, "x", range(3), boxes)
    with pytest.raises(DataError) as error:
        read_coco(tmp_path, [file])
    assert str(error.value) == (
        f"{file} must be annotations with captions, as captions_train2014.json has, got id, image_id, bbox, category_id"
    )


def test_some_captions_are_lost(tmp_path):
    file = annotations(tmp_path, "x", range(3), [*((i, f"a {i}") for i in range(3)), (0, ""), (9, "of none")])
    found = read_coco(tmp_path, [file])
    assert found.lost == 2
    with pytest.raises(DataError, match=r"^2 of 5 captions cannot be used, more than 5 %, such as .*: the caption has"):
        found.check_lost(0.05)
    found.check_lost(0.4)


def test_an_image_of_two_files_trains_or_tests(tmp_path):
    one = annotations(tmp_path, "one", [1, 2], [(1, "a"), (2, "b")])
    two = annotations(tmp_path, "two", [2, 3], [(2, "c"), (3, "d")])
    found = read_coco(tmp_path, [one, two], validation=1, test=0)
    assert found.captions["train"] == [("1.png", "a"), ("2.png", "b")]
    assert found.captions["validation"] == [("3.png", "d")]
    assert found.skipped[0] == "captions_two.json: image 2 (2.png): another file has it already"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.json is no COCO annotations, an object with .*: Expecting value"),
        (b"\xff\xfe\x00", "a.json is no COCO annotations, an object with .*: "),
        (b"[" * 100_000, "a.json is no COCO annotations, an object with .*: "),
        (b"[]", "a.json is no COCO annotations, an object with .*: it must be an object, got a list"),
        (b'{"images": [], "annotations": {}}', "a.json is no COCO .*: 'annotations' must be a list"),
        (None, "cannot read .*a.json: No such file"),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_coco(tmp_path, [tmp_path / "a.json"])


def test_no_folder_of_images(tmp_path):
    with pytest.raises(DataError, match="there is no folder .*images"):
        read_coco(tmp_path / "images", [])


def test_there_and_back(tmp_path):
    """What is written in COCO's format is stored as it was, pixel by pixel."""
    pictures = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 9), np.uint8)
    texts = [[f"picture {i} .", f"number {i} ."] for i in range(30)]
    write_coco(tmp_path / "coco", "all", pictures, texts)
    found = read_coco(tmp_path / "coco", [tmp_path / "coco" / "captions_all.json"])
    data = store_collection(found, tmp_path / "data", {}, size=(8, 9))
    seen = []
    for split in ("train", "validation", "test"):
        examples = data.split(split)
        images, _, _ = examples.batch(slice(None))
        for image, caption in zip(images, examples.captions()):
            number = int(caption.split()[1])
            assert (image == pictures[number]).all() and caption in texts[number]
            seen.append(caption)
    assert sorted(seen) == sorted(sum(texts, []))
