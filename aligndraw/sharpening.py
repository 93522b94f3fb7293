"""The trainings of sharpeners and LAPGANs, built from the settings in their `run.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aligndraw.data import CaptionedImages
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
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model import has_bound
from aligndraw.model.lapgan import LAPGAN
from aligndraw.pipelines import Pipeline
from aligndraw.pipelines.shipped import noted_model
from aligndraw.printable import counted
from aligndraw.text.sentences import SentenceEncoder, open_encoder
from aligndraw.training.adversarial import LAPGANRun, PyramidTrainer, SharpenerRun, SharpenerTrainer
from aligndraw.training.reconstructions import reconstruct
from aligndraw.training.run import TrainingSetup


def default_preset(data: Path) -> str:
    """Returns the default preset of a sharpener for the images at a path."""
    scenes = data.is_dir() and CaptionedImages.open(data).origin.get("kind") == "scenes"
    return "scenes" if scenes else "published"


class AdversarialSetup(TrainingSetup):
    """The training of generators against discriminators.

    Args:
        settings: "data" and "drawn_by", paths; "sentences", as for `open_encoder`; "seed".
        model: its image size, channels and sentence units are replaced by those of the data.
        recipe: the schedule.
        device: of the networks.

    Attributes:
        examples: images and captions.
        encoder: of the captions.
        pipeline: of the drawing model that reads the captions or makes the reconstructions; None where neither is
            needed.
        network: the generators, with their notes.

    Raises:
        FileNotFoundError: there is no model in the folder "drawn_by".
        ValueError: the data or the model cannot be read, or do not fit.
    """

    SETTINGS = {"data": (str,), "sentences": (str,), "drawn_by": (str, type(None)), "seed": (int,)}
    network: Sharpener | LAPGAN

    def __init__(
        self, settings: Mapping[str, Any], model: SharpenerConfig, recipe: AdversarialConfig, device: str
    ) -> None:
        self.settings, self.recipe, self.device = settings, recipe, device
        reads, language = settings["sentences"] == "caption", None
        self.reconstructs = isinstance(recipe, SharpeningConfig) and recipe.coarse == "reconstructions"
        self.pipeline = None
        if reads or self.reconstructs:
            self.pipeline = Pipeline.from_pretrained(noted_model(settings["drawn_by"]), device, sharpen=False)
        self.encoder: SentenceEncoder
        if self.pipeline is not None and reads:
            language = self.pipeline.model.language
            self.encoder = open_encoder("caption", language, self.pipeline.vocabulary)
        else:
            self.encoder = open_encoder(settings["sentences"])
        self.examples = self.open_examples(settings["data"])
        images, captions = self.examples.batch(np.arange(1))
        _, channels, height, width = images.shape
        units = self.encoder.encode(captions).shape[1]
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(settings["seed"])
            self.build(model.replace(image_size=(height, width), channels=channels, sentence_units=units))
        self.model_config = self.network.config
        sentences = sentence_notes(settings["sentences"], language)
        notes: dict[str, Any] = {"sentences": sentences, "settings": {**settings}, "training": recipe.to_dict()}
        if self.reconstructs:
            assert self.pipeline is not None
            if not has_bound(self.pipeline.model):
                raise ValueError("--coarse reconstructions needs a drawing model, got a LAPGAN: give another --model")
            notes["reconstructed_by"] = checksum(self.pipeline.model)
        self.network.notes = notes
        self.origins = {"sha256": (self.examples.checksum, settings["data"])}
        self.origins |= {name: (notes.get(name), settings["drawn_by"]) for name in ("sentences", "reconstructed_by")}

    def description(self) -> str:
        levels = list(self.trainer.levels.values()) if isinstance(self.trainer, PyramidTrainer) else [self.trainer]
        generators, discriminators = (
            sum(p.numel() for level in levels for p in getattr(level, network).parameters())
            for network in ("generator", "discriminator")
        )
        return (
            f"generators of {generators:,} parameters against discriminators of {discriminators:,} on "
            f"{counted(len(self.examples), 'image')}: {counted(self.trainer.total, 'update')}"
        )

    @staticmethod
    def open_examples(path: str) -> CaptionedExamples:
        """Returns images and captions."""
        return open_examples(path)

    def build(self, model: SharpenerConfig) -> None:
        """Sets `network` and `trainer`. The caller has seeded the default generator."""
        raise NotImplementedError


class SharpenerSetup(AdversarialSetup):
    """The training of a sharpener."""

    RUN, PRESETS = SharpenerRun, SHARPENERS
    network: Sharpener
    trainer: SharpenerTrainer

    def build(self, model: SharpenerConfig) -> None:
        assert isinstance(self.recipe, SharpeningConfig)
        self.network = Sharpener(model).to(self.device)
        networks = self.network.generator, ResidualDiscriminator(model).to(self.device)
        self.trainer = SharpenerTrainer(*networks, self.examples, self.encoder, self.recipe, self.settings["seed"])

    def reconstruct(self, on_images: Callable[[int], object]) -> None:
        """Computes the reconstructions that the sharpener trains on.

        Calls `on_images` with numbers of images just done.

        Raises:
            ValueError: the model is no drawing model, or draws images of another shape.
        """
        assert self.pipeline is not None and has_bound(self.pipeline.model)
        model, reader, seed = self.pipeline.model, self.pipeline.reader, self.settings["seed"]
        self.trainer.reconstructions = reconstruct(model, reader, self.examples, seed, on_images)


class LAPGANSetup(AdversarialSetup):
    """The training of both levels of a LAPGAN."""

    RUN, PRESETS = LAPGANRun, PYRAMIDS
    network: LAPGAN
    trainer: PyramidTrainer

    @staticmethod
    def open_examples(path: str) -> CaptionedExamples:
        return StoredExamples(path)

    def build(self, model: SharpenerConfig) -> None:
        assert isinstance(model, LAPGANConfig)
        config, pipeline = model.replace(sentences=self.settings["sentences"]), self.pipeline
        if pipeline is None:
            network = LAPGAN(config, CaptionedImages.open(self.settings["data"]).vocabulary)
        else:
            network = LAPGAN(config, pipeline.vocabulary, pipeline.model.language)
        self.network = network.to(self.device)
        self.trainer = PyramidTrainer(network, self.examples, self.encoder, self.recipe, self.settings["seed"])
