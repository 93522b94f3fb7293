"""`aligndraw train`: pictures with captions to a model in a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aligndraw.cli import train_adversarial, train_end_to_end, train_features, train_skipthoughts
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.jobs import add_scoring, train_job
from aligndraw.cli.options import add_config, add_device, add_seed, chosen, fields
from aligndraw.cli.runs import add_run
from aligndraw.config import (
    MODEL_CONFIGS,
    AlignDRAWConfig,
    ConvolutionalVAEConfig,
    FullyConnectedVAEConfig,
    ModelConfig,
    TrainingConfig,
)
from aligndraw.data import BANS, open_data_set
from aligndraw.pipelines import Job, fitted, new_run, resumed_run

_VAES = "; fc-vae, conv-vae: variational auto-encoders, fully connected and convolutional"


def _configs(network: str, recipe: str, vae: str | None = None) -> dict[str, tuple[ModelConfig, TrainingConfig]]:
    """Of presets with these names, what each --model is and how it is trained; `vae` names the recipe of the VAEs."""
    drawing, training = AlignDRAWConfig.preset(network), TrainingConfig.preset(recipe)
    sentence = drawing.replace(align=False)
    configs: dict[str, tuple[ModelConfig, TrainingConfig]] = {
        "align": (drawing, training),
        "noalign": (sentence, training),
        "skipthought": (sentence, training),
    }
    if vae is not None:
        for kind in (FullyConnectedVAEConfig, ConvolutionalVAEConfig):
            configs[kind.KIND] = kind.preset(network), TrainingConfig.preset(vae)
    return configs


# Of each data set and preset, the models and their recipes; the first of each is the default.
PRESETS = {
    "mnist": {
        "quick": _configs("quick", "quick"),
        "best": _configs("best", "best"),
        "paper": _configs("mnist", "paper"),
    },
    "scenes": {"scenes": _configs("scenes", "scenes", "vae")},
    "captioned": {"scenes": _configs("scenes", "scenes", "vae"), "coco": _configs("coco", "coco", "coco")},
}
FIELDS = list(dict.fromkeys(f.name for config in (*MODEL_CONFIGS, TrainingConfig) for f in fields(config)))


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    what = "train a model and save it into a folder"
    sets = commands.add_parser("train", help=what, description=what).add_subparsers(
        title="data sets", metavar="DATASET", required=True
    )
    train_adversarial.add_to(sets)
    train_end_to_end.add_to(sets)
    train_skipthoughts.add_to(sets)
    train_features.add_to(sets)
    parser = _add_set(
        sets,
        "mnist",
        "one or two digits with captions that say where they are",
        "Trains on MNIST with captions: one or two digits on 60 x 60 pixels. Without --digits, on the 10,000 that ship "
        "with the package.",
        "quick: minutes on a laptop; best: longer, for better pictures; paper: the paper's model and recipe, hours",
    )
    parser.add_argument(
        "--digits",
        dest="data",
        type=Path,
        metavar="PATH",
        help=".npz with images [n, 28, 28] and labels [n], uint8; or a folder with MNIST's IDX files; "
        "or the authors' mnist.h5",
    )
    parser.add_argument(
        "--bans",
        choices=BANS,
        help="placements that training never shows; strict: one digit per place; authors: drawn for each template by "
        "itself, as the paper's authors do; sifting, rotated-3, rotated-7: other digits per place [strict]",
    )
    _add_set(
        sets,
        "scenes",
        "colour pictures of things in places",
        "Trains on scenes: 32 x 32 colour pictures of one thing before a sky and a ground, painted as training runs.",
        "scenes: a model for a laptop",
    )
    parser = _add_set(
        sets,
        "captioned",
        "captioned images in a folder",
        "Trains on captioned images that `aligndraw data` has stored. Image size, channels and words are theirs.",
        "scenes: small; coco: the paper's model and recipe, days on a CPU",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that `aligndraw data` wrote")


def _add_set(sets: Any, name: str, what: str, description: str, presets: str) -> argparse.ArgumentParser:
    """The parser of a data set, with what they share."""
    parser: argparse.ArgumentParser = sets.add_parser(
        name,
        help=what,
        description=f"{description} Values in [brackets] are those of the preset. Ctrl-C saves the run, and --resume "
        "takes it up again.",
    )
    parser.add_argument("--preset", choices=PRESETS[name], help=f"{presets} [{next(iter(PRESETS[name]))}]")
    add_run(parser, f"aligndraw-{name}", model=True)
    add_seed(parser, "of the parameters, the examples and the noise", default=None)
    add_device(parser)
    add_scoring(parser)
    table = PRESETS[name]
    models = next(iter(table.values()))
    parser.add_argument(
        "--model",
        choices=models,
        help="align: alignDRAW; noalign: one vector of its language model for all steps; skipthought: one vector of a "
        f"sentence encoder (--sentences){_VAES * ('fc-vae' in models)} [align]",
    )
    drawing = {preset: configs["align"] for preset, configs in table.items()}
    add_config(parser, "model", {preset: model for preset, (model, _) in drawing.items()})
    if "fc-vae" in models:
        known = [f.name for f in fields(AlignDRAWConfig)]
        for kind in ("fc-vae", "conv-vae"):
            sizes = {preset: configs[kind][0] for preset, configs in table.items()}
            add_config(parser, f"model of --model {kind}, whose likelihood is gaussian", sizes, without=known)
    add_config(parser, "training", {preset: recipe for preset, (_, recipe) in drawing.items()})
    parser.set_defaults(run=_run, set=name, data=None, bans=None)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    return train_job(arguments, _resumed if arguments.resume else _new, arguments.set)


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[Job]:
    name, data = arguments.set, arguments.data
    if name == "captioned" and data is None:
        raise Failure("captioned images are needed: give --data DIR", status=2)
    preset, kind = arguments.preset or next(iter(PRESETS[name])), arguments.model or "align"
    if kind == "skipthought" and arguments.sentences is None:
        raise Failure("--model skipthought reads vectors of sentences: give --sentences KIND", status=2)
    network, recipe = PRESETS[name][preset][kind]
    known = {f.name for config in (network, recipe) for f in fields(config)}
    for field in FIELDS:
        if field not in known and getattr(arguments, field, None) is not None:
            raise Failure(f"--{field.replace('_', '-')} has no meaning for --model {kind}: leave it out", status=2)
    with failing(ValueError, status=2):
        chosen(network, arguments)
        training = chosen(recipe, arguments)
    with ExitStack() as stack:
        with failing(ValueError):
            found = open_data_set(name, data, arguments.scored or 1000, arguments.bans)
            model = chosen(fitted(network, found), arguments)
            job = stack.enter_context(
                new_run(
                    arguments.out,
                    model,
                    training,
                    found,
                    seed=arguments.seed or 0,
                    device=arguments.device,
                    overwrite=arguments.overwrite,
                    preset=preset,
                )
            )
        yield job


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[Job]:
    for name in ("preset", "model", "data", "bans", "seed", "scored", *FIELDS):
        if getattr(arguments, name, None) is not None:
            option = "digits" if (name, arguments.set) == ("data", "mnist") else name.replace("_", "-")
            raise Failure(f"--resume keeps the settings of the run: leave out --{option}", status=2)
    with ExitStack() as stack:
        with failing(ValueError):
            job = stack.enter_context(resumed_run(arguments.out, arguments.device))
        if job.data.name != arguments.set:
            raise Failure(
                f"{arguments.out} holds a training on {job.data.title}: aligndraw train {job.data.name} --resume"
            )
        yield job
