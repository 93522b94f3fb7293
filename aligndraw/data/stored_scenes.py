"""Scenes stored as captioned images, and exported as COCO's files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.captioned_writer import CaptionedWriter
from aligndraw.data.coco import write_coco
from aligndraw.data.scene import SIDE
from aligndraw.data.scenes import SceneExamples, Scenes, Split
from aligndraw.files import atomic_write, sweep

CHUNK_SIZE = 500  # pictures painted and stored together


def scene_splits(images: int, seed: int = 0) -> dict[str, SceneExamples]:
    """Returns `images` training scenes; and a tenth, at most 1,000, for validation, test and held-out combinations.

    Raises:
        ValueError: images is below 1.
    """
    few = min(1000, max(1, images // 10))
    splits = {split: Scenes(split).epoch(seed, size=images if split == "train" else few) for split in get_args(Split)}
    return {**splits, "held_out": Scenes("test", "held_out").epoch(seed, size=few)}


def store_scenes(
    folder: str | os.PathLike[str],
    images: int = 20_000,
    seed: int = 0,
    *,
    captions: int = 5,
    overwrite: bool = False,
    on_images: Callable[[int], object] = lambda images: None,
) -> CaptionedImages:
    """Stores the scenes of `scene_splits` as captioned images, each picture with several captions.

    Args:
        folder: where to.
        images: for training.
        seed: of the scenes.
        captions: per picture.
        overwrite: replaces captioned images in the folder.
        on_images: called with the number of images just done.

    Raises:
        DataError: the folder is taken.
        OSError: it cannot be written.
    """
    plan = {"kind": "scenes", "images": images, "seed": seed, "captions": captions}
    with CaptionedWriter(folder, (3, SIDE, SIDE), plan, overwrite=overwrite) as writer:
        pairs = {}
        for split, examples in scene_splits(images, seed).items():
            for start in range(0, len(examples), CHUNK_SIZE):
                pictures = examples.pictures(slice(start, start + CHUNK_SIZE))
                writer.store(split, [str(start + i) for i in range(len(pictures))], pictures)
                on_images(len(pictures))
            pairs[split] = [
                (str(i), text) for i, texts in enumerate(captions_per_scene(examples, captions)) for text in texts
            ]
        return writer.finish(pairs)


def export_scenes(folder: Path, images: int = 20_000, seed: int = 0, *, captions: int = 5) -> None:
    """Writes the scenes of `scene_splits` as PNG files with annotations in COCO's format.

    Raises:
        DataError: the folder exists.
        OSError: it cannot be written.
    """
    sweep(folder.parent)
    _check_absent(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as new:
        for split, examples in scene_splits(images, seed).items():
            write_coco(new, split, examples.pictures(slice(None)), captions_per_scene(examples, captions))
        _check_absent(folder)


def _check_absent(folder: Path) -> None:
    if folder.exists():
        raise DataError(f"{folder} exists already: give another folder")


def captions_per_scene(examples: SceneExamples, captions: int) -> list[tuple[str, ...]]:
    """Returns `captions` captions of each scene, its own first."""
    return list(zip(examples.captions(), *(examples.reworded(k).captions() for k in range(1, captions))))
