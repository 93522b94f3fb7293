"""The files that commands write. A command checks their places before its work; errors name the files."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import aligndraw
from aligndraw.cli.failure import Failure, failing
from aligndraw.data import CaptionedImages
from aligndraw.data.coco import CAPTIONS_PER_IMAGE
from aligndraw.files import atomic_write
from aligndraw.model import Drawing
from aligndraw.pipelines import SHIPPED, Pipeline
from aligndraw.viz import Captioned, check_range, contact_sheet, save_png

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


def model_name(folder: Path | None) -> str:
    """Returns the name of the model of --model in messages and files."""
    return f"shipped {SHIPPED.name}" if folder is None else str(folder)


def draw_one_by_one(pipeline: Pipeline, captions: Sequence[str], n: int = 1, **options: Any) -> list[Drawing]:
    """Draws each caption by itself, so that its pictures do not depend on other captions, to the bit.

    Options of `draw`.
    """
    return [pipeline.draw([caption], n, **options) for caption in captions]


def write_sheet(
    path: Path,
    captions: Sequence[tuple[str, str]],
    drawings: Sequence[Drawing],
    *,
    pipeline: Pipeline,
    model: str,
    seed: int = 0,
    temperature: float = 1.0,
    steps: int | None = None,
) -> None:
    """Writes a PNG sheet of the pictures of captions, each caption with a remark or "".

    Args:
        drawings: one per caption, from `draw_one_by_one`.
        pipeline, model: that drew them, and the model's name.
        seed, temperature, steps: the options of the drawings.
    """
    blocks = [
        Captioned(caption, drawing.images.cpu().numpy(), remark)
        for (caption, remark), drawing in zip(captions, drawings, strict=True)
    ]
    with failing(ValueError):  # pictures of other than 1 or 3 channels
        sheet = contact_sheet(blocks)
    texts = {
        "Software": f"aligndraw {aligndraw.__version__}",
        "Caption": "\n".join(caption for caption, _ in captions),
        "Seed": str(seed),
        "Temperature": f"{temperature:g}",
        "Steps": str(steps or pipeline.model.config.steps),
        "Model": os.fsencode(model).decode("utf-8", "replace"),
    }
    with writing(path):
        save_png(sheet, path, texts)


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


def write_archive(path: Path, captions: Sequence[str], n: int, images: Sequence[Tensor]) -> None:
    """Writes an .npz archive of n pictures per caption.

    It holds `images` float32 [n len(captions), C, H, W] in [0, 1] and `captions`, one per picture: first the n pictures
    of the first caption, then those of the second, ...
    """
    arrays = np.concatenate([part.float().cpu().numpy() for part in images])
    with failing(ValueError):
        check_range(arrays)
    with writing(path), atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=arrays, captions=np.repeat(captions, n))
