"""Shared parts of the evaluation commands: options, a model with its data, and the file of results."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import aligndraw
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import (
    add_device,
    add_model,
    add_seed,
    add_sentences,
    float_at_least,
    int_at_least,
    open_pipeline,
)
from aligndraw.cli.outputs import writing
from aligndraw.cli.telling import tell
from aligndraw.data import CaptionedImages, CaptionedSplit, Examples, Scenes
from aligndraw.data.scene import SIDE
from aligndraw.evaluation.bound import EPSILON
from aligndraw.evaluation.features import FeatureNetwork
from aligndraw.evaluation.retrieval import MARGINAL, SHORTLIST, read_shortlists, shortlists
from aligndraw.evaluation.tables import Lists
from aligndraw.files import atomic_write
from aligndraw.model import PictureModel, has_bound
from aligndraw.pipelines import Pipeline
from aligndraw.pipelines.card import EVALUATION
from aligndraw.printable import counted
from aligndraw.text import UNKNOWN, Vocabulary

SPLITS = ("test", "validation")
COMBINATIONS = {"seen": "seen combinations", "held_out": "held-out combinations"}


def add_evaluation(
    parser: argparse.ArgumentParser, what: str, shipped: bool = False, splits: Sequence[str] | None = None
) -> None:
    """Adds --model, --sentences, --split, --seed, --json and --device.

    Args:
        what: the use of the pictures of the split, for the help.
        shipped: true where a model for the pictures ships with the package.
        splits: their names, where they are fixed.
    """
    if shipped:
        add_model(parser)
    else:
        parser.add_argument("--model", required=True, metavar="MODEL", help="a model, as for `aligndraw sample`")
    add_sentences(parser)
    parser.add_argument(
        "--split",
        choices=splits,
        default="test",
        metavar="{" + ",".join(splits) + "}" if splits else "NAME",
        help=f"pictures {what} [%(default)s]",
    )
    add_seed(parser, "seed of the examples and of the noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all results to this file")
    add_device(parser)


def add_sharpening(parser: argparse.ArgumentParser, what: str, bounds: bool = True) -> None:
    """Adds --sharpen and, for bounds, --sharpen-epsilon; `what` begins the help of --sharpen."""
    parser.add_argument("--sharpen", type=Path, metavar="DIR", help=f"{what} the sharpener in this folder")
    if bounds:
        add_sharpen_epsilon(parser)


def add_sharpen_epsilon(parser: argparse.ArgumentParser) -> None:
    """Adds --sharpen-epsilon, above 0 and below 0.5."""

    def parse(text: str) -> float:
        value = float_at_least(0)(text)
        if not 0 < value < 0.5:
            raise argparse.ArgumentTypeError(f"must be above 0 and below 0.5, got {text!r}")
        return value

    parser.add_argument(
        "--sharpen-epsilon",
        type=parse,
        default=EPSILON,
        metavar="E",
        help="after sharpening, means of pixels are clipped to [E, 1 - E] [%(default)s]",
    )


def add_shortlists(parser: argparse.ArgumentParser) -> None:
    """Adds --features and --shortlists, for `shortlist_function`."""
    lists = parser.add_mutually_exclusive_group()
    lists.add_argument(
        "--features",
        type=Path,
        metavar="DIR",
        help="folder of `aligndraw train features`, whose network measures the distance of pictures [pixels do]",
    )
    lists.add_argument(
        "--shortlists",
        type=Path,
        metavar="FILE",
        help=".npy of whole numbers [n, s]: the candidates of each of the n pictures",
    )


def add_marginal(parser: argparse.ArgumentParser) -> None:
    """Adds --marginal, of retrieval."""
    parser.add_argument(
        "--marginal",
        type=int_at_least(1),
        default=MARGINAL,
        metavar="R",
        help="training captions from which retrieval estimates log p(x) [%(default)s]",
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model with the data on which it is evaluated.

    Attributes:
        name: the model's, for messages.
        title: of the data.
        data: a folder of captioned images; None for scenes.
        words: the vocabulary of the data.
        split: that of --split; None for scenes.
    """

    name: str
    pipeline: Pipeline
    title: str
    data: CaptionedImages | None
    words: Vocabulary
    split: CaptionedSplit | None

    def read(self, examples: Examples) -> Examples:
        """Returns examples of the data in the form that the model takes."""
        return self.pipeline.read(examples, self.words)


def open_evaluation(arguments: argparse.Namespace) -> Evaluation:
    """Returns the model of --model, with the sharpener of --sharpen, and the captioned images of --data, or scenes.

    Raises:
        Failure: there is no such model, there are no such images, or they do not fit each other.
    """
    with failing(ValueError, FileNotFoundError):
        pipeline = open_pipeline(arguments)
        if arguments.sharpen is not None:
            pipeline = pipeline.with_sharpener(arguments.sharpen)
        if arguments.data is None:
            if arguments.split not in SPLITS:
                raise Failure(f"--split must be one of {', '.join(SPLITS)} for scenes, got {arguments.split}", status=2)
            title, words, shape = "scenes", Scenes.vocabulary, (3, SIDE, SIDE)
            data = split = None
        else:
            data = CaptionedImages.open(arguments.data)
            title, words, shape = f"captioned images of {arguments.data}", data.vocabulary, data.image_shape
            split = data.split(arguments.split)
    captions = words.words if split is None else split.all_captions()
    check_fits(pipeline.name, pipeline, title, shape, words, captions)
    return Evaluation(pipeline.name, pipeline, title, data, words, split)


def check_fits(
    name: str,
    pipeline: Pipeline,
    title: str,
    shape: tuple[int, int, int],
    words: Vocabulary,
    captions: Iterable[str],
) -> None:
    """Checks that a model fits data; one line on stderr names words of the captions that it reads as `[UNK]`.

    Args:
        title, shape, words: of the data: its name, C, H, W, and the vocabulary of its captions.
        captions: those that the model will read.

    Raises:
        Failure: the pictures have another shape, or the model lacks words and has no `[UNK]`.
    """
    config = pipeline.model.config
    got = (config.channels, *config.image_size)
    if got != shape:
        raise Failure(f"model {name} must be of pictures {list(shape)} for {title}, got {list(got)}")
    lacking = pipeline.unknown_words(captions, words)
    if not lacking:
        return
    shown = f"{counted(len(lacking), 'word')}, such as {', '.join(map(repr, lacking[:3]))}"
    if UNKNOWN not in pipeline.vocabulary.words:
        raise Failure(f"model {name} must know the words of {title}, but lacks {shown}")
    tell(f"aligndraw: warning: model {name} reads as {UNKNOWN} of {title} {shown}", error=True)


def shortlist_function(arguments: argparse.Namespace, size: int = SHORTLIST) -> Lists:
    """Returns a function from images to shortlists.

    Those of --shortlists, or the nearest images by --features or pixels.

    Args:
        size: of the lists; all images where there are fewer.

    Raises:
        ValueError, FileNotFoundError: there is no such network.
    """
    file: Path | None = arguments.shortlists
    if file is not None:
        return lambda images: read_shortlists(file, len(images))

    def pixels(images: NDArray[np.uint8]) -> NDArray[Any]:
        return images.reshape(len(images), -1)

    folder: Path | None = arguments.features
    features = pixels if folder is None else FeatureNetwork.load(folder).to(arguments.device).features
    return lambda images: shortlists(features(images), min(size, len(images)))


def summary(arguments: argparse.Namespace, name: str, model: PictureModel, backends: str) -> list[str]:
    """Returns lines: the evaluated model and conditions, and the constant part of an NLL of Gaussian pixels."""
    line = f"model {name}, {model.config.title}; {arguments.device}, {backends}; seed {arguments.seed}"
    if not has_bound(model) or model.config.likelihood == "bernoulli":
        return [line]
    config = model.config
    variance, pixels = config.observation_variance, config.channels * math.prod(config.image_size)
    constant = pixels * math.log(2 * math.pi * variance) / 2
    return [line, f"pixels are Gaussian of variance {variance:g}: {constant:.2f} nats of the NLL are constant"]


def write_numbers(arguments: argparse.Namespace, name: str, options: Sequence[str], numbers: Mapping[str, Any]) -> None:
    """Writes all results as JSON to the file of --json, with the options that they depend on."""
    if arguments.json is None:
        return
    record = {
        "format": EVALUATION,
        "model": name,
        **{k: getattr(arguments, k) for k in ("split", *options, "seed", "device")},
        "versions": {"aligndraw": aligndraw.__version__, "torch": torch.__version__},
        **numbers,
    }
    text = json.dumps(record, indent=2, allow_nan=False, default=str) + "\n"
    with writing(arguments.json), atomic_write(arguments.json) as temporary:
        temporary.write_text(text, encoding="utf-8")
    tell("", f"wrote {arguments.json}")
