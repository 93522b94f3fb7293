"""`aligndraw eval mnist`, `scenes` and `captioned`: the bound, and the fidelity of pictures to their captions."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from aligndraw.cli.evaluate.shared import (
    COMBINATIONS,
    SPLITS,
    add_evaluation,
    add_sharpening,
    open_evaluation,
    summary,
    write_numbers,
)
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import describe_backends, int_at_least, open_pipeline
from aligndraw.cli.outputs import check_file
from aligndraw.cli.telling import tell
from aligndraw.data import (
    BANS,
    STRICT,
    VOCABULARY,
    Bans,
    Examples,
    SceneExamples,
    all_placements,
    bans_named,
    evaluation_scenes,
    evaluation_sets,
    load_digits,
)
from aligndraw.evaluation.attributes import AttributeAccuracy, score_attributes
from aligndraw.evaluation.bound import EPSILON, BoundReport, Estimate, estimate_bound
from aligndraw.evaluation.drawing import Sharpen
from aligndraw.evaluation.energy import Energy, score_energy
from aligndraw.evaluation.excess import excess_placements, score_excess
from aligndraw.evaluation.fidelity import check_mnist_model, score_fidelity
from aligndraw.evaluation.reader import DigitReader
from aligndraw.evaluation.scene_reader import SceneReader
from aligndraw.evaluation.shuffling import Shuffled, caption_gain, derangement
from aligndraw.model import PictureModel, has_bound
from aligndraw.pipelines import Pipeline
from aligndraw.printable import counted

BATCH_SIZE = 1000  # pictures times samples of the bound that are in memory together
PLACEMENTS = {"seen": "seen placements", "held_out": "held-out placements"}
DIGITS = {"one_digit": "one digit", "two_digits": "two digits"}


def add_to(sets: Any) -> None:
    """Adds `mnist`, `scenes` and `captioned` to the subparsers of `aligndraw eval`."""
    parser = sets.add_parser(
        "mnist",
        help="MNIST with captions: one or two digits, and captions that name their places",
        description="Evaluates a model on MNIST with captions: its variational bound on pictures of held-back digits, "
        "and the share of its drawings that show what their captions say; on placements seen in training and on "
        "held-out placements.",
    )
    parser.add_argument(
        "--digits",
        type=Path,
        metavar="FILE",
        help="the training digits of the model, where they are not the package's [those of the package]",
    )
    parser.add_argument(
        "--bans",
        choices=BANS,
        help="the held-out placements, for a model without notes on them [as in training, else strict]",
    )
    parser.add_argument(
        "-n",
        type=int_at_least(1),
        default=10,
        metavar="N",
        help=f"drawings per caption, of {counted(len(all_placements()), 'caption')} [%(default)s]",
    )
    _add_options(parser, shipped=True)
    parser.set_defaults(run=_run)

    parser = sets.add_parser(
        "scenes",
        help="scenes: colour pictures of one object before a sky and a ground",
        description="Evaluates a model on scenes: its variational bound, the share of its drawings with the object, "
        "colour and place of their captions, and the gradient energy of its drawings; all on combinations seen in "
        "training and on held-out combinations.",
    )
    parser.add_argument(
        "-n",
        type=int_at_least(1),
        default=1,
        metavar="N",
        help="drawings per scene, of its caption [%(default)s]",
    )
    _add_options(parser)
    parser.set_defaults(run=_run_bound, data=None)
    parser = sets.add_parser(
        "captioned",
        help="captioned images in a folder",
        description="Evaluates a model on captioned images that `aligndraw data` has stored: its variational bound and "
        "the gradient energy of its drawings.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that `aligndraw data` wrote")
    _add_options(parser, splits=None)
    parser.set_defaults(run=_run_bound, n=1)


def _add_options(parser: argparse.ArgumentParser, shipped: bool = False, splits: Sequence[str] | None = SPLITS) -> None:
    """Adds the options of all data sets; the arguments are those of `add_evaluation`."""
    add_evaluation(parser, "for the bound", shipped, splits)
    if not shipped:
        add_sharpening(parser, "also evaluate the drawings as sharpened by")
    parser.add_argument(
        "--images",
        type=int_at_least(2),
        default=1000,
        metavar="N",
        help="pictures of each kind for the bound [%(default)s]",
    )
    parser.add_argument(
        "--samples",
        type=int_at_least(1),
        default=10,
        metavar="K",
        help="samples of the latents per picture, for the importance-weighted bound [%(default)s]",
    )
    parser.add_argument(
        "--shuffle-captions",
        action="store_true",
        help="also take the bound with captions shuffled among the pictures, which tells how much captions matter",
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends = describe_backends(arguments.device)
    with failing(ValueError, FileNotFoundError):
        pipeline = open_pipeline(arguments)
        name, model = pipeline.name, pipeline.model
        if not has_bound(model):
            raise Failure(f"model {name} must be one that draws MNIST with captions, got a LAPGAN")
        check_mnist_model(model)
        if pipeline.vocabulary.words[: len(VOCABULARY)] != VOCABULARY.words:
            raise Failure(f"model {name} must have the vocabulary of MNIST with captions, got another")
        bans = _bans(arguments, name, pipeline.notes)
        digits = load_digits(arguments.digits)
        sets = evaluation_sets(digits, arguments.split, arguments.seed, arguments.images, bans)
        examples = {kind: pipeline.read(part) for kind, part in sets.items()}
        reader = DigitReader.load().to(arguments.device)
    each = math.ceil(arguments.images / 250)  # pictures per placement, for the excess
    bound_count = len(examples) * arguments.images * (2 if arguments.shuffle_captions else 1)
    total = bound_count + len(excess_placements(each)) + len(all_placements()) * arguments.n
    with tqdm(total=total, unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar, failing(ValueError):
        bar.set_description("bound")
        bounds = _bounds(arguments, name, model, examples, bar)
        gains = _caption_gains(arguments, name, model, sets, examples, bounds, bar)
        excess = score_excess(
            model, digits, arguments.split, each, arguments.seed, read=pipeline.read, bans=bans, on_batch=bar.update
        )
        bar.set_description("fidelity")
        fidelity = score_fidelity(
            model,
            pipeline.reader,
            n=arguments.n,
            seed=arguments.seed,
            bans=bans,
            reader=reader,
            on_batch=bar.update,
        )
    tell(*summary(arguments, name, pipeline.model, backends))
    of = f"{counted(arguments.images, 'picture')} of {arguments.split} digits, {bans.name} bans"
    _tell_bounds(of, bounds, arguments.samples, PLACEMENTS)
    _tell_gains(bounds, gains, PLACEMENTS)
    tell("", "excess of held-out placements over the cost of their digits and wording in seen placements, in nats")
    rows = {"bound = KL + NLL": "bound", "KL": "kl", "NLL": "nll"}
    tell(*_table({text: {k: str(getattr(e, row)) for k, e in excess.items()} for text, row in rows.items()}, DIGITS))
    tell("", f"faithful pictures, {arguments.n} drawn per caption, in per cent: more is better")
    tell(*str(fidelity).split("\n"))
    record = {
        "bound": {kind: report.to_dict() for kind, report in bounds.items()},
        **_gains_record(gains),
        "excess": {digits: beyond.to_dict() for digits, beyond in excess.items()},
        "digits": str(arguments.digits or "shipped"),
        "bans": bans.name,
        "n": arguments.n,
        "fidelity": fidelity.to_dict(),
        "reader": reader.record,
    }
    write_numbers(arguments, name, ("images", "samples"), record)
    return 0


def _bans(arguments: argparse.Namespace, name: str, notes: Mapping[str, Any]) -> Bans:
    """Returns the bans of the model's training; those of --bans, or the strict ones, where its notes have none."""
    data = notes.get("data")
    if not isinstance(data, dict) or data.get("name") != "mnist":
        return STRICT if arguments.bans is None else BANS[arguments.bans]
    trained = bans_named(data.get("bans", STRICT.name))
    if arguments.bans not in (None, trained.name):
        raise Failure(f"model {name} was trained under the {trained.name} bans: leave out --bans", status=2)
    return trained


def _run_bound(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends, split = describe_backends(arguments.device), arguments.split
    evaluation = open_evaluation(arguments)
    pipeline = evaluation.pipeline
    examples: Mapping[str, Examples]
    scenes: Mapping[str, SceneExamples] = {}
    reader = None
    with failing(ValueError):
        if evaluation.split is None:
            reader = SceneReader.load().to(arguments.device)
            examples = scenes = evaluation_scenes(split, arguments.seed, arguments.images)
        else:
            size = min(arguments.images, len(evaluation.split))
            examples = {split: evaluation.split.epoch(arguments.seed, size=size)}
        read = {kind: evaluation.read(part) for kind, part in examples.items()}
    total = sum(map(len, examples.values()))
    stages = {"drawn": None} | ({} if pipeline.sharpen is None else {"sharpened": pipeline.sharpen})
    work = len(stages) * (total + total * arguments.n * (1 if reader is None else 2))
    work += total if arguments.shuffle_captions else 0
    with tqdm(total=work, unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar, failing(ValueError):
        scores = {
            stage: _evaluate(arguments, evaluation.name, pipeline, read, scenes, reader, sharpen, bar)
            for stage, sharpen in stages.items()
        }
        gains = _caption_gains(arguments, evaluation.name, pipeline.model, examples, read, scores["drawn"].bounds, bar)
    drawn, sharpened = scores["drawn"], scores.get("sharpened")
    tell(*summary(arguments, evaluation.name, pipeline.model, backends))
    of = f"{counted(total // len(examples), 'picture')} of each kind of {evaluation.title}, {split}"
    _tell_bounds(of, drawn.bounds, arguments.samples, COMBINATIONS)
    _tell_gains(drawn.bounds, gains, COMBINATIONS)
    if sharpened is not None and sharpened.bounds:
        e = f"{arguments.sharpen_epsilon:g}"
        tell("", f"bound after sharpening, its noise 0, the mean of a pixel clipped to [{e}, 1 - {e}]")
        tell(*_bound_table(sharpened.bounds, arguments.samples, COMBINATIONS))
    for stage, score in scores.items():
        for kind, accuracy in score.attributes.items():
            pictures = "pictures" if stage == "drawn" else "sharpened pictures"
            tell("", f"{pictures} that show their captions, {COMBINATIONS[kind]}, in per cent: more is better")
            tell(*str(accuracy).split("\n"))
    if reader is not None:
        tell("  real pictures: the shares of real pictures, as the scene reader reads them")
    energies = {"real": {kind: energy.real for kind, energy in drawn.energies.items()}}
    energies |= {s: {kind: energy.drawn for kind, energy in score.energies.items()} for s, score in scores.items()}
    tell("", "gradient energy of the pictures, in thousandths: blurry ones have less")
    tell(*_table({s: {k: str(_thousandths(e)) for k, e in row.items()} for s, row in energies.items()}, COMBINATIONS))
    record: dict[str, Any] = {
        **drawn.to_dict(),
        **_gains_record(gains),
        "data": arguments.data,
        "n": arguments.n,
        "gradient_energy": {s: {kind: e.to_dict() for kind, e in row.items()} for s, row in energies.items()},
    }
    if reader is not None:
        record["reader"] = reader.record
    if sharpened is not None:
        origin = {"sharpener": arguments.sharpen, "epsilon": arguments.sharpen_epsilon}
        record["sharpened"] = {**origin, **sharpened.to_dict()}
    write_numbers(arguments, evaluation.name, ("images", "samples"), record)
    return 0


@dataclass(frozen=True)
class _Scores:
    """The scores of a model's drawings, as drawn or sharpened, by kind of examples."""

    bounds: Mapping[str, BoundReport]
    attributes: Mapping[str, AttributeAccuracy]
    energies: Mapping[str, Energy]

    def to_dict(self) -> dict[str, Any]:
        """Returns the bounds, and the attributes where there are any; ready for JSON."""
        record: dict[str, Any] = {"bound": {kind: report.to_dict() for kind, report in self.bounds.items()}}
        if self.attributes:
            record["attributes"] = {kind: accuracy.to_dict() for kind, accuracy in self.attributes.items()}
        return record


def _evaluate(
    arguments: argparse.Namespace,
    name: str,
    pipeline: Pipeline,
    examples: Mapping[str, Examples],
    scenes: Mapping[str, SceneExamples],
    reader: SceneReader | None,
    sharpen: Sharpen | None,
    bar: tqdm,
) -> _Scores:
    model, n, seed, done = pipeline.model, arguments.n, arguments.seed, bar.update
    bar.set_description("bound")
    bounds = _bounds(arguments, name, model, examples, bar, sharpen, arguments.sharpen_epsilon)
    attributes: Mapping[str, AttributeAccuracy] = {}
    if reader is not None:
        bar.set_description("attributes")
        attributes = score_attributes(
            model, pipeline.reader, scenes, n, seed, reader=reader, sharpen=sharpen, on_batch=done
        )
    bar.set_description("energy")
    energies = {
        kind: score_energy(model, part, n, seed, sharpen=sharpen, on_batch=done) for kind, part in examples.items()
    }
    return _Scores(bounds, attributes, energies)


def _bounds(
    arguments: argparse.Namespace,
    name: str,
    model: PictureModel,
    examples: Mapping[str, Examples],
    bar: tqdm,
    sharpen: Sharpen | None = None,
    epsilon: float = EPSILON,
) -> dict[str, BoundReport]:
    """Returns the bound of the model on each kind of examples; {} for a LAPGAN, which has none."""
    if not has_bound(model):
        return {}
    bounds = {
        kind: estimate_bound(
            model,
            part,
            arguments.samples,
            arguments.seed,
            batch_size=max(1, BATCH_SIZE // arguments.samples),
            sharpen=sharpen,
            epsilon=epsilon,
            on_batch=bar.update,
        )
        for kind, part in examples.items()
    }
    if not all(math.isfinite(report.bound.mean) for report in bounds.values()):
        raise Failure(f"model {name} is unusable: its bound is not a finite number")
    return bounds


def _caption_gains(
    arguments: argparse.Namespace,
    name: str,
    model: PictureModel,
    examples: Mapping[str, Examples],
    read: Mapping[str, Examples],
    bounds: Mapping[str, BoundReport],
    bar: tqdm,
) -> dict[str, tuple[BoundReport, Estimate]]:
    """Returns, with --shuffle-captions, the bounds with shuffled captions and their differences; else {}.

    Args:
        examples: which may name the image of each.
        read: the same, in the form that the model takes.
        bounds: with the pictures' own captions.
    """
    if not arguments.shuffle_captions or not bounds:
        return {}
    bar.set_description("shuffled captions")
    images = {kind: getattr(part, "image_index", np.arange(len(part))) for kind, part in examples.items()}
    shuffled = {kind: Shuffled(part, derangement(images[kind], arguments.seed)) for kind, part in read.items()}
    others = _bounds(arguments, name, model, shuffled, bar)
    return {kind: (others[kind], caption_gain(own, others[kind], images[kind])) for kind, own in bounds.items()}


def _tell_gains(
    bounds: Mapping[str, BoundReport], gains: Mapping[str, tuple[BoundReport, Estimate]], titles: Mapping[str, str]
) -> None:
    if not gains:
        return
    tell("", "bound with captions shuffled among the pictures, in nats: captions help where the difference is above 0")
    rows = {
        "own captions": {kind: str(bounds[kind].bound) for kind in gains},
        "shuffled captions": {kind: str(report.bound) for kind, (report, _) in gains.items()},
        "difference of pairs": {kind: str(gain) for kind, (_, gain) in gains.items()},
    }
    tell(*_table(rows, titles))


def _gains_record(gains: Mapping[str, tuple[BoundReport, Estimate]]) -> dict[str, Any]:
    """Returns the entry of --json, ready for JSON; {} without --shuffle-captions."""
    record = {k: {"bound": r.to_dict(), "difference": gain.to_dict()} for k, (r, gain) in gains.items()}
    return {"shuffled_captions": record} if record else {}


def _tell_bounds(of: str, bounds: Mapping[str, BoundReport], samples: int, titles: Mapping[str, str]) -> None:
    if not bounds:
        tell("", "a LAPGAN gives pictures no probabilities, so it has no bound")
        return
    tell("", f"bound of {of}, in nats: less is better")
    tell(*_bound_table(bounds, samples, titles))
    for kind, report in bounds.items():
        steps = " ".join(f"{kl:.2f}" for kl in report.kl_steps)
        tell(f"  KL of each step, {titles.get(kind, kind)}:")
        tell(*textwrap.wrap(steps, 78, initial_indent="    ", subsequent_indent="    "))


def _bound_table(bounds: Mapping[str, BoundReport], samples: int, titles: Mapping[str, str]) -> list[str]:
    """Returns lines: the bounds side by side, one row per number."""
    rows = {
        "bound = KL + NLL": "bound",
        f"importance-weighted, {counted(samples, 'sample')}": "importance",
        "KL": "kl",
        "NLL": "nll",
    }
    return _table(
        {text: {kind: str(getattr(report, row)) for kind, report in bounds.items()} for text, row in rows.items()},
        titles,
    )


def _table(rows: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> list[str]:
    """Returns lines: rows of one cell per kind of examples, under the titles of the kinds."""
    lines = [("", *(titles.get(kind, kind) for kind in next(iter(rows.values()))))]
    lines += [(text, *cells.values()) for text, cells in rows.items()]
    return ["  " + f"{head:<32}" + "".join(f"{cell:>24}" for cell in cells) for head, *cells in lines]


def _thousandths(estimate: Estimate) -> Estimate:
    return Estimate(1000 * estimate.mean, 1000 * estimate.error)
