"""`aligndraw train mnist|scenes|captioned`: train a model on pictures with captions, in a run folder."""

from __future__ import annotations

import argparse
import shlex
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_config, add_validation_size, apply_overrides, describe_backends, fields
from aligndraw.cli.outputs import draw_one_by_one, writing
from aligndraw.cli.telling import tell
from aligndraw.cli.train import job
from aligndraw.config import MODEL_CONFIGS, AlignDRAWConfig, TrainingConfig
from aligndraw.data import BANS, open_data_set
from aligndraw.data.sets import VALIDATION_SIZE
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.pipelines import Job, Pipeline, config_for, new_run, resumed_run, train
from aligndraw.pipelines.shipped import find_model, lasting_name
from aligndraw.presets import PRESETS, model_kind
from aligndraw.printable import counted
from aligndraw.training import Update
from aligndraw.training.run import SAMPLES
from aligndraw.training.start import check_sizes, load_start

Start = Callable[[argparse.Namespace, ExitStack], Job]
AVERAGED_UPDATES = 50  # whose mean metrics the progress bar shows
_MOVED = "with --resume its new place, where it has moved"
_VAES = "; fc-vae, conv-vae: variational auto-encoders, fully connected and convolutional"

FIELDS = list(dict.fromkeys(f.name for config in (*MODEL_CONFIGS, TrainingConfig) for f in fields(config)))


class DrawingJob(job.Job):
    """The training of a drawing model or a VAE.

    Args:
        begun: from `new_run` or `resumed_run`.
        name: of the command.
        device: of the model.
        backends: of the ops, as text.
    """

    unit = "images"

    def __init__(self, begun: Job, name: str, device: str, backends: str) -> None:
        self.begun, self.run, self.trainer, self.remarks = begun, begun.run, begun.trainer, begun.remarks
        self.NAME, recipe = name, begun.trainer.config  # type: ignore[misc]
        self.epochs, self.per_update = recipe.epochs, recipe.batch_size
        self.device, self.backends = device, backends
        self.recent: deque[Update] = deque(maxlen=AVERAGED_UPDATES)

    def describe(self) -> str:
        begun = self.run.record.get("begun", {})
        start = (
            f", begun from {begun['init_from']} with {counted(begun['new_words'], 'new word')}"
            if "init_from" in begun
            else ""
        )
        return f"{self.begun.description(self.device)}, {self.backends}{start}"

    def status(self, update: Update) -> str:
        self.recent.append(update)
        kl, nll = (sum(x) / len(self.recent) for x in zip(*((u.kl, u.nll) for u in self.recent)))
        return f"bound {kl + nll:.1f}, KL {kl:.1f}, NLL {nll:.1f}"

    def epoch_line(self, epoch: int, scores: Mapping[str, Any]) -> str:
        path = self.run.folder / SAMPLES / f"epoch-{epoch:04d}.png"
        path.parent.mkdir(exist_ok=True)
        self._write_sheet(path, self.begun.pipeline)
        return _bounds(scores)

    def _write_sheet(self, path: Path, pipeline: Pipeline) -> None:
        captions = self.begun.data.preview_captions
        drawing = draw_one_by_one(pipeline, [caption for caption, _ in captions])
        with failing(ValueError), writing(path):  # pictures of other than 1 or 3 channels
            drawing.save(path, [remark for _, remark in captions])

    def train(self, on_epoch: Callable[[int, Mapping[str, Any]], None], **options: Any) -> str:
        return train(self.begun, on_epoch=on_epoch, **options)

    def finish(self, ended: str) -> Iterator[str]:
        folder, data = self.run.folder, self.begun.data
        self._write_sheet(folder / f"{SAMPLES}.png", Pipeline.from_pretrained(folder))
        epochs = [m for m in self.run.metrics() if "epoch" in m]
        bounds = _bounds({kind: epochs[-1][kind] for kind in data.validation_sets}) if epochs else "bound unknown"
        done = f"{self.trainer.index:,} of {counted(self.trainer.total, 'update')}"
        yield f"{ended} after {done}: {bounds}"
        yield f"wrote {folder / WEIGHTS} and {CONFIG}: the model"
        yield f"wrote {folder / SAMPLES}.png: a picture of each of {counted(len(data.preview_captions), 'caption')}"
        yield f"next: aligndraw sample {shlex.quote(data.preview_captions[0][0])} --model {shlex.quote(str(folder))}"


def _bounds(scores: Mapping[str, Any]) -> str:
    means = (f"{s['bound']['mean']:.1f} ± {s['bound']['error']:.1f} on {kind}" for kind, s in scores.items())
    return f"bound in nats {', '.join(means)}".replace("_", " ")


def add_to(parsers: Any) -> None:
    """Adds the three commands to the subparsers of `aligndraw train`."""
    parser = _add_set(
        parsers,
        "mnist",
        "MNIST with captions: one or two digits, and captions that name their places",
        "Trains on MNIST with captions: one or two digits on 60 x 60 pixels, by default of the 10,000 in the package.",
        "quick: minutes on a laptop; best: longer, for better pictures; paper: the paper's model and recipe, hours",
    )
    digits = ".npz with images [n, 28, 28] and labels [n], uint8; or a folder with MNIST's IDX files; or the authors' "
    parser.add_argument("--digits", type=Path, metavar="PATH", help=f"{digits}mnist.h5; {_MOVED}")
    parser.set_defaults(moves=("digits",))
    bans = "placements that training never shows; strict: one digit per place; authors: drawn per template, as the "
    bans += "paper's authors do; sifting, rotated-3, rotated-7: other digits per place [strict]"
    parser.add_argument("--bans", choices=BANS, help=bans)
    _add_set(
        parsers,
        "scenes",
        "scenes: colour pictures of one object before a sky and a ground",
        "Trains on scenes: 32 x 32 colour pictures of one object before a sky and a ground, painted during training.",
        "scenes: a model for a laptop",
    )
    parser = _add_set(
        parsers,
        "captioned",
        "captioned images in a folder",
        "Trains on captioned images that `aligndraw data` has stored; they set image size, channels and vocabulary.",
        "scenes: small; photos: smaller, for a few thousand photographs; coco: the paper's model and recipe, days on a "
        "CPU",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"folder that `aligndraw data` wrote; {_MOVED}")
    parser.set_defaults(moves=("data",))


def _add_set(parsers: Any, name: str, summary: str, description: str, presets: str) -> argparse.ArgumentParser:
    """Adds the parser of a data set, with the options of all data sets."""
    seed = "the parameters, the examples and the noise"
    begin = begins(_new, _resumed)
    parser = job.add_training(parsers, name, begin, summary, description, "the preset", seed, model=True)
    parser.add_argument("--preset", choices=PRESETS[name], help=f"{presets} [{next(iter(PRESETS[name]))}]")
    add_validation_size(parser)
    table = PRESETS[name]
    models = next(iter(table.values()))
    kinds = "align: alignDRAW; noalign: one vector of its language model in all steps; skipthought: one vector of a "
    kinds += f"sentence encoder (--sentences){_VAES * ('fc-vae' in models)} [align]"
    parser.add_argument("--model", choices=models, help=kinds)
    drawing = {preset: configs["align"] for preset, configs in table.items()}
    start = (
        "begin with the weights, sizes and words of a model, as for `aligndraw sample`; words that it lacks are added, "
    )
    start += "and the preset gives the recipe alone"
    parser.add_argument("--init-from", metavar="MODEL", help=start)
    add_config(parser, "model", {preset: model for preset, (model, _) in drawing.items()})
    if "fc-vae" in models:
        known = [f.name for f in fields(AlignDRAWConfig)]
        for kind in ("fc-vae", "conv-vae"):
            sizes = {preset: configs[kind][0] for preset, configs in table.items()}
            add_config(parser, f"model of --model {kind}, whose likelihood is gaussian", sizes, without=known)
    add_config(parser, "training", {preset: recipe for preset, (_, recipe) in drawing.items()})
    parser.set_defaults(set=name, begins_with=("init_from",))
    return parser


def begins(new: Start, resumed: Start) -> job.Begin:
    """Returns the function that begins a training by `new`, or resumes it by `resumed`."""

    @contextmanager
    def begin(arguments: argparse.Namespace) -> Iterator[DrawingJob]:
        backends = describe_backends(arguments.device)  # a Failure comes before any file is written
        with ExitStack() as stack:
            with failing(ValueError):
                begun = resumed(arguments, stack) if arguments.resume else new(arguments, stack)
            yield DrawingJob(begun, arguments.set, arguments.device, backends)

    return begin


def _new(arguments: argparse.Namespace, stack: ExitStack) -> Job:
    name = arguments.set
    data = getattr(arguments, "digits" if name == "mnist" else "data", None)
    if name == "captioned" and data is None:
        raise Failure("captioned images are needed: give --data DIR", status=2)
    start = vocabulary = None
    if arguments.init_from is not None:
        with failing(FileNotFoundError):
            start, vocabulary = load_start(find_model(arguments.init_from))
    preset = arguments.preset or next(iter(PRESETS[name]))
    kind = model_kind(start.config) if start else arguments.model or "align"
    if arguments.model not in (None, kind):
        raise Failure(f"--model must be {kind} as the model in {arguments.init_from}, got {arguments.model}", status=2)
    if kind not in PRESETS[name][preset]:
        raise Failure(f"the model in {arguments.init_from} must be one that train {name} trains, got {kind}", status=2)
    if kind == "skipthought" and arguments.sentences is None:
        raise Failure("--model skipthought reads sentence vectors: give --sentences KIND", status=2)
    network, recipe = PRESETS[name][preset][kind]
    network = start.config if start else network
    known = {f.name for config in (network, recipe) for f in fields(config)}
    for field in FIELDS:
        if field not in known and getattr(arguments, field, None) is not None:
            raise Failure(f"--{field.replace('_', '-')} has no meaning for --model {kind}: leave it out", status=2)
    with failing(ValueError, status=2):
        apply_overrides(network, arguments)
        training = apply_overrides(recipe, arguments)
    found = open_data_set(name, data, arguments.validation_size or VALIDATION_SIZE, getattr(arguments, "bans", None))
    options = dict(seed=arguments.seed, device=arguments.device, overwrite=arguments.overwrite, preset=preset)
    network = config_for(network, found)
    words = vocabulary
    if start and vocabulary and start.language is not None:
        words = vocabulary.extended(found.source.vocabulary)
        network = network.replace(vocabulary_size=len(words))
        options["vocabulary"] = words
    model = apply_overrides(network, arguments)
    if start:
        check_sizes(model, start.config, f"the model in {arguments.init_from}")
        if words and vocabulary and "." in set(words.words) - set(vocabulary.words):
            tell(
                "a full stop is new to the model and now ends every caption: it draws old captions otherwise",
                error=True,
            )
        new = len(words or ()) - len(vocabulary or ())
        begun = {"init_from": lasting_name(arguments.init_from), "new_words": new}
        options |= dict(start=start, begun=begun)
    return stack.enter_context(new_run(arguments.out, model, training, found, **options))


def _resumed(arguments: argparse.Namespace, stack: ExitStack) -> Job:
    moved = next((getattr(arguments, name) for name in arguments.moves), None)
    begun = stack.enter_context(resumed_run(arguments.out, arguments.device, data=moved, epochs=arguments.epochs))
    if begun.data.name != arguments.set:
        command = f"aligndraw train {begun.data.name} --resume"
        raise Failure(f"{arguments.out} holds a training on {begun.data.title}: {command}")
    return begun
