"""aligndraw data: what it stores, what it skips, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from aligndraw.data import CaptionedImages
from aligndraw.data.stored_scenes import captions_per_scene, scene_splits
from aligndraw.viz.sheet import MARGIN


@pytest.fixture
def scenes(command, tmp_path):
    """The folders of stored scenes and of the same in COCO's format."""
    status, out, err = command(
        *("data", "scenes", "--out", tmp_path / "scenes", "--coco", tmp_path / "coco", "--seed", 3),
        *("--images", 40, "--captions", 2),
    )
    assert (status, err) == (0, "")
    return tmp_path / "scenes", tmp_path / "coco", out


def test_scenes(scenes):
    folder, _, out = scenes
    assert out.splitlines()[1:] == [
        "train: 40 images with 80 captions",
        *(f"{split}: 4 images with 8 captions" for split in ("validation", "test", "held_out")),
        f"wrote {folder}: 32 x 32 pixels, {len(CaptionedImages.open(folder).vocabulary)} words",
        f"look at {folder / 'sheet.png'}: 24 of the stored images with their captions",
        f"next: aligndraw train captioned --data {folder}",
    ]
    data = CaptionedImages.open(folder)
    data.verify()
    for split, (examples,) in scene_splits(40, seed=3).items():
        stored = data.split(split)
        assert (stored.images == examples.batch(slice(None))[0]).all()
        assert stored.captions() == [text for texts in captions_per_scene(examples, 2) for text in texts]
        assert stored.captions(slice(0, None, 2)) == examples.captions()


def test_a_sheet_shows_what_is_stored(command, tmp_path):
    """Each image with its captions and its split; here of one image each, so that every pixel is known."""
    levels = {"train": 60, "test": 180}
    for split, level in levels.items():
        Image.fromarray(np.full((9, 12), level, np.uint8)).save(tmp_path / f"{split}.png")
    table = tmp_path / "captions.csv"
    table.write_text("file,caption,split\ntrain.png,a dark wall,train\ntest.png,a grey wall,test\ntest.png,fog,test\n")
    out = tmp_path / "walls"
    given = ("--images", tmp_path, "--captions", table, "--out", out, "--size", 4, 6)
    assert command("data", "folder", *given)[0] == 0
    with Image.open(out / "sheet.png") as sheet:
        pixels, texts = np.asarray(sheet), sheet.text
    assert texts["Caption"] == "a dark wall\na grey wall / fog"
    left, width, height = MARGIN, 6 * 27, 4 * 27  # the longer side fills 160 pixels
    for level in levels.values():
        assert (pixels[MARGIN : MARGIN + height, left : left + width] == level).all()
        left += width + MARGIN
    CaptionedImages.open(out).verify()


def test_a_sheet_of_long_and_many_captions(command, tmp_path):
    """A word of a million letters, which is left out, and fifty captions of an image: five of them are shown."""
    for name in ("a", "b"):
        Image.fromarray(np.zeros((9, 12), np.uint8)).save(tmp_path / f"{name}.png")
    captions = [f"wall {i}" for i in range(50)]
    rows = [*(("a.png", caption) for caption in captions), ("b.png", "w" * 1_000_000), ("b.png", "fog")]
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\n" + "".join(f"{name},{caption}\n" for name, caption in rows))
    given = ("--images", tmp_path, "--captions", table, "--out", tmp_path / "walls", "--validation", 0, "--test", 0)
    status, told, err = command("data", "folder", *given)
    assert status == 0 and "train: 2 images with 51 captions" in told
    assert err == "skipped: captions.csv, line 52: the caption has 1000000 letters, more than 4096\n"
    with Image.open(tmp_path / "walls" / "sheet.png") as sheet:
        assert sheet.text["Caption"] == f"{' / '.join(captions[:5])}\nfog"


def test_a_sheet_of_large_images(command, tmp_path):
    for i in range(3):
        Image.fromarray(np.full((9, 12), i * 50, np.uint8)).save(tmp_path / f"{i}.png")
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\n" + "".join(f"{i}.png,wall {i}\n" for i in range(3)))
    given = ("--images", tmp_path, "--captions", table, "--out", tmp_path / "walls", "--size", 600, 1100)
    status, told, _ = command("data", "folder", *given, "--validation", 0, "--test", 0)
    assert status == 0
    assert told.endswith("\nit has no validation split, which training needs\n")
    with Image.open(tmp_path / "walls" / "sheet.png") as sheet:
        assert sheet.width < 4 * (256 + MARGIN) + MARGIN and np.asarray(sheet)[MARGIN, MARGIN].tolist() == [0, 0, 0]


def test_scenes_by_way_of_coco(scenes, command, tmp_path):
    """The same pictures with the same captions."""
    folder, coco, _ = scenes
    files = [coco / f"captions_{split}.json" for split in ("train", "validation")]
    out = tmp_path / "again"
    options = ("--validation", 3, "--test", 1, "--threads", 2)
    status, told, err = command("data", "coco", "--images", coco, "--annotations", *files, "--out", out, *options)
    assert (status, err) == (0, "")
    assert "validation: 3 images with 6 captions\n" in told
    one, two = CaptionedImages.open(folder), CaptionedImages.open(out)
    assert one.vocabulary == two.vocabulary
    for first, second in zip(one.split("train").batch(slice(None)), two.split("train").batch(slice(None))):
        assert (first == second).all()
    assert one.split("train").captions() == two.split("train").captions()
    assert set(two.split("test").captions()) < set(one.split("validation").captions())


def test_what_is_skipped_is_said(scenes, command, tmp_path):
    _, coco, _ = scenes
    for i in range(5):
        (coco / "train" / f"train_{i:06d}.png").write_bytes(b"no image")
    file = coco / "captions_train.json"
    given = ("data", "coco", "--images", coco, "--annotations", file, "--out", tmp_path / "x")
    status, out, err = command(*given)
    assert (status, out) == (1, "") and not (tmp_path / "x").exists()
    assert err.startswith("aligndraw: error: 10 of 80 captions cannot be used, more than 5 %, such as image train_0")
    assert err.endswith("; mend it, or allow a larger share with --allow-skipped\n") and err.count("\n") == 1
    status, _, err = command(*given, "--allow-skipped", 0.125)
    assert status == 0
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith("skipped: image train_00000") for line in lines[:3])
    assert lines[3] == f"skipped 2 more: see {tmp_path / 'x' / 'skipped.txt'}"
    assert len((tmp_path / "x" / "skipped.txt").read_text().splitlines()) == 5


def test_interrupted(scenes, command, tmp_path, monkeypatch):
    _, coco, _ = scenes
    arguments = (
        "data",
        "coco",
        "--images",
        coco,
        "--annotations",
        coco / "captions_train.json",
        "--out",
        tmp_path / "x",
    )
    with monkeypatch.context() as patch:

        def interrupt(writer, *_, **__):
            raise KeyboardInterrupt

        patch.setattr("aligndraw.data.captioned_writer.CaptionedWriter.finish", interrupt)
        status, _, err = command(*arguments)
    assert status == 130
    assert "the same command resumes with them" in err and err.endswith("aligndraw: interrupted\n")
    monkeypatch.setattr("aligndraw.data.image_files.read_image", lambda *_: 1 / 0)  # no file is read a second time
    status, out, err = command(*arguments)
    assert (status, err) == (0, "") and "train: 32 images" in out


def test_folder(command, tmp_path):
    for i in range(3):
        Image.fromarray(np.full((9, 12, 3), i * 50, np.uint8)).save(tmp_path / f"{i}.png")
    table = tmp_path / "captions.csv"
    table.write_text(
        "file,caption,split,set,id\n0.png,a black wall,train,1,1\n1.png,a grey wall,train,1,2\n"
        "2.png,a white wall,val,2,3\n"
    )
    out = tmp_path / "walls"
    given = ("--images", tmp_path, "--captions", table, "--out", out, "--size", 4, 6, "--crop", "--min-count", 2)
    status, told, err = command("data", "folder", *given)
    assert (status, err) == (0, "columns that are not read: set, id\n")
    assert f"wrote {out}: 4 x 6 pixels, 3 words\n" in told
    summary = "4 different words in training, 2 of them once; 2 of them, 33.3 % of the text, become [UNK]; "
    assert f"{summary}captions of 3 to 3 words, median 3: see {out / 'vocabulary.txt'}\n" in told
    assert "      1  black *" in (out / "vocabulary.txt").read_text().splitlines()
    data = CaptionedImages.open(out)
    assert data.vocabulary.words == ("[UNK]", "a", "wall")
    assert (data.split("validation").images == 100).all()
    assert json.loads((out / "manifest.json").read_text())["origin"]["kind"] == "folder"


def test_image_folders(command, tmp_path):
    """Without --captions: tables or texts among the images; a change of a text makes other data."""
    made = []
    for name, caption in (("one", "a wall"), ("two", "a wall"), ("three", "a house")):
        for i in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((9, 12, 3), i * 50, np.uint8)).save(tmp_path / name / f"{i}.png")
            (tmp_path / name / f"{i}.txt").write_text(f"{caption}\n\nnumber {i}\n")
        out = tmp_path / f"{name}-stored"
        status, told, err = command("data", "folder", "--images", tmp_path / name, "--out", out)
        assert (status, err) == (0, "") and "train: 1 image with 2 captions" in told
        made.append(json.loads((out / "manifest.json").read_text())["origin"]["captions"])
    assert made[0] == made[1] != made[2]


def test_refused(command, tmp_path, listing):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    (tmp_path / "a.json").write_text("[]")
    before = listing()
    for arguments, status, message in (
        (("scenes",), 2, "the following arguments are required: --out"),
        (
            ("scenes", "--out", tmp_path / "x", "--images", 0),
            2,
            "--images: must be a whole number of at least 1, got '0'",
        ),
        (("scenes", "--out", tmp_path / "mine"), 1, "mine exists already: give another folder, or --overwrite"),
        (("scenes", "--out", tmp_path / "mine", "--overwrite"), 1, "there are no captioned images in"),
        (
            ("scenes", "--out", tmp_path / "x", "--coco", tmp_path / "mine"),
            1,
            "mine exists already: give another folder",
        ),
        (("scenes", "--out", tmp_path / "a.json" / "x", "--images", 1), 1, "cannot write"),
        (
            ("coco", "--images", tmp_path, "--annotations", tmp_path / "a.json", "--out", tmp_path / "x"),
            1,
            "an object with the lists",
        ),
        (
            ("coco", "--images", tmp_path, "--annotations", tmp_path / "b.json", "--out", tmp_path / "x"),
            1,
            "cannot read",
        ),
        (
            ("folder", "--images", tmp_path / "no", "--captions", "x.csv", "--out", tmp_path / "x"),
            1,
            "there is no folder",
        ),
        (("released", "--arrays", tmp_path, "--out", tmp_path / "x"), 1, "cannot read"),
        (
            ("folder", "--images", tmp_path, "--captions", "x.csv", "--out", tmp_path / "x", "--allow-skipped", "5%"),
            2,
            "--allow-skipped: must be a number from 0 to 1, got '5%'",
        ),
    ):
        got, out, err = command("data", *arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert err.startswith("aligndraw: error: ") and len(err.splitlines()) == 1
        assert listing() == before
