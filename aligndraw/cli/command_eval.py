"""`aligndraw eval mnist`: how good a model is, in nats and in per cent."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_model, add_seed, chosen_backends, whole
from aligndraw.cli.outputs import check_file, writing
from aligndraw.data import VOCABULARY, all_placements, evaluation_sets, load_digits
from aligndraw.evaluation.bound import BoundReport, estimate_bound
from aligndraw.evaluation.fidelity import check_pictures, score_fidelity
from aligndraw.evaluation.reader import DigitReader
from aligndraw.model.saved import replacing
from aligndraw.pipelines import SHIPPED, Pipeline

ROWS_AT_ONCE = 1000  # pictures times samples of the bound that are in memory together
KINDS = {"seen": "seen placements", "held_out": "held-out placements"}


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
    add_model(parser)
    parser.add_argument(
        "--digits",
        type=Path,
        metavar="FILE",
        help="the digits that the model was trained with, where they were given [those of the package]",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="digits that the bound is taken on [%(default)s]",
    )
    parser.add_argument(
        "--images",
        type=whole(2),
        default=1000,
        metavar="N",
        help="pictures of each kind of placement whose bound is taken [%(default)s]",
    )
    parser.add_argument(
        "--samples",
        type=whole(1),
        default=10,
        metavar="K",
        help="of the latents of a picture, for the importance-weighted bound [%(default)s]",
    )
    parser.add_argument(
        "-n",
        type=whole(1),
        default=10,
        metavar="N",
        help=f"pictures drawn of each of the {len(all_placements())} captions [%(default)s]",
    )
    add_seed(parser, "of the examples and of the noise")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all numbers to this file too"
    )
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends = chosen_backends(arguments.device)
    name = str(arguments.model or f"shipped {SHIPPED.name}")
    with failing(ValueError):
        pipeline = Pipeline.load(arguments.model, arguments.device)
        model = pipeline.model
        check_pictures(model)
        if pipeline.vocabulary.words[: len(VOCABULARY)] != VOCABULARY.words:
            raise Failure(
                f"model {name} must have the vocabulary of MNIST with captions, got another"
            )
        digits = load_digits(arguments.digits)
        examples = evaluation_sets(digits, arguments.split, arguments.seed, arguments.images)
        reader = DigitReader.load().to(arguments.device)
    total = len(examples) * arguments.images + len(all_placements()) * arguments.n
    with tqdm(total=total, unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar:
        bar.set_description("bound")
        bounds = {
            kind: estimate_bound(
                model,
                examples[kind],
                arguments.samples,
                arguments.seed,
                batch_size=max(1, ROWS_AT_ONCE // arguments.samples),
                on_batch=bar.update,
            )
            for kind in KINDS
        }
        if not all(math.isfinite(report.bound.mean) for report in bounds.values()):
            raise Failure(f"model {name} is of no use: its bound is not a finite number")
        bar.set_description("fidelity")
        fidelity = score_fidelity(
            model,
            pipeline.vocabulary,
            n=arguments.n,
            seed=arguments.seed,
            reader=reader,
            on_batch=bar.update,
        )
    print(f"model {name}; {arguments.device}, {backends}; seed {arguments.seed}")
    print(
        f"\nbound of {arguments.images:,} pictures of {arguments.split} digits, in nats: less is better"
    )
    print(_table(bounds, arguments.samples))
    print(f"\nfaithful pictures, {arguments.n} drawn of each caption, in per cent: more is better")
    print(fidelity)
    if arguments.json is not None:
        record = {
            "format": "aligndraw eval 1",
            "model": name,
            "digits": str(arguments.digits or "shipped"),
            **{
                k: getattr(arguments, k)
                for k in ("split", "images", "samples", "n", "seed", "device")
            },
            "versions": {"aligndraw": aligndraw.__version__, "torch": torch.__version__},
            "bound": {kind: report.to_dict() for kind, report in bounds.items()},
            "fidelity": fidelity.to_dict(),
            "reader": reader.record,
        }
        text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        with writing(arguments.json), replacing(arguments.json) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"\nwrote {arguments.json}")
    return 0


def _table(bounds: Mapping[str, BoundReport], samples: int) -> str:
    """The bounds side by side, one row a number, and the KL of each step below."""
    rows = {
        "bound = KL + NLL": "bound",
        f"importance-weighted, {samples} sample{'s' * (samples > 1)}": "importance",
        "KL": "kl",
        "NLL": "nll",
    }
    lines = [("", *KINDS.values())]
    lines += [(text, *(str(getattr(bounds[k], row)) for k in KINDS)) for text, row in rows.items()]
    table = [f"  {head:<34}{seen:>20}{held_out:>22}" for head, seen, held_out in lines]
    for kind, text in KINDS.items():
        steps = " ".join(f"{kl:.2f}" for kl in bounds[kind].kl_steps)
        table.append(f"  KL of each step, {text}:")
        table.append(textwrap.fill(steps, 78, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(table)
