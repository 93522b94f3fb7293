"""`aligndraw eval`: how good a model is, in nats and in per cent."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_model, add_seed, add_sentences, chosen_backends, whole
from aligndraw.cli.outputs import check_file, writing
from aligndraw.data import (
    VOCABULARY,
    CaptionedImages,
    Examples,
    SceneExamples,
    Scenes,
    all_placements,
    evaluation_scenes,
    evaluation_sets,
    load_digits,
)
from aligndraw.data.scenes import SIDE
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.bound import BoundReport, estimate_bound
from aligndraw.evaluation.fidelity import check_pictures, score_fidelity
from aligndraw.evaluation.reader import DigitReader
from aligndraw.evaluation.scene_reader import SceneReader
from aligndraw.model import Model
from aligndraw.model.saved import replacing
from aligndraw.pipelines import SHIPPED, Pipeline

ROWS_AT_ONCE = 1000  # pictures times samples of the bound that are in memory together
PLACEMENTS = {"seen": "seen placements", "held_out": "held-out placements"}
COMBINATIONS = {"seen": "seen combinations", "held_out": "held-out combinations"}


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    what = "measure how good a model is"
    sets = commands.add_parser("eval", help=what, description=what).add_subparsers(
        title="data sets", metavar="DATASET", required=True
    )
    parser = sets.add_parser(
        "mnist",
        help="one or two digits with captions that say where they are",
        description="Scores a model on MNIST with captions: its variational bound on pictures of digits "
        "that no model is trained on, and the share of the pictures it draws that show what their "
        "captions say; both on placements seen in training and on those held out of it.",
    )
    parser.add_argument(
        "--digits",
        type=Path,
        metavar="FILE",
        help="the digits that the model was trained with, where they were given [those of the package]",
    )
    parser.add_argument(
        "-n",
        type=whole(1),
        default=10,
        metavar="N",
        help=f"pictures drawn of each of the {len(all_placements())} captions [%(default)s]",
    )
    _add_options(parser)
    parser.set_defaults(run=_run)

    parser = sets.add_parser(
        "scenes",
        help="colour pictures of things in places",
        description="Scores a model on scenes: its variational bound, and the share of the pictures it draws whose "
        "object, colour and place are those of their captions; both on combinations seen in training and on those "
        "held out of it.",
    )
    parser.add_argument(
        "-n", type=whole(1), default=1, metavar="N", help="pictures drawn of the caption of each scene [%(default)s]"
    )
    _add_options(parser, shipped=False)
    parser.set_defaults(run=_run_bound, data=None)
    parser = sets.add_parser(
        "captioned",
        help="captioned images in a folder",
        description="Scores a model on captioned images that `aligndraw data` has stored: its variational bound.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that `aligndraw data` wrote")
    _add_options(parser, shipped=False, splits=None)
    parser.set_defaults(run=_run_bound)


def _add_options(
    parser: argparse.ArgumentParser, shipped: bool = True, splits: Sequence[str] | None = ("test", "validation")
) -> None:
    """What data sets share; `shipped` if a model for one comes with the package, `splits` if they have fixed names."""
    if shipped:
        add_model(parser)
    else:
        parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of a model")
    add_sentences(parser)
    parser.add_argument(
        "--split",
        choices=splits,
        default="test",
        metavar="{" + ",".join(splits) + "}" if splits else "NAME",
        help="pictures that the bound is taken on [%(default)s]",
    )
    parser.add_argument(
        "--images",
        type=whole(2),
        default=1000,
        metavar="N",
        help="pictures of each kind whose bound is taken [%(default)s]",
    )
    parser.add_argument(
        "--samples",
        type=whole(1),
        default=10,
        metavar="K",
        help="of the latents of a picture, for the importance-weighted bound [%(default)s]",
    )
    add_seed(parser, "of the examples and of the noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file too")
    add_device(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends = chosen_backends(arguments.device)
    name = str(arguments.model or f"shipped {SHIPPED.name}")
    with failing(ValueError):
        pipeline = Pipeline.load(arguments.model, arguments.device, arguments.sentences)
        model = pipeline.model
        check_pictures(model)
        if pipeline.vocabulary.words[: len(VOCABULARY)] != VOCABULARY.words:
            raise Failure(f"model {name} must have the vocabulary of MNIST with captions, got another")
        digits = load_digits(arguments.digits)
        sets = evaluation_sets(digits, arguments.split, arguments.seed, arguments.images)
        examples = {kind: pipeline.read(part) for kind, part in sets.items()}
        reader = DigitReader.load().to(arguments.device)
    total = len(examples) * arguments.images + len(all_placements()) * arguments.n
    with tqdm(total=total, unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar:
        bar.set_description("bound")
        bounds = _bounds(arguments, name, model, examples, bar)
        bar.set_description("fidelity")
        fidelity = score_fidelity(
            model,
            pipeline.reader,
            n=arguments.n,
            seed=arguments.seed,
            reader=reader,
            on_batch=bar.update,
        )
    print(_told(arguments, name, pipeline.model, backends))
    print(f"\nbound of {arguments.images:,} pictures of {arguments.split} digits, in nats: less is better")
    print(_table(bounds, arguments.samples, PLACEMENTS))
    print(f"\nfaithful pictures, {arguments.n} drawn of each caption, in per cent: more is better")
    print(fidelity)
    if arguments.json is not None:
        record = {
            "digits": str(arguments.digits or "shipped"),
            "n": arguments.n,
            "fidelity": fidelity.to_dict(),
            "reader": reader.record,
        }
        _write(arguments, name, bounds, record)
    return 0


def _run_bound(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends = chosen_backends(arguments.device)
    name, split = str(arguments.model), arguments.split
    examples: Mapping[str, Examples]
    scenes: Mapping[str, SceneExamples] = {}
    with failing(ValueError, FileNotFoundError):
        pipeline = Pipeline.load(arguments.model, arguments.device, arguments.sentences)
        reader = SceneReader.load().to(arguments.device) if arguments.data is None else None
        if arguments.data is None:
            title, words, shape = "scenes", Scenes.vocabulary, (3, SIDE, SIDE)
            examples = scenes = evaluation_scenes(split, arguments.seed, arguments.images)
        else:
            data = CaptionedImages.open(arguments.data)
            title, words, shape = f"captioned images of {arguments.data}", data.vocabulary, data.image_shape
            part = data.split(split)
            examples = {split: part.epoch(arguments.seed, size=min(arguments.images, len(part)))}
    config = pipeline.model.config
    if (config.channels, *config.image_size) != shape:
        got = [config.channels, *config.image_size]
        raise Failure(f"model {name} must be of pictures {list(shape)} for {title}, got {got}")
    if pipeline.vocabulary != words:
        raise Failure(f"model {name} must have the vocabulary of {title}, got another")
    total = sum(map(len, examples.values()))
    drawn = 0 if reader is None else total * arguments.n
    with tqdm(total=total + drawn, unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar:
        bar.set_description("bound")
        read = {kind: pipeline.read(part) for kind, part in examples.items()}
        bounds = _bounds(arguments, name, pipeline.model, read, bar)
        if reader is not None:
            bar.set_description("attributes")
            accuracy = score_attributes(
                pipeline.model,
                pipeline.reader,
                scenes,
                arguments.n,
                arguments.seed,
                reader=reader,
                on_batch=bar.update,
            )
    print(_told(arguments, name, pipeline.model, backends))
    print(f"\nbound on {title}, {split}, {total // len(bounds):,} pictures of a kind, in nats: less is better")
    print(_table(bounds, arguments.samples, COMBINATIONS))
    more: dict[str, Any] = {"data": None if arguments.data is None else str(arguments.data)}
    if reader is not None:
        for kind, score in accuracy.items():
            print(f"\npictures that show what their captions say, {COMBINATIONS[kind]}, in per cent: more is better")
            print(score)
        print("  Real pictures are what the scene reader makes of flawless ones.")
        more |= {"n": arguments.n, "attributes": {k: v.to_dict() for k, v in accuracy.items()}, "reader": reader.record}
    if arguments.json is not None:
        _write(arguments, name, bounds, more)
    return 0


def _told(arguments: argparse.Namespace, name: str, model: Model, backends: str) -> str:
    """What was scored, and what its bound is of where that cannot be compared with the paper's."""
    config = model.config
    line = f"model {name}, {config.title}; {arguments.device}, {backends}; seed {arguments.seed}"
    if config.likelihood == "bernoulli":
        return line
    variance, pixels = config.observation_variance, config.channels * math.prod(config.image_size)
    constant = pixels * math.log(2 * math.pi * variance) / 2
    return f"{line}\npixels are Gaussian of variance {variance:g}: {constant:.2f} nats of the NLL are constant"


def _bounds(
    arguments: argparse.Namespace, name: str, model: Model, examples: Mapping[str, Examples], bar: tqdm
) -> dict[str, BoundReport]:
    """The bound of the model on each kind of examples."""
    bounds = {
        kind: estimate_bound(
            model,
            part,
            arguments.samples,
            arguments.seed,
            batch_size=max(1, ROWS_AT_ONCE // arguments.samples),
            on_batch=bar.update,
        )
        for kind, part in examples.items()
    }
    if not all(math.isfinite(report.bound.mean) for report in bounds.values()):
        raise Failure(f"model {name} is of no use: its bound is not a finite number")
    return bounds


def _write(
    arguments: argparse.Namespace, name: str, bounds: Mapping[str, BoundReport], more: Mapping[str, Any]
) -> None:
    """All numbers as JSON."""
    record = {
        "format": "aligndraw eval 1",
        "model": name,
        **{k: getattr(arguments, k) for k in ("split", "images", "samples", "seed", "device")},
        "versions": {"aligndraw": aligndraw.__version__, "torch": torch.__version__},
        "bound": {kind: report.to_dict() for kind, report in bounds.items()},
        **more,
    }
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with writing(arguments.json), replacing(arguments.json) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"\nwrote {arguments.json}")


def _table(bounds: Mapping[str, BoundReport], samples: int, titles: Mapping[str, str]) -> str:
    """The bounds side by side, one row a number, and the KL of each step below."""
    rows = {
        "bound = KL + NLL": "bound",
        f"importance-weighted, {samples} sample{'s' * (samples > 1)}": "importance",
        "KL": "kl",
        "NLL": "nll",
    }
    titles = {kind: titles.get(kind, kind) for kind in bounds}
    lines = [("", *titles.values())]
    lines += [(text, *(str(getattr(report, row)) for report in bounds.values())) for text, row in rows.items()]
    table = ["  " + f"{head:<32}" + "".join(f"{cell:>24}" for cell in cells) for head, *cells in lines]
    for kind, text in titles.items():
        steps = " ".join(f"{kl:.2f}" for kl in bounds[kind].kl_steps)
        table.append(f"  KL of each step, {text}:")
        table.append(textwrap.fill(steps, 78, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(table)
