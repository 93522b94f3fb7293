"""`aligndraw export`: makes a folder to share of a trained model."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import torch

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_sentences, new_folder
from aligndraw.cli.outputs import draw_one_by_one, writing
from aligndraw.cli.telling import tell
from aligndraw.data import DataSet
from aligndraw.pipelines import Pipeline
from aligndraw.pipelines.card import CARD, KNOWN, PICTURES, README, scores_of, size_of
from aligndraw.pipelines.runs import training_pairs
from aligndraw.provenance import training_data
from aligndraw.text import CaptionError

_EACH = 4  # pictures of each caption on the sheet of the card


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.description = (
        "Writes a model, with its sharpener, into a folder to share: weights in float16, a model card with pictures, "
        "checksums. `Pipeline.from_pretrained` and --model read it."
    )
    parser.epilog = "example: aligndraw export scenes --sharpener sharpener --out my-scenes"
    parser.add_argument("model", metavar="MODEL", help="a model, as for `aligndraw sample --model`")
    parser.add_argument("--out", type=new_folder, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--sharpener", type=Path, metavar="DIR", help="folder of a sharpener for its pictures")
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="dtype of the stored floats [%(default)s]"
    )
    known = "known for MNIST with captions and scenes"
    parser.add_argument("--draws", metavar="TEXT", help=f"what the model draws, for the card [{known}]")
    parser.add_argument(
        "--caption", action="append", metavar="TEXT", help=f"a caption that works; repeat the option [{known}]"
    )
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", help="numbers for the card, which `aligndraw eval --json FILE` wrote"
    )
    parser.add_argument(
        "--fact",
        action="append",
        type=_fact,
        default=[],
        metavar="NAME=VALUE",
        help="a line for the table of the card, such as 'hardware=two cores'; repeat the option",
    )
    add_sentences(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if out.exists():
        raise Failure(f"{out} is there already: give another folder")
    with failing(ValueError, FileNotFoundError):
        pipeline = Pipeline.from_pretrained(arguments.model, sentences=arguments.sentences)
        if arguments.sharpener is not None:
            pipeline = pipeline.with_sharpener(arguments.sharpener)
        facts = {} if arguments.scores is None else scores_of(arguments.scores)
    facts |= dict(arguments.fact)
    captions, data = arguments.caption, _data(pipeline)
    shown = [(caption, "") for caption in captions or ()]
    if data is not None:
        if "word_pairs" not in pipeline.notes and (pairs := training_pairs(data.source)):
            pipeline.notes = {**pipeline.notes, "word_pairs": pairs.to_dict()}
        shown = shown or list(data.preview_captions)
        if data.name not in KNOWN and captions is None:
            captions = [caption for caption, _ in shown[:3]]
    about: dict[str, Any] = {"draws": arguments.draws, "captions": captions, "facts": facts}
    try:
        if shown:
            drawing = draw_one_by_one(pipeline, [caption for caption, _ in shown], _EACH)
            about["pictures"] = drawing.sheet([remark for _, remark in shown])
        with writing(out):
            pipeline.save_pretrained(out, dtype=getattr(torch, arguments.dtype), **about)
    except CaptionError as error:
        raise Failure(f"--caption: {error}", status=2) from error
    except ValueError as error:
        raise Failure(str(error)) from error
    sheet = f", {PICTURES}" if shown else ""
    tell(f"wrote {out}: {size_of(out)} in {arguments.dtype}, with {README}{sheet} and {CARD}")
    tell(f'next: aligndraw sample "..." --model {shlex.quote(str(out))}')
    return 0


def _fact(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def _data(pipeline: Pipeline) -> DataSet | None:
    """Returns the data of the training, or tells on stderr why there are none."""
    try:
        return training_data(pipeline.notes, 1)
    except (ValueError, OSError) as error:
        tell(f"aligndraw: warning: the card lacks what the training data would tell: {error}", error=True)
        return None
