"""`aligndraw train sharpener`: images with captions to a sharpener in a run folder."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import aligndraw
from aligndraw.cli.command_sharpen import add_sentences
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_config, add_device, add_model, add_seed, chosen, whole
from aligndraw.cli.outputs import writing
from aligndraw.cli.runs import add_run, keeps_settings, new_run, tell_stopped, updates_bar
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.lapgan import pyramid
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.config import AdversarialConfig, SharpenerConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator
from aligndraw.lapgan.examples import CaptionedExamples, open_examples
from aligndraw.lapgan.sharpen import NAMES, Sharpener
from aligndraw.lapgan.training import AdversarialTrainer, SharpenerRun, Update, train_adversarial
from aligndraw.pipelines import SAMPLES, Pipeline
from aligndraw.text.sentences import SentenceEncoder, absolute, open_encoder
from aligndraw.training.run import RUN
from aligndraw.viz import Captioned, contact_sheet, save_png

RECIPE = {"published": AdversarialConfig()}
SHOWN = 8  # examples on the sheet of an epoch
SETTINGS = ("data", "sentences", "model", "seed", "planes", *(f.name for f in dataclasses.fields(AdversarialConfig)))


def add_to(sets: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = sets.add_parser(
        "sharpener",
        help="a sharpener, on images with captions",
        description="Trains a sharpener: the residual level of a Laplacian pyramid, a generator against a "
        "discriminator. Values in [brackets] are those of LAPGAN's released code. Ctrl-C saves the run, and --resume "
        "takes it up again.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder that `aligndraw data` wrote, of which the split train; or .npz with images, float32 [n, C, H, W] "
        "in [0, 1], and captions, strings [n]",
    )
    add_run(parser, "aligndraw-sharpener")
    add_sentences(parser, "caption")
    add_model(parser)
    parser.add_argument(
        "--planes",
        type=whole(1),
        metavar="N",
        help="planes of each hidden convolution: 128 as the paper's authors, 64 as LAPGAN [128]",
    )
    add_seed(parser, "of the parameters and of all that is drawn", default=None)
    add_device(parser)
    add_config(parser, "training", RECIPE)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.out
    with ExitStack() as stack, writing(folder):
        run, job = stack.enter_context(_resumed(arguments) if arguments.resume else _new(arguments))
        trainer = job.trainer
        made, judged = (sum(p.numel() for p in n.parameters()) for n in (trainer.generator, trainer.discriminator))
        done = f", from update {trainer.index} on" if trainer.index else ""
        print(
            f"training a generator of {made:,} parameters against a discriminator of {judged:,} on "
            f"{len(job.examples):,} images: {trainer.total:,} updates{done}; {arguments.device}",
            flush=True,
        )
        bar = stack.enter_context(updates_bar(trainer, trainer.total))

        def on_update(update: Update) -> None:
            bar.set_postfix_str(_told(vars(update)), refresh=False)
            bar.update()

        def on_epoch(epoch: int, means: dict[str, float]) -> None:
            job.sharpener.save(folder)
            job.write_sheet(folder / SAMPLES / f"epoch-{epoch:04d}.png")
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
            return tell_stopped("sharpener", trainer, trainer.total, folder)
    print(f"wrote {folder / NAMES[0]} and {NAMES[1]}: the sharpener")
    print(f'next: aligndraw sample "..." --sharpen {shlex.quote(str(folder))}')
    return 0


def _told(measured: dict[str, Any]) -> str:
    return (
        f"discriminator {measured['discriminator_loss']:.3f}, generator {measured['generator_loss']:.3f} nats; "
        f"told {100 * measured['real_accuracy']:.0f} % of real images, {100 * measured['fake_accuracy']:.0f} % of fakes"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """What is trained, on what: made anew from the settings that `run.json` holds."""

    config: SharpenerConfig
    trainer: AdversarialTrainer
    sharpener: Sharpener
    examples: CaptionedExamples
    encoder: SentenceEncoder

    def write_sheet(self, path: Path) -> None:
        """A few examples, each as the sharpener is given it, as it returns it, and as it really is."""
        path.parent.mkdir(exist_ok=True)
        count = len(self.examples)
        images, captions = self.examples.batch(np.linspace(0, count - 1, min(SHOWN, count), dtype=np.int64))
        coarse = pyramid.coarse(images).clamp(0, 1)
        device = next(self.sharpener.parameters()).device
        with torch.no_grad():
            sharp = self.sharpener(coarse.to(device), self.encoder.encode(captions).to(device)).cpu()
        rows = zip(captions, torch.stack([coarse, sharp, images], 1).numpy())
        sheet = contact_sheet([Captioned(caption, pictures) for caption, pictures in rows])
        save_png(sheet, path, {"Software": f"aligndraw {aligndraw.__version__}"})


def _job(settings: dict[str, Any], recipe: AdversarialConfig, device: str) -> _Job:
    examples = open_examples(settings["data"])
    if settings["sentences"] == "caption":
        pipeline = Pipeline.load(settings["drawn_by"])
        encoder = open_encoder("caption", pipeline.model.language, pipeline.vocabulary)
        notes = sentence_notes("caption", pipeline.model.language)
    else:
        encoder = open_encoder(settings["sentences"])
        notes = sentence_notes(settings["sentences"])
    images, captions = examples.batch(np.arange(1))
    _, channels, height, width = images.shape
    config = SharpenerConfig(
        image_size=(height, width),
        channels=channels,
        sentence_units=encoder.encode(captions).shape[1],
        planes=settings["planes"],
    )
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(settings["seed"])
        sharpener, discriminator = Sharpener(config).to(device), ResidualDiscriminator(config).to(device)
    sharpener.notes = {"sentences": notes, "settings": settings, "training": recipe.to_dict()}
    trainer = AdversarialTrainer(
        sharpener.generator, discriminator, examples, encoder, recipe, settings["seed"]
    )
    return _Job(config, trainer, sharpener, examples, encoder)


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[tuple[SharpenerRun, _Job]]:
    if arguments.data is None:
        raise Failure("--data PATH must say what to train on", status=2)
    settings = {
        "data": os.path.abspath(arguments.data),
        "sentences": absolute(arguments.sentences or "caption"),
        "drawn_by": arguments.model and os.path.abspath(arguments.model),
        "planes": arguments.planes or SharpenerConfig.planes,
        "seed": arguments.seed or 0,
    }
    with failing(ValueError, status=2):
        recipe = chosen(RECIPE["published"], arguments)
    with ExitStack() as stack:
        with failing(ValueError, FileNotFoundError):
            job = _job(settings, recipe, arguments.device)
            notes = {"settings": settings, "sha256": job.examples.checksum}
            begun = new_run(SharpenerRun, arguments, job.config, recipe, settings["seed"], NAMES, **notes)
            run = stack.enter_context(begun)
        yield run, job


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[tuple[SharpenerRun, _Job]]:
    keeps_settings(arguments, SETTINGS)
    with ExitStack() as stack:
        with failing(ValueError, FileNotFoundError):
            run = SharpenerRun.open(arguments.out)
            settings, checksum = run.record.get("settings"), run.record.get("sha256")
            if not isinstance(settings, dict) or set(settings) != {"data", "sentences", "drawn_by", "planes", "seed"}:
                raise Failure(f"{arguments.out / RUN} is damaged or foreign: it has no settings of a sharpener")
            job = _job(settings, run.training_config, arguments.device)
            if job.examples.checksum != checksum:
                raise Failure(f"{settings['data']} is not the data any more that {arguments.out} began with")
            stack.enter_context(run.locked())
            for line in run.restore(job.trainer):
                print(f"passed over: {line}", file=sys.stderr)
        yield run, job
