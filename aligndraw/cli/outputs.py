"""The files that commands write. A command checks their places before its work; errors name the files."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import aligndraw
from aligndraw.cli.failure import Failure
from aligndraw.data import CaptionedImages
from aligndraw.data.coco import CAPTIONS_PER_IMAGE
from aligndraw.pipelines import CaptionWarning, Drawing, Pipeline
from aligndraw.viz import Captioned, contact_sheet, save_png

FIRST_SPLIT_COUNT, OTHER_SPLIT_COUNT = 12, 4  # stored images on a sheet, of the first split and of each other
MAX_SIDE = 256  # pixels of a stored image on a sheet


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of writing in the block into a Failure that names the path, or the file below it."""
    try:
        yield
    except BrokenPipeError:  # of the terminal
        raise
    except OSError as error:
        place = Path(error.filename) if isinstance(error.filename, str) else path
        inside = path in place.parents and not place.relative_to(path).parts[0].startswith(".")  # no unfinished file
        raise Failure(f"cannot write {place if inside else path}: {error.strerror or error}") from error


def check_file(path: Path) -> None:
    """Raises Failure where the file cannot be written."""
    with writing(path):
        if path.is_dir():
            raise Failure(f"cannot write {path}: it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def check_files(paths: Mapping[str, Path | None]) -> None:
    """Raises Failure where one of the files of several options cannot be written, or two are the same."""
    options: dict[Path, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        check_file(path)
        other = options.setdefault(path.resolve(), option)
        if other != option:
            raise Failure(f"{other} and {option} must be different files, got {path} twice", status=2)


def draw(pipeline: Pipeline, captions: Sequence[str], n: int = 1, seed: int = 0, **options: Any) -> Drawing:
    """Draws captions together; no caption warns, since commands tell remarks themselves (`tell_remarks`).

    Options of a call of the pipeline.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptionWarning)
        return pipeline(captions, num_images_per_prompt=n, seed=seed, **options)


def draw_one_by_one(pipeline: Pipeline, captions: Sequence[str], n: int = 1, seed: int = 0, **options: Any) -> Drawing:
    """As `draw`, each caption by itself, so that its pictures do not depend on other captions, to the bit."""
    return Drawing.joined([draw(pipeline, [caption], n, seed, **options) for caption in captions])


def write_stored_sheet(path: Path, data: CaptionedImages) -> int:
    """Writes a PNG sheet of stored images, each with its first captions and its split; returns their number.

    The images are spread evenly over each split; large ones are shown in every k-th pixel.
    """
    blocks: list[Captioned] = []
    coarser = math.ceil(max(data.image_shape[1:]) / MAX_SIDE)
    for split, sizes in data.sizes.items():
        examples = data.split(split)
        count = min(sizes["images"], OTHER_SPLIT_COUNT if blocks else FIRST_SPLIT_COUNT)
        for row in np.linspace(0, sizes["images"] - 1, count).round().astype(np.int64):
            captions = examples.captions(np.flatnonzero(examples.image_index == row)[:CAPTIONS_PER_IMAGE])
            picture = examples.images[row : row + 1, :, ::coarser, ::coarser] / np.float32(255)
            blocks.append(Captioned(" / ".join(captions), picture, split))
    texts = {"Software": f"aligndraw {aligndraw.__version__}", "Caption": "\n".join(block.caption for block in blocks)}
    with writing(path):
        save_png(contact_sheet(blocks), path, texts)
    return len(blocks)
