"""`aligndraw data`: stores pictures and captions of any origin in a folder that training reads."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_seed, fraction, int_at_least, new_folder
from aligndraw.cli.outputs import write_stored_sheet, writing
from aligndraw.cli.telling import tell
from aligndraw.data.caption_files import read_captions
from aligndraw.data.captioned import CaptionedImages, file_checksum
from aligndraw.data.captioned_writer import SKIPPED
from aligndraw.data.coco import CAPTIONS_PER_IMAGE, read_coco
from aligndraw.data.image_files import MAX_SKIPPED, Collection, store_collection
from aligndraw.data.released import store_released
from aligndraw.data.sets import REQUIRED_SPLITS
from aligndraw.data.shards import find_shards, store_shards
from aligndraw.data.stored_scenes import export_scenes, store_scenes
from aligndraw.data.vocabulary_report import REPORT, VocabularyReport
from aligndraw.files import atomic_write
from aligndraw.json_files import digest_of
from aligndraw.printable import counted, one_line

MAX_SKIPPED_LINES = 3  # shown on the terminal
SHEET = "sheet.png"  # a contact sheet beside the stored images


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    sets = parser.add_subparsers(title="data sets", metavar="DATASET", required=True)
    parser = _parser(
        sets, "scenes", "colour pictures of one object before a sky and a ground, painted by this program", _scenes
    )
    parser.add_argument(
        "--images", type=int_at_least(1), default=20_000, metavar="N", help="training images [%(default)s]"
    )
    parser.add_argument(
        "--captions",
        type=int_at_least(1),
        default=CAPTIONS_PER_IMAGE,
        metavar="N",
        help="captions per picture [%(default)s]",
    )
    add_seed(parser, "seed of the scenes")
    parser.add_argument(
        "--coco", type=Path, metavar="DIR", help="also export them in COCO's format: PNG files and JSON"
    )

    parser = _parser(sets, "coco", "COCO's images and caption annotations", _coco)
    _add_images(parser)
    parser.add_argument(
        "--annotations",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="captions_train2014.json captions_val2014.json; validation and test images are drawn from the last file, "
        "and a single file supplies training images, too",
    )
    parser.add_argument(
        "--captions",
        type=int_at_least(1),
        default=CAPTIONS_PER_IMAGE,
        metavar="N",
        help="captions per image, the first ones [%(default)s]",
    )

    parser = _parser(sets, "folder", "any images with captions", _folder)
    _add_images(parser)
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="PATH",
        help=".csv, .tsv, .txt or .jsonl with file_name and caption, and split, if the images are divided already; or "
        "a folder with metadata.csv, metadata.jsonl or a .txt per image [the folder of the images]",
    )

    parser = _parser(
        sets, "webdataset", "tar shards of images with captions, as the package webdataset writes them", _shards
    )
    parser.add_argument(
        "--shards",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help=".tar files, or folders with them; names tell the split, such as train-0001.tar or val/0001.tar [the last "
        "tenth is for testing, the tenth before for validation]",
    )
    _add_storing(parser)

    parser = _parser(sets, "released", "the arrays that the authors of alignDRAW released", _released)
    parser.add_argument(
        "--arrays",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with train-images-32x32.npy, dictionary.pkl, ...",
    )


def _parser(sets: Any, name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = sets.add_parser(name, help=what, description=f"Stores {what}.")
    parser.add_argument(
        "--out", type=new_folder, required=True, metavar="DIR", help="folder of the data set, made by this command"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace captioned images in the folder")
    parser.set_defaults(run=run)
    return parser


def _add_images(parser: argparse.ArgumentParser) -> None:
    """Adds the options of data sets of image files."""
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the image files")
    for split in ("validation", "test"):
        parser.add_argument(
            f"--{split}",
            type=int_at_least(0),
            metavar="N",
            help=f"{split} images, where the captions do not divide them already [a tenth, at most 5000]",
        )
    _add_storing(parser)


def _add_storing(parser: argparse.ArgumentParser) -> None:
    """Adds the options of how images are read and stored."""
    parser.add_argument(
        "--size",
        type=int_at_least(1),
        nargs=2,
        default=(32, 32),
        metavar=("H", "W"),
        help="size of the stored images [32 32]",
    )
    parser.add_argument(
        "--crop", action="store_true", help="crop images of other proportions to their centre [squash them]"
    )
    parser.add_argument(
        "--min-count",
        type=int_at_least(1),
        default=1,
        metavar="N",
        help="least count of a word in the training captions; rarer words become [UNK] [%(default)s]",
    )
    parser.add_argument(
        "--processes",
        "--threads",
        type=int_at_least(1),
        metavar="N",
        help="processes that read images [one per core]",
    )
    parser.add_argument(
        "--allow-skipped",
        type=fraction,
        default=MAX_SKIPPED,
        metavar="SHARE",
        help="share of the captions that may be left out because they, or their images, are unusable [%(default)s]",
    )


def _scenes(arguments: argparse.Namespace) -> int:
    given = {"images": arguments.images, "seed": arguments.seed, "captions": arguments.captions}
    coco: Path | None = arguments.coco
    if coco is not None and coco.exists():
        raise Failure(f"{coco} exists already: give another folder")
    with _bar(arguments.images) as bar, writing(arguments.out), failing(ValueError):
        data = store_scenes(arguments.out, overwrite=arguments.overwrite, on_images=bar.update, **given)
    if coco is not None:
        with writing(coco), failing(ValueError):
            export_scenes(coco, **given)
        tell(f"wrote {coco}: the same in COCO's format")
    return _print_summary(data, [])


def _coco(arguments: argparse.Namespace) -> int:
    with failing(ValueError):
        held_out = {"validation": arguments.validation, "test": arguments.test}
        files: list[Path] = arguments.annotations
        collection = read_coco(arguments.images, files, captions=arguments.captions, **held_out)
        plan = {"kind": "coco", "captions": arguments.captions, "annotations": [file_checksum(file) for file in files]}
    return _store(arguments, collection, {**plan, **held_out})


def _folder(arguments: argparse.Namespace) -> int:
    with failing(ValueError):
        held_out = {"validation": arguments.validation, "test": arguments.test}
        collection = read_captions(arguments.images, arguments.captions, **held_out)
        table: Path = arguments.captions or arguments.images
        checksum = digest_of(collection.captions) if table.is_dir() else file_checksum(table)
        plan = {"kind": "folder", "captions": checksum}
    return _store(arguments, collection, {**plan, **held_out})


def _released(arguments: argparse.Namespace) -> int:
    with _bar(None) as bar, writing(arguments.out), failing(ValueError):
        data = store_released(arguments.arrays, arguments.out, overwrite=arguments.overwrite, on_images=bar.update)
    return _print_summary(data, [])


def _shards(arguments: argparse.Namespace) -> int:
    with failing(ValueError):
        splits = find_shards(arguments.shards)
    with _resumable(), _bar(None) as bar, writing(arguments.out), failing(ValueError):
        data, collection = store_shards(
            splits,
            arguments.out,
            on_total=bar.reset,
            on_images=bar.update,
            **_settings(arguments),
        )
    if collection.unread:
        tell(f"members that are not opened: {one_line(', '.join(collection.unread)[:200])}", error=True)
    return _print_summary(data, collection.skipped, VocabularyReport.of(data))


def _store(arguments: argparse.Namespace, collection: Collection, plan: dict[str, Any]) -> int:
    images = len({(split, name) for split, pairs in collection.captions.items() for name, _ in pairs})
    with _resumable(), _bar(images) as bar, writing(arguments.out), failing(ValueError):
        data = store_collection(
            collection,
            arguments.out,
            {**plan, "images": str(arguments.images.absolute())},
            on_images=bar.update,
            **_settings(arguments),
        )
    if collection.unread:
        tell(f"columns that are not read: {one_line(', '.join(collection.unread)[:200])}", error=True)
    return _print_summary(data, collection.skipped, VocabularyReport.of(data))


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `store_collection` and `store_shards` that have an option of their name."""
    names = ("crop", "min_count", "processes", "overwrite", "allow_skipped")
    return {"size": tuple(arguments.size), **{name: getattr(arguments, name) for name in names}}


@contextmanager
def _resumable() -> Iterator[None]:
    """Tells after an interruption of the block how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        tell("", "the images read so far are kept: the same command resumes with them", error=True)
        raise


@contextmanager
def _bar(images: int | None) -> Iterator[tqdm]:
    with tqdm(total=images, unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar:
        yield bar


def _print_summary(data: CaptionedImages, skipped: list[str], report: VocabularyReport | None = None) -> int:
    """Prints the sizes of a data set and the omissions, and writes the report; returns the exit status."""
    for line in skipped[:MAX_SKIPPED_LINES]:
        tell(f"skipped: {one_line(line)}", error=True)
    if len(skipped) > MAX_SKIPPED_LINES:
        tell(f"skipped {len(skipped) - MAX_SKIPPED_LINES:,} more: see {data.folder / SKIPPED}", error=True)
    for split, size in data.sizes.items():
        tell(f"{split}: {counted(size['images'], 'image')} with {counted(size['captions'], 'caption')}")
    shape = " x ".join(map(str, data.image_shape[1:]))
    tell(f"wrote {data.folder}: {shape} pixels, {counted(len(data.vocabulary), 'word')}")
    if report is not None:
        with writing(data.folder / REPORT), atomic_write(data.folder / REPORT) as path:
            path.write_text(report.text(), encoding="utf-8")
        tell(f"{report.summary()}: see {data.folder / REPORT}")
    shown = write_stored_sheet(data.folder / SHEET, data)
    tell(f"look at {data.folder / SHEET}: {shown} of the stored images with their captions")
    missing = [split for split in REQUIRED_SPLITS if split not in data.sizes]
    if missing:
        tell(f"it has no {missing[0]} split, which training needs")
        return 0
    tell(f"next: aligndraw train captioned --data {shlex.quote(str(data.folder))}")
    return 0
