"""`aligndraw sample`: draws captions, into a sheet of pictures or an archive of arrays."""

from __future__ import annotations

import argparse
from pathlib import Path

from aligndraw.cli.captions import check_readable, read_lines, tell_quotes, tell_remarks
from aligndraw.cli.choosing import shipped_model_for
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import (
    add_device,
    add_model,
    add_seed,
    add_sentences,
    describe_backends,
    float_at_least,
    int_at_least,
    open_pipeline,
    path_with_suffix,
)
from aligndraw.cli.outputs import check_files, draw, draw_one_by_one, writing
from aligndraw.cli.telling import tell
from aligndraw.pipelines import Drawing
from aligndraw.pipelines.drawing import write_archive
from aligndraw.printable import counted

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
    add_model(parser, "the one that ships and knows the words")
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
    lines = {i: line for i, line in enumerate(arguments.captions if file is None else read_lines(file), 1)}
    if file is not None:
        lines = {i: line for i, line in lines.items() if line}  # blank lines may part captions
    captions = list(lines.values())
    if not captions:
        raise Failure(f"{file} must hold at least one caption, got none", status=2)
    n = arguments.n or (16 if file is None else 1)
    total = n * len(captions)
    archive = arguments.o.name.lower().endswith(".npz")
    if not (archive and arguments.animate is arguments.attention is None) and total > MAX_PICTURES:
        rule = f"a sheet must have at most {MAX_PICTURES} pictures, got {total}"
        raise Failure(f"{rule}: lower -n, or -o FILE.npz", status=2)
    check_files({"-o": arguments.o, "--animate": arguments.animate, "--attention": arguments.attention})
    describe_backends(arguments.device)
    tell_quotes(arguments.captions)
    default, chosen = shipped_model_for(lines, file) if arguments.model is None else (None, "")
    with failing(ValueError, FileNotFoundError):
        pipeline = open_pipeline(arguments, sharpen=arguments.sharpen is None, default=default)
        if arguments.sharpen is not None:
            pipeline = pipeline.with_sharpener(arguments.sharpen)
    check_readable(pipeline.reader, lines.items(), file)
    for option, feature in (("attention", "attention"), ("animate", "steps"), ("steps", "steps")):
        if getattr(arguments, option) is not None and (fault := pipeline.lacks(feature)):
            raise Failure(f"--{option} {fault}", status=2)
    if chosen:
        tell(chosen, error=True)
    tell_remarks(pipeline.remark, captions)
    options = {k: getattr(arguments, k) for k in ("seed", "temperature", "steps")}
    if archive and arguments.animate is arguments.attention is None:
        # Batches of captions are faster, but the rounding of a picture may depend on its batch.
        size = 1 if pipeline.model.mixes_captions else max(1, BATCH_SIZE // n)
        batches = [captions[start : start + size] for start in range(0, len(captions), size)]
        parts = [draw(pipeline, batch, n, **options).arrays() for batch in batches]
        with failing(ValueError), writing(arguments.o):
            write_archive(arguments.o, captions, parts)
    else:
        options["return_attention"] = arguments.attention is not None
        _write_all(arguments, draw_one_by_one(pipeline, captions, n, **options))
    several = f" of {counted(len(captions), 'caption')}" if len(captions) > 1 else ""
    tell(f"wrote {arguments.o}: {counted(total, 'picture')}{several}, seed {arguments.seed}")
    return 0


def _write_all(arguments: argparse.Namespace, drawing: Drawing) -> None:
    """Writes the files that the command line names, from the same drawing."""
    with failing(ValueError), writing(arguments.o):  # pictures of other than 1 or 3 channels
        drawing.save(arguments.o)
    if arguments.animate is not None:
        with writing(arguments.animate):
            drawing.animate(arguments.animate)
        tell(f"wrote {arguments.animate}: the canvas after each step, with the window of the write")
    if arguments.attention is not None:
        with writing(arguments.attention):
            drawing.plot(arguments.attention)
        caption = drawing.captions[0]
        tell(f"wrote {arguments.attention}: the weight of each word of {caption!r} in each step")
