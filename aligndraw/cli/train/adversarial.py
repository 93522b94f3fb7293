"""`aligndraw train sharpener` and `aligndraw train lapgan`: train on images with captions, in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.command_sharpen import SENTENCES
from aligndraw.cli.failure import Failure
from aligndraw.cli.options import add_model, add_presets, add_sentences
from aligndraw.cli.train import job
from aligndraw.lapgan import sharpen
from aligndraw.model import lapgan
from aligndraw.noise import stream
from aligndraw.pipelines.shipped import lasting_name
from aligndraw.sharpening import AdversarialSetup, LAPGANSetup, SharpenerSetup, default_preset
from aligndraw.text.sentences import absolute_specification
from aligndraw.training.adversarial import PyramidUpdate, Update, log_epoch
from aligndraw.training.run import SAMPLES
from aligndraw.viz import Captioned, contact_sheet, save_png

PREVIEW_COUNT = 8  # examples on an epoch's sheet
DATA_FIELDS = ("image_size", "channels", "sentence_units", "sentences")  # of the model; no options


class AdversarialJob(job.SetupJob):
    """A training of generators against discriminators; NEXT is the command that uses the result."""

    FILES: ClassVar[tuple[str, str]]
    NEXT: ClassVar[str]
    setup: AdversarialSetup

    def pictures(self, rows: NDArray[np.int64], images: Tensor, sentences: Tensor) -> Tensor:
        """Returns the pictures of an epoch's sheet [n, k, C, H, W], k for each of n examples."""
        raise NotImplementedError

    @classmethod
    def preset(cls, data: Path) -> str:
        """Returns the default preset."""
        return "scenes"

    @classmethod
    def settings_from(cls, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
        if arguments.data is None:
            raise Failure("--data PATH must name the training data", status=2)
        settings = {
            "data": os.path.abspath(arguments.data),
            "sentences": absolute_specification(arguments.sentences or "caption"),
            "drawn_by": None if arguments.model is None else lasting_name(arguments.model),
            "seed": arguments.seed,
        }
        return settings, arguments.preset or cls.preset(arguments.data)

    def describe(self) -> str:
        preset = f" by the preset {self.run.record['preset']}" if "preset" in self.run.record else ""
        return f"{self.NAME}{preset}: {self.setup.description()}"

    def status(self, update: Update | PyramidUpdate) -> str:
        return _text(update.numbers())

    def end_epoch(self, epoch: int) -> Mapping[str, Any]:
        means = log_epoch(self.run, self.trainer, epoch)
        self.setup.network.save(self.run.folder)
        return means

    def epoch_line(self, epoch: int, scores: Mapping[str, Any]) -> str:
        count = len(self.setup.examples)
        rows = np.linspace(0, count - 1, min(PREVIEW_COUNT, count), dtype=np.int64)
        images, captions = self.setup.examples.batch(rows)
        pictures = self.pictures(rows, images, self.setup.encoder.encode(captions).to(self.setup.device))
        sheet = contact_sheet([Captioned(*row) for row in zip(captions, pictures.numpy())])
        path = self.run.folder / SAMPLES / f"epoch-{epoch:04d}.png"
        path.parent.mkdir(exist_ok=True)
        save_png(sheet, path, {"Software": f"aligndraw {aligndraw.__version__}"})
        return _text(scores)

    def finish(self, ended: str) -> Iterator[str]:
        folder = self.run.folder
        yield f"wrote {folder / self.FILES[0]} and {self.FILES[1]}"
        yield f"next: {self.NEXT.format(folder=shlex.quote(str(folder)))}"


def _text(numbers: Mapping[str, float]) -> str:
    levels = [name.removesuffix("generator_loss") for name in numbers if name.endswith("generator_loss")]
    return "; ".join(
        f"{level.replace('_', ' ')}discriminator {numbers[f'{level}discriminator_loss']:.3f}, "
        f"generator {numbers[f'{level}generator_loss']:.3f} nats, "
        f"recognised {100 * numbers[f'{level}real_accuracy']:.0f} % of real images, "
        f"{100 * numbers[f'{level}fake_accuracy']:.0f} % of fakes"
        for level in levels
    )


class SharpenerJob(AdversarialJob):
    """The training of a sharpener."""

    NAME, SETUP, FILES = "sharpener", SharpenerSetup, sharpen.NAMES
    NEXT = 'aligndraw sample "..." --sharpen {folder}'
    setup: SharpenerSetup

    @classmethod
    def preset(cls, data: Path) -> str:
        return default_preset(data)

    def prepare(self) -> None:
        if self.setup.reconstructs:
            count, hidden = len(self.setup.examples), None if self.trainer.ranks.first else True  # None: off a terminal
            with tqdm(total=count, unit=" reconstructions", dynamic_ncols=True, disable=hidden) as bar:
                self.setup.reconstruct(bar.update)

    @torch.no_grad()
    def pictures(self, rows: NDArray[np.int64], images: Tensor, sentences: Tensor) -> Tensor:
        coarse = self.setup.trainer.coarse(images, rows).clamp(0, 1)
        sharp = self.setup.network(coarse.to(self.setup.device), sentences).cpu()
        return torch.stack([coarse, sharp, images], 1)


class LAPGANJob(AdversarialJob):
    """The training of both levels of a LAPGAN."""

    NAME, SETUP, FILES = "lapgan", LAPGANSetup, lapgan.NAMES
    NEXT = 'aligndraw sample "..." --model {folder}'
    setup: LAPGANSetup

    def pictures(self, rows: NDArray[np.int64], images: Tensor, sentences: Tensor) -> Tensor:
        noise = [[stream(j, i) for i in range(len(images))] for j in range(3)]
        return torch.stack([*(self.setup.network.generate(sentences, streams).cpu() for streams in noise), images], 1)


def add_to(parsers: Any) -> None:
    """Adds both commands to the subparsers of `aligndraw train`."""
    data = "folder that `aligndraw data` wrote, whose train split is used"
    _add_training(
        parsers,
        SharpenerJob,
        "a sharpener, on images with captions",
        "Trains a sharpener: the residual level of a Laplacian pyramid, a generator against a discriminator.",
        f"{data}; or .npz with images, float32 [n, C, H, W] in [0, 1], and captions, strings [n]",
        "published: the paper's size and the schedule of LAPGAN's released code, hours on a CPU; scenes: small, for a "
        "laptop, on reconstructions by --model [scenes for images of `aligndraw data scenes`, else published]",
    )
    _add_training(
        parsers,
        LAPGANJob,
        "LAPGAN, a baseline that draws without an alignDRAW, on images with captions",
        "Trains the paper's baseline LAPGAN: two levels of a Laplacian pyramid, each a generator against a "
        "discriminator.",
        data,
        "scenes: small, for a laptop; released: the sizes of LAPGAN's released code for CIFAR-10 [scenes]",
    )


def _add_training(
    parsers: Any, training: type[AdversarialJob], summary: str, description: str, data: str, presets: str
) -> None:
    seed = "the parameters, the examples and the noise"
    parser = job.add_training(parsers, training.NAME, training.begin, summary, description, "the presets", seed)
    parser.add_argument("--data", type=Path, metavar="PATH", help=data)
    parser.add_argument("--preset", choices=training.SETUP.PRESETS, help=presets)
    add_sentences(parser, SENTENCES, "caption")
    add_model(parser)
    add_presets(parser, training.SETUP.PRESETS, without=DATA_FIELDS)
    parser.set_defaults(begins_with=("model",))
