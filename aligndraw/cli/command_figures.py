"""`aligndraw figures`: draws the figures of the paper with the user's models."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.captions import check_readable, read_lines, tell_remarks
from aligndraw.cli.command_sharpen import with_shared_sharpener
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.figure_captions import FigureCaption, Groups, default_captions
from aligndraw.cli.options import (
    add_device,
    add_model,
    add_seed,
    add_sentences,
    describe_backends,
    int_at_least,
    named_model,
    open_pipeline,
    path_with_suffix,
)
from aligndraw.cli.outputs import check_file, draw_one_by_one, writing
from aligndraw.cli.telling import tell
from aligndraw.evaluation.nearest import nearest_images
from aligndraw.pipelines import Drawing, Pipeline
from aligndraw.printable import counted
from aligndraw.provenance import training_images
from aligndraw.viz import Group, Row, attention_figure, attention_panel, changed_words, rows_figure, save_png

MAX_PICTURES = 64  # side by side: few programs open larger files

Pipelines = Mapping[str, Pipeline]


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.description = "Draws the figures of the paper, each as one PNG file."
    figures = parser.add_subparsers(title="figures", metavar="FIGURE", required=True)
    _add(figures, "novel", "novel compositions: several pictures of captions that training never shows", _novel)
    _add(figures, "swap", "word swaps: captions that differ in one word, drawn from the same noise", _swap)
    parser = _add(figures, "background", "background swaps, each picture above the nearest training image", _background)
    parser.add_argument(
        "--data",
        metavar="{scenes,mnist,DIR}",
        help="training data of the model: a name, or a folder that `aligndraw data` wrote [as the model's notes say]",
    )
    parser.add_argument(
        "--images",
        type=int_at_least(1),
        metavar="N",
        help="training images to search [all stored ones; of scenes and digits the first 20000]",
    )
    parser = _add(figures, "attention", "the canvas after some steps, with the weight of each word", _attention)
    parser.add_argument(
        "--at",
        type=int_at_least(1),
        nargs="+",
        metavar="T",
        help="steps to show, counted from 1 [eight, evenly spaced]",
    )
    _add(figures, "models", "one caption drawn by several models", _models, several=True)
    _add(figures, "sharpening", "pictures before and after sharpening (--sharpen)", _sharpening)


def _add(
    figures: Any,
    name: str,
    what: str,
    draw: Callable[[argparse.Namespace, Pipelines, Groups], Image.Image],
    several: bool = False,
) -> argparse.ArgumentParser:
    """Adds the parser of a figure, with the options of all figures."""
    parser: argparse.ArgumentParser = figures.add_parser(
        name, help=what, description=f"Draws {what}. Without captions it uses default ones in the model's words."
    )
    if several:
        parser.add_argument(
            "--models",
            type=named_model,
            nargs="+",
            required=True,
            metavar="NAME=MODEL",
            help="models, each with the name beside its pictures",
        )
    else:
        add_model(parser)
        add_sentences(parser)
    parser.add_argument(
        "--caption", action="append", metavar="TEXT", help="a caption in quotes; repeat the option for more"
    )
    parser.add_argument(
        "--captions-file",
        type=Path,
        metavar="FILE",
        help="UTF-8 text with one caption per line, instead; an empty line separates groups",
    )
    if draw is not _attention:
        parser.add_argument(
            "-n", type=int_at_least(1), default=8, metavar="N", help="pictures per caption [%(default)s]"
        )
    add_seed(parser, "seed of the noise; picture i of every caption depends on the seed and i alone")
    parser.add_argument(
        "--sharpen", type=Path, metavar="DIR", help="sharpen the pictures with the sharpener in this folder"
    )
    parser.add_argument(
        "-o",
        type=path_with_suffix(".png"),
        default=Path(f"{name}.png"),
        metavar="FILE",
        help="a .png file [%(default)s]",
    )
    add_device(parser)
    parser.set_defaults(run=_run, draw=draw)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if getattr(arguments, "n", 1) > MAX_PICTURES:
        raise Failure(
            f"-n must be at most {MAX_PICTURES} for a figure, got {arguments.n}: `aligndraw sample` draws more", 2
        )
    check_file(arguments.o)
    describe_backends(arguments.device)
    with failing(ValueError, FileNotFoundError):
        pipelines = _loaded(arguments)
    groups = _captions(arguments, pipelines)
    with failing(ValueError, FileNotFoundError):
        figure = arguments.draw(arguments, pipelines, groups)
    texts = {
        "Software": f"aligndraw {aligndraw.__version__}",
        "Caption": "\n".join(entry.caption for group in groups for entry in group),
        "Seed": str(arguments.seed),
        "Model": os.fsencode("\n".join(pipelines)).decode("utf-8", "replace"),
    }
    with writing(arguments.o):
        save_png(figure, arguments.o, texts)
    tell(f"wrote {arguments.o}: {figure.width} x {figure.height} pixels")
    return 0


def _loaded(arguments: argparse.Namespace) -> Pipelines:
    """Returns the pipelines by name, with the sharpener of --sharpen."""
    if hasattr(arguments, "models"):
        folders = dict(arguments.models)
        if len(folders) < len(arguments.models):
            raise Failure("--models must have different names: give them as NAME=MODEL", status=2)
        pipelines = {
            name: Pipeline.from_pretrained(folder, arguments.device, sharpen=False) for name, folder in folders.items()
        }
    else:
        pipeline = open_pipeline(arguments)
        pipelines = {pipeline.name: pipeline}
    return pipelines if arguments.sharpen is None else with_shared_sharpener(pipelines, arguments.sharpen)


def _captions(arguments: argparse.Namespace, pipelines: Pipelines) -> Groups:
    """Returns captions that every model can read, in groups to compare."""
    file: Path | None = arguments.captions_file
    if file is not None and arguments.caption is not None:
        raise Failure("captions must be given one way: with --caption, or with --captions-file FILE", status=2)
    first, *_ = pipelines.values()
    if file is None and arguments.caption is None:
        name = arguments.draw.__name__.removeprefix("_")
        groups = default_captions(name, first.vocabulary)
        lines = [entry.caption for group in groups for entry in group]
    else:
        lines = arguments.caption if file is None else read_lines(file)
        groups = [[FigureCaption(line) for line in part] for given, part in groupby(lines, bool) if given]
        if not groups:
            raise Failure(f"{file or '--caption'} must hold at least one caption, got none", status=2)
    for pipeline in pipelines.values():
        check_readable(pipeline.reader, ((i, line) for i, line in enumerate(lines, 1) if line), file)
        if not pipeline.sentences:
            tell_remarks(pipeline.vocabulary.remark, filter(None, lines))
    return groups


def _novel(arguments: argparse.Namespace, pipelines: Pipelines, groups: Groups) -> Image.Image:
    (pipeline,) = pipelines.values()
    rows = [
        Group([Row(entry.caption, _pictures(arguments, pipeline, entry.caption), entry.remark)])
        for group in groups
        for entry in group
    ]
    return rows_figure(f"Novel compositions. {_first(arguments)} of each caption, none chosen.", rows)


def _swap(arguments: argparse.Namespace, pipelines: Pipelines, groups: Groups) -> Image.Image:
    (pipeline,) = pipelines.values()
    heading = "Word swaps. Changed words are in colour; the pictures of a column have the same noise."
    return rows_figure(heading, [Group(_swapped(arguments, pipeline, group)) for group in groups])


def _background(arguments: argparse.Namespace, pipelines: Pipelines, groups: Groups) -> Image.Image:
    (pipeline,) = pipelines.values()
    name = arguments.data if arguments.data in (None, "scenes", "mnist") else "captioned"
    path = arguments.data if name == "captioned" else None
    images = training_images(pipeline.notes, arguments.images, name, path)
    drawn = [row for group in groups for row in _swapped(arguments, pipeline, group)]
    queries = np.rint(np.concatenate([row.pictures for row in drawn]) * 255).astype(np.uint8)
    if queries.shape[1:] != images.shape[1:]:
        raise ValueError(f"--data must be of images {list(queries.shape[1:])}, got {list(images.shape[1:])}")
    with tqdm(total=len(images), unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar:
        where, _ = nearest_images(queries, images, on_chunk=bar.update)
    found = images[where[:, 0]].astype(np.float32) / 255
    parts = found.reshape(len(drawn), arguments.n, *found.shape[1:])
    heading = (
        f"Background swaps. {_first(arguments)} of each caption, and below each of them the nearest of "
        f"{counted(len(images), 'training image')} by pixels."
    )
    label = "the nearest training images"
    return rows_figure(heading, [Group([row, Row(label, part)]) for row, part in zip(drawn, parts)])


def _attention(arguments: argparse.Namespace, pipelines: Pipelines, groups: Groups) -> Image.Image:
    (pipeline,) = pipelines.values()
    if fault := pipeline.lacks("attention"):
        raise Failure(f"the figure {fault}", status=2)
    panels = []
    for entry in (entry for group in groups for entry in group):
        drawing = _drawn(arguments, pipeline, entry.caption, 1)
        count = drawing.samples.canvases.shape[1]
        steps = arguments.at or np.linspace(1, count, min(8, count)).round().astype(int).tolist()
        panels.append(
            attention_panel(drawing.samples, 0, drawing.words[0], steps, title=entry.caption, remark=entry.remark)
        )
    return attention_figure(panels)


def _models(arguments: argparse.Namespace, pipelines: Pipelines, groups: Groups) -> Image.Image:
    sharpened = " They are sharpened." if arguments.sharpen else ""
    return rows_figure(
        f"{_first(arguments)} of a caption by each model, none chosen.{sharpened}",
        [
            Group([Row(name, _pictures(arguments, p, entry.caption)) for name, p in pipelines.items()], entry.caption)
            for group in groups
            for entry in group
        ],
    )


def _sharpening(arguments: argparse.Namespace, pipelines: Pipelines, groups: Groups) -> Image.Image:
    (pipeline,) = pipelines.values()
    if pipeline.sharpen is None:
        raise Failure("--sharpen DIR must be given: a sharpener that `aligndraw train sharpener` made", status=2)
    stages = {"as they are drawn": dataclasses.replace(pipeline, sharpen=None), "sharpened": pipeline}
    return rows_figure(
        f"Effect of sharpening. {_first(arguments)} of each caption, none chosen.",
        [
            Group([Row(stage, _pictures(arguments, p, entry.caption)) for stage, p in stages.items()], entry.caption)
            for group in groups
            for entry in group
        ],
    )


def _swapped(arguments: argparse.Namespace, pipeline: Pipeline, group: Sequence[FigureCaption]) -> list[Row]:
    """Returns one row per caption, with the words marked in which it differs from the rest of its group."""
    marks = changed_words([entry.caption for entry in group])
    return [
        Row(entry.caption, _pictures(arguments, pipeline, entry.caption), entry.remark, marked)
        for entry, marked in zip(group, marks)
    ]


def _pictures(arguments: argparse.Namespace, pipeline: Pipeline, caption: str) -> NDArray[np.float32]:
    return _drawn(arguments, pipeline, caption, arguments.n).arrays()


def _drawn(arguments: argparse.Namespace, pipeline: Pipeline, caption: str, n: int) -> Drawing:
    """Draws one caption by itself, so that its pictures do not depend on other captions, to the bit."""
    return draw_one_by_one(pipeline, [caption], n, arguments.seed)


def _first(arguments: argparse.Namespace) -> str:
    return "The first picture" if arguments.n == 1 else f"The first {counted(arguments.n, 'picture')}"
