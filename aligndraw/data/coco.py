"""COCO captions (Lin et al., 2014): annotation files and folders of images, read and written.

{"images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg"}, ...],
 "annotations": [{"id": 661611, "image_id": 9, "caption": "Closeup of bins of food ..."}, ...]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aligndraw import json_files
from aligndraw.arguments import check_path
from aligndraw.data.captioned import DataError
from aligndraw.data.captioned_writer import caption_error
from aligndraw.data.image_files import Collection, random_split
from aligndraw.data.image_names import ImageNames
from aligndraw.text.vocabulary import check_captions

_IDS = int, str  # the types of ids; true would equal 1
CAPTIONS_PER_IMAGE = 5  # at most, the first ones


def read_coco(
    images: str | os.PathLike[str],
    annotations: Sequence[str | os.PathLike[str]],
    *,
    captions: int = CAPTIONS_PER_IMAGE,
    validation: int | None = None,
    test: int | None = None,
) -> Collection:
    """Returns the images and captions of annotation files.

    Validation and test images are drawn from the last file. The files before it are for training; a single file
    supplies all three splits.

    Args:
        images: the folder that file names are relative to; or its parent, with a folder named after the annotation
            file: "train2014" for captions_train2014.json.
        annotations: files.
        captions: at most per image; the first ones.
        validation: images for validation, as for `image_files.random_split`.
        test: images for testing.

    Raises:
        DataError: a file or the folder is missing, or something else.
    """
    image_names = ImageNames(check_path("images", images))
    files = [check_path("annotations", file) for file in annotations]
    collection, parts = Collection(files=image_names.files, likely_cause=image_names.likely_cause), []
    all_texts: dict[str, list[str]] = {}
    for file in files:
        names, texts_of = _read_annotations(file, image_names, set(all_texts), collection)
        all_texts.update(texts_of)
        parts.append([name for name in names if texts_of[name]])
        for name in names:
            if not texts_of[name]:
                collection.skip(f"{file.name}: image {name}", "it has no caption")
        if not parts[-1]:
            raise DataError(f"{file} has no image with a caption that can be used{collection.example()}")
    splits = random_split(parts[-1], validation, test)
    if len(parts) > 1:
        splits["train"] = [name for part in parts[:-1] for name in part]
    collection.captions = {
        split: [(name, text) for name in names for text in all_texts[name][:captions]]
        for split, names in splits.items()
    }
    return collection


def write_coco(
    folder: str | os.PathLike[str], name: str, pictures: NDArray[np.uint8], captions: Sequence[Sequence[str]]
) -> None:
    """Writes pictures uint8 [n, 3, H, W] as PNG files into `folder/<name>`, and `folder/captions_<name>.json`.

    Args:
        captions: of each picture.
    """
    folder = check_path("folder", folder)
    for texts in captions:
        check_captions(texts)
    (folder / name).mkdir(parents=True, exist_ok=True)
    record: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for i, (picture, texts) in enumerate(zip(pictures, captions)):
        file_name = f"{name}_{i:06d}.png"
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / name / file_name)
        record["images"].append({"id": i, "file_name": file_name})
        first = len(record["annotations"])
        record["annotations"] += [{"id": first + k, "image_id": i, "caption": text} for k, text in enumerate(texts)]
    (folder / f"captions_{name}.json").write_text(json.dumps(record), encoding="utf-8")


def _read_annotations(
    file: Path, image_names: ImageNames, known: set[str], collection: Collection
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the images of a file, except known ones, and the captions of each."""
    record = _load(file)
    subfolder = image_names.folder / file.stem.removeprefix("captions_")
    names: dict[Any, str] = {}
    texts_of: dict[str, list[str]] = {}

    def skip(what: str, why: str, lost: int = 0) -> None:
        collection.skip(f"{file.name}: {what}", why, lost)

    for entry in _entries(record["images"]):
        number, name = entry.get("id"), entry.get("file_name")
        what = f"image {json.dumps(number)} ({str(name)[:80]})"
        try:
            name = image_names.find(name, subfolder)
        except ValueError as error:
            skip(what, str(error))
            continue
        if type(number) not in _IDS:
            skip(what, "its id must be a whole number or a word")
        elif number in names or name in texts_of:
            skip(what, "it is listed twice")
        elif name in known:
            skip(what, "another file has it already")
        else:
            names[number], texts_of[name] = name, []
    annotations: set[Any] = set()
    for entry in _entries(record["annotations"]):
        number, image, text = entry.get("id"), entry.get("image_id"), entry.get("caption")
        what = f"caption {json.dumps(number)}"
        fault = caption_error(text)
        if type(image) not in _IDS or image not in names:
            skip(what, f"there is no image {json.dumps(image)}", 1)
        elif fault:
            skip(what, fault, 1)
        elif type(number) in _IDS and number in annotations:
            skip(what, "it is listed twice", 1)
        else:
            texts_of[names[image]].append(str(text))
            if type(number) in _IDS:
                annotations.add(number)
    return list(texts_of), texts_of


def _load(file: Path) -> dict[str, list[Any]]:
    try:
        what = 'no COCO annotations, an object with the lists "images" and "annotations"'
        with json_files.naming(file, what, DataError):
            found = json_files.read_json(file)
            record = {name: json_files.entry(found, name, list) for name in ("images", "annotations")}
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    if not any("caption" in entry for entry in _entries(record["annotations"])):
        got = ", ".join(map(str, next(iter(_entries(record["annotations"])), {})))[:120] or "none"
        raise DataError(f"{file} must be annotations with captions, as captions_train2014.json has, got {got}")
    return record


def _entries(items: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """Yields the entries of a list; one that is no object becomes {}."""
    return (item if isinstance(item, dict) else {} for item in items)
