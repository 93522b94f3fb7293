"""Scenes stored as captioned images, and exported as COCO's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from aligndraw.arguments import check_int
from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.captioned_writer import CaptionedWriter
from aligndraw.data.coco import write_coco
from aligndraw.data.scene import SIDE
from aligndraw.data.scenes import SceneExamples, Scenes, Split
from aligndraw.files import atomic_write, sweep

CHUNK_SIZE = 500  # pictures painted and stored together
EPOCH_SIZE = 20_000  # scenes drawn together


def scene_splits(images: int, seed: int = 0) -> dict[str, Sequence[SceneExamples]]:
    """Returns `images` training scenes; and a tenth, at most 1,000, for validation, test and held-out combinations.

    Returns:
        for each split its scenes, in pieces of `EPOCH_SIZE` that are drawn when they are asked for: piece k is epoch k.

    Raises:
        ValueError: images is below 1.
    """
    few = min(1000, max(1, images // 10))
    check_int("images", images, 1)
    sources = {split: (Scenes(split), images if split == "train" else few) for split in get_args(Split)}
    sources["held_out"] = (Scenes("test", "held_out"), few)
    return {split: _Pieces(source, seed, size) for split, (source, size) in sources.items()}


class _Pieces(Sequence[SceneExamples]):
    """The scenes of a split, piece by piece."""

    def __init__(self, source: Scenes, seed: int, size: int) -> None:
        self._source, self._seed, self._size = source, seed, size

    def __len__(self) -> int:
        return -(-self._size // EPOCH_SIZE)

    def __getitem__(self, piece: Any) -> Any:
        if not 0 <= piece < len(self):
            raise IndexError(f"piece must be in 0…{len(self) - 1}, got {piece}")
        return self._source.epoch(self._seed, piece, min(EPOCH_SIZE, self._size - piece * EPOCH_SIZE))


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
        for split, pieces in scene_splits(images, seed).items():
            for number, examples in enumerate(pieces):
                texts = captions_per_scene(examples, captions)
                for start in range(0, len(examples), CHUNK_SIZE):
                    chunk = slice(start, start + CHUNK_SIZE)
                    pictures = examples.pictures(chunk)
                    writer.add(split, f"{number} {start}", pictures, texts[chunk])
                    on_images(len(pictures))
        return writer.finish()


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
        for split, pieces in scene_splits(images, seed).items():
            pictures = np.concatenate([examples.pictures(slice(None)) for examples in pieces])
            texts = [texts for examples in pieces for texts in captions_per_scene(examples, captions)]
            write_coco(new, split, pictures, texts)
        _check_absent(folder)


def _check_absent(folder: Path) -> None:
    if folder.exists():
        raise DataError(f"{folder} exists already: give another folder")


def captions_per_scene(examples: SceneExamples, captions: int) -> list[tuple[str, ...]]:
    """Returns `captions` captions of each scene, its own first."""
    return list(zip(examples.captions(), *(examples.reworded(k).captions() for k in range(1, captions))))
