"""`aligndraw sharpen`: sharpens pictures that were drawn before."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import aligndraw
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_model, add_sentences, model_source
from aligndraw.cli.outputs import check_file, writing
from aligndraw.cli.telling import tell
from aligndraw.data.image_pixels import ImageError, read_levels, suppress_pillow_warnings
from aligndraw.files import atomic_write
from aligndraw.lapgan.captioned import CaptionedSharpener
from aligndraw.lapgan.examples import ArchivedExamples
from aligndraw.pipelines import Pipeline
from aligndraw.pipelines.pipeline import shape_text
from aligndraw.printable import counted
from aligndraw.text import CaptionError
from aligndraw.training.precision import resolve_precision
from aligndraw.viz import save_png

SENTENCES = "sentence encoder of the captions; caption is the language model of --model"
BATCH_SIZE = 100  # pictures sharpened together


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.description = (
        "Adds details to pictures, given their captions, with a sharpener of `aligndraw train sharpener`."
    )
    parser.epilog = "example: aligndraw sharpen out.npz --sharpener sharpener -o sharp.npz"
    parser.add_argument(
        "input",
        type=Path,
        metavar="FILE",
        help="an .npz archive of `aligndraw sample -o FILE.npz`; or a .png of one picture, with --caption",
    )
    parser.add_argument("--sharpener", type=Path, required=True, metavar="DIR", help="folder of the sharpener")
    parser.add_argument("-o", type=Path, required=True, metavar="FILE", help="file to write, of the same kind")
    parser.add_argument("--caption", metavar="TEXT", help="caption of the picture in a .png file")
    add_sentences(parser, SENTENCES, "as the sharpener was trained")
    add_model(parser)
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="dtype of the convolutions; auto is bfloat16 where that is faster (CPUs with AVX512_BF16 or AMX), else "
        "float32 [%(default)s]",
    )
    add_device(parser)
    parser.set_defaults(run=_run)


def with_shared_sharpener(pipelines: Mapping[str, Pipeline], folder: Path) -> dict[str, Pipeline]:
    """Returns the pipelines with one sharpener for all, opened with the first model that can read its captions."""
    refusal = None
    for pipeline in pipelines.values():
        try:
            sharpen = pipeline.with_sharpener(folder).sharpen
        except ValueError as error:
            refusal = refusal or error
            continue
        return {name: dataclasses.replace(other, sharpen=sharpen) for name, other in pipelines.items()}
    assert refusal is not None  # there is at least one model
    raise refusal


def _dtype(arguments: argparse.Namespace) -> torch.dtype:
    """Returns the dtype of the convolutions."""
    name = arguments.dtype
    if name == "auto":
        fast = resolve_precision(torch.device(arguments.device), "auto") == "bf16"
        name = "bfloat16" if fast else "float32"
    return getattr(torch, name)  # type: ignore[no-any-return]


def _run(arguments: argparse.Namespace) -> int:
    kind = arguments.input.suffix.lower()
    if kind not in (".npz", ".png") or arguments.o.suffix.lower() != kind:
        raise Failure(
            f"input and -o must both end in .npz, or both in .png, got {arguments.input} and {arguments.o}", status=2
        )
    if (kind == ".png") != (arguments.caption is not None):
        raise Failure("--caption TEXT must be given with a .png file, and with no other", status=2)
    check_file(arguments.o)
    with failing(ValueError, FileNotFoundError):
        pipeline = Pipeline.from_pretrained(model_source(arguments), arguments.device, sharpen=False)
        sharpen = CaptionedSharpener.load(
            arguments.sharpener,
            pipeline.model.language,
            pipeline.vocabulary,
            sentences=arguments.sentences,
            dtype=_dtype(arguments),
            device=arguments.device,
        )
        if kind == ".npz":
            examples = ArchivedExamples(arguments.input)
            images, captions = examples.images, examples.captions
        else:
            images, captions = _picture(arguments.input, sharpen.config.channels), [arguments.caption]
        wanted, got = (sharpen.config.channels, *sharpen.config.image_size), tuple(images.shape[1:])
        if got != wanted:
            must = f"must hold pictures {shape_text(wanted)}, those of the sharpener"
            raise Failure(f"{arguments.input} {must}, got {shape_text(got)}")
        try:
            sharpen.sentences(captions)
        except CaptionError as error:
            raise Failure(f"{arguments.input}: {error}" if kind == ".npz" else str(error)) from error
        parts = [
            sharpen(captions[i : i + BATCH_SIZE], images[i : i + BATCH_SIZE].to(arguments.device)).cpu()
            for i in range(0, len(images), BATCH_SIZE)
        ]
    sharp = torch.cat(parts).numpy()
    if kind == ".npz":
        with writing(arguments.o), atomic_write(arguments.o) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=sharp, captions=np.array(captions))
    else:
        pixels = np.rint(sharp[0] * 255).astype(np.uint8)
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        texts = {"Software": f"aligndraw {aligndraw.__version__}", "Caption": captions[0]}
        with writing(arguments.o):
            save_png(image, arguments.o, texts)
    tell(f"wrote {arguments.o}: {counted(len(sharp), 'picture')}, sharpened")
    return 0


def _picture(path: Path, channels: int) -> torch.Tensor:
    """Returns a .png file as [1, C, H, W] in [0, 1]."""
    try:
        with suppress_pillow_warnings():
            levels = read_levels(path, channels)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {path}") from error
    except OSError as error:
        raise ValueError(f"cannot sharpen {path}: {error.strerror}") from error
    except ImageError as error:
        raise ValueError(f"cannot sharpen {path}: {error}") from error
    return torch.from_numpy(levels)[None]
