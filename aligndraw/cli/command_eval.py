"""`aligndraw eval`: how good a model is, in nats and in per cent."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from aligndraw.cli import eval_measures
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import chosen_backends, whole
from aligndraw.cli.outputs import check_file
from aligndraw.cli.scored import COMBINATIONS, SPLITS, add_scored, opened, told, write_numbers
from aligndraw.data import (
    VOCABULARY,
    Examples,
    SceneExamples,
    all_placements,
    evaluation_scenes,
    evaluation_sets,
    load_digits,
)
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.bound import BoundReport, estimate_bound
from aligndraw.evaluation.fidelity import check_pictures, score_fidelity
from aligndraw.evaluation.reader import DigitReader
from aligndraw.evaluation.scene_reader import SceneReader
from aligndraw.model import Model
from aligndraw.pipelines import SHIPPED, Pipeline

ROWS_AT_ONCE = 1000  # pictures times samples of the bound that are in memory together
PLACEMENTS = {"seen": "seen placements", "held_out": "held-out placements"}


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
    _add_options(parser, shipped=True)
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
    _add_options(parser)
    parser.set_defaults(run=_run_bound, data=None)
    parser = sets.add_parser(
        "captioned",
        help="captioned images in a folder",
        description="Scores a model on captioned images that `aligndraw data` has stored: its variational bound.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that `aligndraw data` wrote")
    _add_options(parser, splits=None)
    parser.set_defaults(run=_run_bound)
    eval_measures.add_to(sets)


def _add_options(
    parser: argparse.ArgumentParser, shipped: bool = False, splits: Sequence[str] | None = SPLITS
) -> None:
    """What data sets share; the arguments are those of `add_scored`."""
    add_scored(parser, "that the bound is taken on", shipped, splits)
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
    print(told(arguments, name, pipeline.model, backends))
    print(f"\nbound of {arguments.images:,} pictures of {arguments.split} digits, in nats: less is better")
    print(_table(bounds, arguments.samples, PLACEMENTS))
    print(f"\nfaithful pictures, {arguments.n} drawn of each caption, in per cent: more is better")
    print(fidelity)
    record = {
        "bound": {kind: report.to_dict() for kind, report in bounds.items()},
        "digits": str(arguments.digits or "shipped"),
        "n": arguments.n,
        "fidelity": fidelity.to_dict(),
        "reader": reader.record,
    }
    write_numbers(arguments, name, ("images", "samples"), record)
    return 0


def _run_bound(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends, split = chosen_backends(arguments.device), arguments.split
    scored = opened(arguments)
    name, title, pipeline = scored.name, scored.title, scored.pipeline
    examples: Mapping[str, Examples]
    scenes: Mapping[str, SceneExamples] = {}
    reader = None
    with failing(ValueError):
        if scored.split is None:
            reader = SceneReader.load().to(arguments.device)
            examples = scenes = evaluation_scenes(split, arguments.seed, arguments.images)
        else:
            size = min(arguments.images, len(scored.split))
            examples = {split: scored.split.epoch(arguments.seed, size=size)}
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
    print(told(arguments, name, pipeline.model, backends))
    print(f"\nbound on {title}, {split}, {total // len(bounds):,} pictures of a kind, in nats: less is better")
    print(_table(bounds, arguments.samples, COMBINATIONS))
    record: dict[str, Any] = {
        "bound": {kind: report.to_dict() for kind, report in bounds.items()},
        "data": arguments.data,
    }
    if reader is not None:
        for kind, score in accuracy.items():
            print(f"\npictures that show what their captions say, {COMBINATIONS[kind]}, in per cent: more is better")
            print(score)
        print("  Real pictures are what the scene reader makes of flawless ones.")
        attributes = {kind: score.to_dict() for kind, score in accuracy.items()}
        record |= {"n": arguments.n, "attributes": attributes, "reader": reader.record}
    write_numbers(arguments, name, ("images", "samples"), record)
    return 0


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
