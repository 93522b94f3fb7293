"""Stopped at any file operation, by a kill or a full disk, the next call ends as if it had never been stopped."""

import json
import shutil
import sys
from contextlib import suppress

import numpy as np
import pytest
from file_faults import FileFaults, Killed, tree
from PIL import Image

from aligndraw.data import image_files, stored_scenes
from aligndraw.data.caption_files import read_captions
from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.coco import read_coco
from aligndraw.data.image_files import store_collection
from aligndraw.data.stored_scenes import export_scenes, store_scenes

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")

SPLITS = ("train", "train", "train", "train", "validation")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Images that all differ, one of them damaged, with a table and with COCO's annotations."""
    folder = tmp_path_factory.mktemp("sources")
    for i in range(len(SPLITS)):
        Image.fromarray(np.full((2, 2, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / "2.png").write_bytes(b"no image")
    rows = [f"{i}.png,picture {i},{split}" for i, split in enumerate(SPLITS)]
    (folder / "table.csv").write_text("\n".join(["file,caption,split", *rows]) + "\n")
    for name, which in (("train", (0, 1, 2)), ("val", (3, 4))):
        record = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in which],
            "annotations": [{"id": k, "image_id": i, "caption": f"picture {i}"} for k, i in enumerate(which * 2)],
        }
        (folder / f"captions_{name}.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def stores(sources, monkeypatch):
    """What `aligndraw data` does, in blocks of two images, by its name; each is given the folder to make."""
    monkeypatch.setattr(image_files, "CHUNK_SIZE", 2)
    monkeypatch.setattr(stored_scenes, "CHUNK_SIZE", 2)
    options = {"size": (2, 2), "processes": 1, "allow_skipped": 0.5}

    def coco(folder, **more):
        files = [sources / f"captions_{name}.json" for name in ("train", "val")]
        store_collection(read_coco(sources, files, validation=1, test=1), folder, {}, **options, **more)

    def table(folder, **more):
        store_collection(read_captions(sources, sources / "table.csv"), folder, {}, **options, **more)

    return {
        "folder": table,
        "coco": coco,
        "scenes": lambda folder, **more: store_scenes(folder, 3, captions=2, **more),
        "exported": lambda folder: export_scenes(folder, 2, captions=1),
    }


@pytest.mark.parametrize("how", ["killed_at", "full_from"])
@pytest.mark.parametrize("kind", ["folder", "folder over another", "coco", "scenes", "exported"])
def test_stopped_at_every_file_operation(stores, kind, how, tmp_path, monkeypatch):
    """The same bytes, and nothing beside them. What is to be overwritten is there until the new data set is."""
    faults = FileFaults(monkeypatch)
    store, overwrite = stores[kind.split()[0]], "over" in kind
    more = {"overwrite": True} if overwrite else {}
    if overwrite:
        store_scenes(tmp_path / "before" / "data", 1, seed=5)
    else:
        (tmp_path / "before").mkdir()
    before = tree(tmp_path / "before")

    def begin(name):
        shutil.copytree(tmp_path / "before", tmp_path / name)
        return tmp_path / name

    whole = begin("whole")
    with faults.counted():
        store(whole / "data", **more)
    expected, count = tree(whole), len(faults.operations)
    assert {operation.split()[0] for operation in faults.operations} >= {"mkdir", "open", "write", "unlink"}
    if kind != "exported":
        CaptionedImages.open(whole / "data").verify()
    for k in range(count):
        place = begin(f"at-{k}")
        with getattr(faults, how)(k), suppress(Killed, OSError):
            store(place / "data", **more)
        stopped = k, faults.operations[k]
        left = {name: content for name, content in tree(place).items() if name.split("/")[0] == "data"}
        assert left in (before, expected) or overwrite and not left, stopped
        try:
            store(place / "data", **more)
        except DataError as error:
            assert left == expected and "data exists already: give another folder" in str(error), stopped
        assert tree(place) == expected, stopped
        shutil.rmtree(place)
