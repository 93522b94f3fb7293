"""`aligndraw sample`: draws captions, into a sheet of pictures or an archive of arrays."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aligndraw.cli.captions import check_readable, read_lines
from aligndraw.cli.command_sharpen import with_sharpener
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import (
    add_device,
    add_model,
    add_seed,
    add_sentences,
    describe_backends,
    float_at_least,
    int_at_least,
    path_with_suffix,
)
from aligndraw.cli.outputs import check_files, draw_one_by_one, model_name, write_archive, write_sheet, writing
from aligndraw.cli.telling import tell
from aligndraw.model import Drawing
from aligndraw.pipelines import Pipeline
from aligndraw.viz import attention_figure, attention_panel, save_animation, save_png

MAX_PICTURES = 4096  # on a sheet: few programs open larger files
BATCH_SIZE = 100  # pictures per batch of an archive


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.description = (
        "Draws pictures of captions and writes them as one PNG file, or as arrays into an .npz archive."
    )
    parser.epilog = 'example: aligndraw sample "the digit seven is at the bottom left of the image"'
    parser.add_argument(
        "captions", nargs="*", metavar="CAPTION", help="a caption in quotes, in words of the training captions"
    )
    parser.add_argument(
        "--captions-file", type=Path, metavar="FILE", help="UTF-8 text with one caption per line, instead"
    )
    parser.add_argument("-n", type=int_at_least(1), metavar="N", help="pictures per caption [16; from a file 1]")
    parser.add_argument(
        "-o",
        type=path_with_suffix(".png", ".npz"),
        default=Path("out.png"),
        metavar="FILE",
        help="a .png sheet; or an .npz archive of images, float32 [n, C, H, W] in [0, 1], and captions [%(default)s]",
    )
    add_seed(parser, "seed of the noise; picture i of a caption depends on the seed and i alone")
    add_model(parser)
    add_sentences(parser)
    parser.add_argument(
        "--temperature",
        type=float_at_least(0),
        default=1.0,
        metavar="X",
        help="factor of the standard deviation of the latents; 0 draws the mean [%(default)s]",
    )
    parser.add_argument(
        "--animate",
        type=path_with_suffix(".gif"),
        metavar="FILE",
        help="also write a .gif of the canvas over the steps, with the windows",
    )
    parser.add_argument(
        "--attention",
        type=path_with_suffix(".png"),
        metavar="FILE",
        help="also write a .png of the attention weights over the steps, for the first picture",
    )
    parser.add_argument("--steps", type=int_at_least(1), metavar="T", help="drawing steps [as in training]")
    parser.add_argument(
        "--sharpen", type=Path, metavar="DIR", help="sharpen the pictures with the sharpener in this folder"
    )
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    file: Path | None = arguments.captions_file
    if (file is None) != bool(arguments.captions):
        raise Failure("captions must be given one way: in quotes, or with --captions-file FILE", status=2)
    captions: list[str] = arguments.captions if file is None else read_lines(file)
    n = arguments.n or (16 if file is None else 1)
    total = n * len(captions)
    archive = arguments.o.name.lower().endswith(".npz")
    if not (archive and arguments.animate is arguments.attention is None) and total > MAX_PICTURES:
        rule = f"a sheet must have at most {MAX_PICTURES} pictures, got {total}"
        raise Failure(f"{rule}: lower -n, or -o FILE.npz", status=2)
    check_files({"-o": arguments.o, "--animate": arguments.animate, "--attention": arguments.attention})
    describe_backends(arguments.device)
    with failing(ValueError):
        pipeline = Pipeline.load(arguments.model, arguments.device, arguments.sentences)
        if arguments.sharpen is not None:
            pipeline = with_sharpener(pipeline, arguments.sharpen, arguments.device)
    check_readable(pipeline.reader, enumerate(captions, 1), file)
    config = pipeline.model.config
    if arguments.attention is not None and not pipeline.model.attends:
        raise Failure(f"--attention needs a model that attends to words, got a {config.title}", status=2)
    for option in ("animate", "steps"):
        if getattr(arguments, option) is not None and not config.in_steps:
            raise Failure(f"--{option} needs a model that draws in steps, got a {config.title}", status=2)
    options = {k: getattr(arguments, k) for k in ("seed", "temperature", "steps")}
    if archive and arguments.animate is arguments.attention is None:
        # Batches of captions are faster, but the rounding of a picture may depend on its batch.
        size = 1 if pipeline.model.mixes_captions else max(1, BATCH_SIZE // n)
        batches = [captions[start : start + size] for start in range(0, len(captions), size)]
        write_archive(arguments.o, captions, n, [pipeline.draw(batch, n, **options).images for batch in batches])
    else:
        _write_all(arguments, pipeline, captions, n, draw_one_by_one(pipeline, captions, n, **options), **options)
    several = f" of {len(captions)} captions" if len(captions) > 1 else ""
    tell(f"wrote {arguments.o}: {total} picture{'s' * (total > 1)}{several}, seed {arguments.seed}")
    return 0


def _write_all(
    arguments: argparse.Namespace,
    pipeline: Pipeline,
    captions: Sequence[str],
    n: int,
    drawings: Sequence[Drawing],
    **options: Any,
) -> None:
    """Writes the files that the command line names, from the same drawings."""
    if arguments.o.name.lower().endswith(".npz"):
        write_archive(arguments.o, captions, n, [drawing.images for drawing in drawings])
    else:
        model = model_name(arguments.model)
        remarks = [(caption, "") for caption in captions]
        write_sheet(arguments.o, remarks, drawings, pipeline=pipeline, model=model, **options)
    if arguments.animate is not None:
        with writing(arguments.animate):
            save_animation(Drawing.joined(drawings), arguments.animate)
        tell(f"wrote {arguments.animate}: the canvas after each step, with the window of the write")
    if arguments.attention is not None:
        words = pipeline.vocabulary.decode(pipeline.vocabulary.encode(captions[0])).split()
        with writing(arguments.attention):
            figure = attention_figure([attention_panel(drawings[0], 0, words)])
            save_png(figure, arguments.attention, {"Caption": captions[0]})
        tell(f"wrote {arguments.attention}: the weight of each word of {captions[0]!r} in each step")
