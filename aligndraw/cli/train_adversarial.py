"""`aligndraw train sharpener` and `aligndraw train lapgan`: images with captions to networks in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.command_sharpen import SENTENCES
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_config, add_device, add_model, add_seed, add_sentences, chosen, fields
from aligndraw.cli.outputs import writing
from aligndraw.cli.runs import add_run, keeps_settings, new_run, tell_stopped, updates_bar
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.data import CaptionedImages
from aligndraw.lapgan import model as lapgan
from aligndraw.lapgan import sharpen
from aligndraw.lapgan.captioned import checksum, sentence_notes
from aligndraw.lapgan.config import (
    PYRAMIDS,
    SHARPENERS,
    AdversarialConfig,
    LAPGANConfig,
    SharpenerConfig,
    SharpeningConfig,
)
from aligndraw.lapgan.discriminator import ResidualDiscriminator
from aligndraw.lapgan.examples import CaptionedExamples, StoredExamples, open_examples
from aligndraw.lapgan.model import LAPGAN
from aligndraw.lapgan.reconstructions import reconstruct
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.lapgan.training import (
    LAPGANRun,
    PyramidTrainer,
    SharpenerRun,
    SharpenerTrainer,
    train_adversarial,
)
from aligndraw.model import Model
from aligndraw.model.noise import stream
from aligndraw.pipelines import Pipeline
from aligndraw.text.sentences import SentenceEncoder, absolute, open_encoder
from aligndraw.training.run import RUN, SAMPLES, RunFolder
from aligndraw.viz import Captioned, contact_sheet, save_png

SHOWN = 8  # examples on the sheet of an epoch
OF_THE_DATA = ("image_size", "channels", "sentence_units", "sentences")  # fields that are no options
SETTINGS = {"data", "sentences", "drawn_by", "seed"}  # what `run.json` holds besides the configurations


@dataclass(frozen=True)
class _Given:
    """What a training stands on: made anew from the settings that `run.json` holds."""

    examples: CaptionedExamples
    encoder: SentenceEncoder
    pipeline: Pipeline | None  # whose language model reads the captions, or whose pictures are sharpened
    settings: Mapping[str, Any]
    device: str

    def fitted(self, config: SharpenerConfig) -> SharpenerConfig:
        """The sizes with those of the images and of the sentences' vectors."""
        images, captions = self.examples.batch(np.arange(1))
        _, channels, height, width = images.shape
        units = self.encoder.encode(captions).shape[1]
        return config.replace(image_size=(height, width), channels=channels, sentence_units=units)

    def shown(self) -> tuple[NDArray[np.int64], Tensor, list[str], Tensor]:
        """A few examples: where they stand, images, captions, and vectors of these."""
        count = len(self.examples)
        rows = np.linspace(0, count - 1, min(SHOWN, count), dtype=np.int64)
        images, captions = self.examples.batch(rows)
        return rows, images, list(captions), self.encoder.encode(captions).to(self.device)

    def reconstructions(self) -> NDArray[np.uint8]:
        """What the drawing model makes of the images."""
        assert self.pipeline is not None
        model, count = self.pipeline.model, len(self.examples)
        if not isinstance(model, Model):
            raise ValueError("--coarse reconstructions needs a drawing model, got a LAPGAN: give another --model")
        with tqdm(total=count, unit=" reconstructions", dynamic_ncols=True, disable=None) as bar:
            return reconstruct(model, self.pipeline.reader, self.examples, self.settings["seed"], bar.update)


class _SharpenerJob:
    """A sharpener in training."""

    name, run, files, presets = "sharpener", SharpenerRun, sharpen.NAMES, SHARPENERS
    open_examples = staticmethod(open_examples)
    next = 'aligndraw sample "..." --sharpen {folder}'

    def __init__(self, given: _Given, config: SharpenerConfig, recipe: AdversarialConfig) -> None:
        assert isinstance(recipe, SharpeningConfig)
        self.given, seed = given, given.settings["seed"]
        self.model = Sharpener(config).to(given.device)
        judge = ResidualDiscriminator(config).to(given.device)
        self.trainer = SharpenerTrainer(self.model.generator, judge, given.examples, given.encoder, recipe, seed)

    @staticmethod
    def preset(data: Path) -> str:
        """The one that is taken where none is given."""
        scenes = data.is_dir() and CaptionedImages.open(data).origin.get("kind") == "scenes"
        return "scenes" if scenes else "published"

    def prepare(self) -> None:
        """What takes its time, when all else is known to be well."""
        if self.trainer.config.coarse == "reconstructions":
            self.trainer.reconstructions = self.given.reconstructions()

    @torch.no_grad()
    def rows(self) -> tuple[list[str], Tensor]:
        """Captions, and of each an example as the sharpener is given it, as it returns it, and as it really is."""
        rows, images, captions, sentences = self.given.shown()
        coarse = self.trainer.coarse(images, rows).clamp(0, 1)
        sharp = self.model(coarse.to(self.given.device), sentences).cpu()
        return captions, torch.stack([coarse, sharp, images], 1)


class _LAPGANJob:
    """Both levels of a LAPGAN in training."""

    name, run, files, presets = "lapgan", LAPGANRun, lapgan.NAMES, PYRAMIDS
    open_examples = StoredExamples
    next = 'aligndraw sample "..." --model {folder}'

    def __init__(self, given: _Given, config: SharpenerConfig, recipe: AdversarialConfig) -> None:
        assert isinstance(config, LAPGANConfig)
        self.given, seed, pipeline = given, given.settings["seed"], given.pipeline
        config = config.replace(sentences=given.settings["sentences"])
        if pipeline is None:
            model = LAPGAN(config, CaptionedImages.open(given.settings["data"]).vocabulary)
        else:
            model = LAPGAN(config, pipeline.vocabulary, pipeline.model.language)
        self.model = model.to(given.device)
        self.trainer = PyramidTrainer(self.model, given.examples, given.encoder, recipe, seed)

    @staticmethod
    def preset(data: Path) -> str:
        """The one that is taken where none is given."""
        return "scenes"

    def prepare(self) -> None:
        """Nothing takes its time."""

    def rows(self) -> tuple[list[str], Tensor]:
        """Captions, and of each three pictures as they are drawn, and the real one."""
        _, images, captions, sentences = self.given.shown()
        drawn = [self.model.imagine(sentences, [stream(j, i) for i in range(len(images))]).cpu() for j in range(3)]
        return captions, torch.stack([*drawn, images], 1)


_Job = _SharpenerJob | _LAPGANJob


def add_to(sets: Any) -> None:
    """Adds both commands to the subparsers of `aligndraw train`."""
    parser = sets.add_parser(
        "sharpener",
        help="a sharpener, on images with captions",
        description="Trains a sharpener: the residual level of a Laplacian pyramid, a generator against a "
        "discriminator. Values in [brackets] are those of the presets. Ctrl-C saves the run, and --resume takes it up "
        "again.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder that `aligndraw data` wrote, of which the split train; or .npz with images, float32 [n, C, H, W] "
        "in [0, 1], and captions, strings [n]",
    )
    parser.add_argument(
        "--preset",
        choices=SHARPENERS,
        help="published: the paper's size and the schedule of LAPGAN's released code, hours on a CPU; scenes: for a "
        "laptop, on what --model makes of the images [scenes for those that `aligndraw data scenes` wrote, else "
        "published]",
    )
    _add_options(parser, _SharpenerJob)
    parser = sets.add_parser(
        "lapgan",
        help="LAPGAN, a baseline that draws by itself, on images with captions",
        description="Trains the paper's baseline LAPGAN: two levels of a Laplacian pyramid, each a generator against a "
        "discriminator. Values in [brackets] are those of the presets. Ctrl-C saves the run, and --resume takes it up "
        "again.",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder that `aligndraw data` wrote, of which the split train"
    )
    parser.add_argument(
        "--preset",
        choices=PYRAMIDS,
        help="scenes: small, for a laptop; released: the sizes of LAPGAN's released code for CIFAR-10 [scenes]",
    )
    _add_options(parser, _LAPGANJob)


def _add_options(parser: argparse.ArgumentParser, job: type[_Job]) -> None:
    """What both share."""
    add_run(parser, f"aligndraw-{job.name}")
    add_sentences(parser, SENTENCES, "caption")
    add_model(parser)
    add_seed(parser, "of the parameters and of all that is drawn", default=None)
    add_device(parser)
    add_config(parser, "model", {name: config for name, (config, _) in job.presets.items()}, without=OF_THE_DATA)
    add_config(parser, "training", {name: recipe for name, (_, recipe) in job.presets.items()})
    parser.set_defaults(run=_run, job=job)


def _run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.out
    with ExitStack() as stack, writing(folder):
        run, job = stack.enter_context(_resumed(arguments) if arguments.resume else _new(arguments))
        trainer, seen = job.trainer, len(job.given.examples)
        levels = list(trainer.levels.values()) if isinstance(trainer, PyramidTrainer) else [trainer]
        made, judged = (
            sum(p.numel() for level in levels for p in getattr(level, network).parameters())
            for network in ("generator", "discriminator")
        )
        done = f", from update {trainer.index} on" if trainer.index else ""
        preset = f" by the preset {run.record['preset']}" if "preset" in run.record else ""
        print(
            f"training {job.name}{preset}: generators of {made:,} parameters against discriminators of {judged:,} on "
            f"{seen:,} images: {trainer.total:,} updates{done}; {arguments.device}",
            flush=True,
        )
        with failing(ValueError):
            job.prepare()
        bar = stack.enter_context(updates_bar(trainer, trainer.total))

        def on_update(numbers: dict[str, float]) -> None:
            bar.set_postfix_str(_told(numbers), refresh=False)
            bar.update()

        def on_epoch(epoch: int, means: dict[str, float]) -> None:
            job.model.save(folder)
            path = folder / SAMPLES / f"epoch-{epoch:04d}.png"
            path.parent.mkdir(exist_ok=True)
            captions, pictures = job.rows()
            sheet = contact_sheet([Captioned(*row) for row in zip(captions, pictures.numpy())])
            save_png(sheet, path, {"Software": f"aligndraw {aligndraw.__version__}"})
            bar.write(f"epoch {epoch}/{trainer.config.epochs}: {_told(means)}")
            sys.stdout.flush()

        stopping = stack.enter_context(stopped_by_signals())
        with failing(FloatingPointError, ValueError):
            finished = train_adversarial(
                run,
                trainer,
                checkpoint_every=arguments.checkpoint_every,
                on_update=on_update,
                on_epoch=on_epoch,
                stopping=stopping,
            )
        if not finished:
            return tell_stopped(job.name, trainer, trainer.total, folder)
    print(f"wrote {folder / job.files[0]} and {job.files[1]}")
    print(f"next: {job.next.format(folder=shlex.quote(str(folder)))}")
    return 0


def _told(numbers: dict[str, float]) -> str:
    levels = [name.removesuffix("generator_loss") for name in numbers if name.endswith("generator_loss")]
    return "; ".join(
        f"{level.replace('_', ' ')}discriminator {numbers[f'{level}discriminator_loss']:.3f}, "
        f"generator {numbers[f'{level}generator_loss']:.3f} nats, "
        f"told {100 * numbers[f'{level}real_accuracy']:.0f} % of real images, "
        f"{100 * numbers[f'{level}fake_accuracy']:.0f} % of fakes"
        for level in levels
    )


def _job(
    kind: type[_Job],
    settings: dict[str, Any],
    config: SharpenerConfig,
    recipe: AdversarialConfig,
    device: str,
) -> _Job:
    """What is trained, on what."""
    reads = settings["sentences"] == "caption"
    draws = isinstance(recipe, SharpeningConfig) and recipe.coarse == "reconstructions"
    pipeline, language = None, None
    if reads or draws:
        pipeline = Pipeline.load(settings["drawn_by"], device)
    if pipeline is not None and reads:
        language = pipeline.model.language
        encoder = open_encoder("caption", language, pipeline.vocabulary)
    else:
        encoder = open_encoder(settings["sentences"])
    given = _Given(kind.open_examples(settings["data"]), encoder, pipeline, settings, device)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(settings["seed"])
        job = kind(given, given.fitted(config), recipe)
    sentences = sentence_notes(settings["sentences"], language)
    job.model.notes = {"sentences": sentences, "settings": settings, "training": recipe.to_dict()}
    if draws:
        assert pipeline is not None
        job.model.notes["reconstructed_by"] = checksum(pipeline.model)
    return job


def _models(record: Mapping[str, Any]) -> dict[str, Any]:
    """What reads the captions, and what made reconstructions, as the notes of a sharpener or of a run have it."""
    return {name: record.get(name) for name in ("sentences", "reconstructed_by")}


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[tuple[RunFolder[Any, Any], _Job]]:
    kind: type[_Job] = arguments.job
    if arguments.data is None:
        raise Failure("--data PATH must say what to train on", status=2)
    settings = {
        "data": os.path.abspath(arguments.data),
        "sentences": absolute(arguments.sentences or "caption"),
        "drawn_by": arguments.model and os.path.abspath(arguments.model),
        "seed": arguments.seed or 0,
    }
    with failing(ValueError, FileNotFoundError):
        preset = arguments.preset or kind.preset(arguments.data)
    with failing(ValueError, status=2):
        sizes, schedule = kind.presets[preset]
        config, recipe = chosen(sizes, arguments), chosen(schedule, arguments)
    with ExitStack() as stack:
        with failing(ValueError, FileNotFoundError):
            job = _job(kind, settings, config, recipe, arguments.device)
            models = _models(job.model.notes)
            notes = {"preset": preset, "settings": settings, "sha256": job.given.examples.checksum, **models}
            begun = new_run(kind.run, arguments, job.model.config, recipe, settings["seed"], **notes)
            run = stack.enter_context(begun)
        yield run, job


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[tuple[RunFolder[Any, Any], _Job]]:
    kind: type[_Job] = arguments.job
    config, recipe = next(iter(kind.presets.values()))
    options = [f.name for part in (config, recipe) for f in fields(part)]
    keeps_settings(arguments, ["data", "sentences", "model", "seed", "preset", *options])
    with ExitStack() as stack:
        with failing(ValueError, FileNotFoundError):
            run = kind.run.open(arguments.out)
            settings, checksum = run.record.get("settings"), run.record.get("sha256")
            if not isinstance(settings, dict) or set(settings) != SETTINGS:
                raise Failure(f"{arguments.out / RUN} is damaged or foreign: it has no settings of a {kind.name}")
            job = _job(kind, settings, run.model_config, run.training_config, arguments.device)
            if job.given.examples.checksum != checksum:
                raise Failure(f"{settings['data']} is not the data any more that {arguments.out} began with")
            if _models(job.model.notes) != _models(run.record):
                raise Failure(f"{settings['drawn_by']} is not the model any more that {arguments.out} began with")
            stack.enter_context(run.locked())
            for line in run.restore(job.trainer):
                print(line, file=sys.stderr)
        yield run, job
