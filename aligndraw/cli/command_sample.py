"""`aligndraw sample`: captions to a sheet of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_seed, chosen_backends, number, whole
from aligndraw.cli.outputs import check_file, write_sheet, writing
from aligndraw.pipelines import SHIPPED, Pipeline
from aligndraw.viz import attention_figure, save_animation, save_png

MOST = 4096  # pictures on a sheet: more make a file that few programs open


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    parser = commands.add_parser(
        "sample",
        help="draw pictures of captions",
        description="Draws pictures of captions and writes them as one PNG file.",
        epilog='example: aligndraw sample "the digit seven is at the bottom left of the image"',
    )
    parser.add_argument("captions", nargs="+", metavar="CAPTION", help="in quotes; words as in training")
    parser.add_argument(
        "-n", type=whole(1), default=16, metavar="N", help="pictures of each caption [%(default)s]"
    )
    parser.add_argument(
        "-o", type=_png, default=Path("out.png"), metavar="FILE", help="a .png file [%(default)s]"
    )
    add_seed(parser, "picture i of a caption depends on the seed and i alone")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="folder of a model [the one that ships with the package]",
    )
    parser.add_argument(
        "--temperature",
        type=number(0),
        default=1.0,
        metavar="X",
        help="factor of the spread of the latents: 0 draws the mean [%(default)s]",
    )
    parser.add_argument(
        "--animate", type=_gif, metavar="FILE", help="also a .gif of the canvas over the steps, with the windows"
    )
    parser.add_argument(
        "--attention",
        type=_png,
        metavar="FILE",
        help="also a .png of the words' weights over the steps, for the first picture",
    )
    parser.add_argument("--steps", type=whole(1), metavar="T", help="drawing steps [as in training]")
    add_device(parser)
    parser.set_defaults(run=_run)


def _png(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"must end in .png, got {text!r}")
    return Path(text)


def _gif(text: str) -> Path:
    if not text.lower().endswith(".gif"):
        raise argparse.ArgumentTypeError(f"must end in .gif, got {text!r}")
    return Path(text)


def _run(arguments: argparse.Namespace) -> int:
    captions = arguments.captions
    total = arguments.n * len(captions)
    if total > MOST:
        raise Failure(f"a sheet must have at most {MOST} pictures, got {total}: lower -n", status=2)
    for path in (arguments.o, arguments.animate, arguments.attention):
        if path is not None:
            check_file(path)
    chosen_backends(arguments.device)
    with failing(ValueError):
        pipeline = Pipeline.load(arguments.model, arguments.device)
    with failing(ValueError, status=2):
        for caption in captions:
            pipeline.vocabulary.encode(caption)
    if arguments.attention is not None and not pipeline.model.config.align:
        raise Failure("--attention needs a model that attends to words; this one was trained with --no-align", status=2)
    write_sheet(
        arguments.o,
        pipeline,
        [(caption, "") for caption in captions],
        model=str(arguments.model or f"shipped {SHIPPED.name}"),
        n=arguments.n,
        seed=arguments.seed,
        temperature=arguments.temperature,
        steps=arguments.steps,
    )
    several = f" of {len(captions)} captions" if len(captions) > 1 else ""
    _write_steps(arguments, pipeline)
    print(f"wrote {arguments.o}: {total} picture{'s' * (total > 1)}{several}, seed {arguments.seed}")
    return 0


def _write_steps(arguments: argparse.Namespace, pipeline: Pipeline) -> None:
    """How the pictures came about, where that is asked for."""
    if arguments.animate is None and arguments.attention is None:
        return
    drawing = pipeline.draw(
        arguments.captions, arguments.n, arguments.seed, arguments.temperature, arguments.steps
    )
    if arguments.animate is not None:
        with writing(arguments.animate):
            save_animation(drawing, arguments.animate)
        print(f"wrote {arguments.animate}: the canvas after each step, with the window of the write")
    if arguments.attention is not None:
        first = arguments.captions[0]
        words = pipeline.vocabulary.decode(pipeline.vocabulary.encode(first)).split()
        with writing(arguments.attention):
            save_png(attention_figure(drawing, 0, words), arguments.attention, {"Caption": first})
        print(f"wrote {arguments.attention}: how much each word of {first!r} weighed in each step")
