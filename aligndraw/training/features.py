"""Training of a feature network (`aligndraw.evaluation.features`) on images with classes.

The defaults are those of the CIFAR-10 network whose feature space the paper uses: SGD with momentum, a step size halved
every 25 epochs, and half of the images mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from aligndraw.data import as_images
from aligndraw.data.labelled import open_labelled
from aligndraw.evaluation.features import FeatureNetwork, FeaturesConfig
from aligndraw.evaluation.fidelity import Share
from aligndraw.printable import counted
from aligndraw.settings import Config, setting
from aligndraw.training.guards import check_finite, kept
from aligndraw.training.run import RunFolder, TrainingSetup
from aligndraw.training.state import Resumable

NORMALIZATION_IMAGES = 2000  # training images from which the mean and deviation of each channel are taken


class Labelled(Protocol):
    """Images with classes, such as `aligndraw.data.labelled.LabelledImages`."""

    def epoch(self, seed: int, epoch: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Returns `size` images uint8 [size, C, H, W] and their classes, fully determined by (seed, epoch)."""
        ...


@dataclass(frozen=True)
class FeaturesRecipe(Config):
    """How a feature network is trained."""

    epochs: int = setting(300, "epochs of epoch_size images")
    epoch_size: int = setting(50_000, "images per epoch")
    batch_size: int = setting(128, "images per update; an incomplete last batch is skipped")
    learning_rate: float = setting(1.0, "initial step size; the gradients are averaged with momentum 0.9")
    halved_every: int = setting(25, "epochs between halvings of the step size")
    weight_decay: float = setting(5e-4, "factor of the weights added to their gradients")

    def __post_init__(self) -> None:
        self._check()
        if not self.learning_rate > 0 or self.weight_decay < 0:
            got = f"{self.learning_rate!r} and {self.weight_decay!r}"
            raise ValueError(f"learning_rate must be above 0 and weight_decay not negative, got {got}")
        if not 2 <= self.batch_size <= self.epoch_size:
            raise ValueError(f"batch_size must be from 2 to epoch_size {self.epoch_size}, got {self.batch_size}")


# Models and their recipes.
PRESETS = {
    "scenes": (
        FeaturesConfig(hidden_channels=16, dropout=0.0),
        FeaturesRecipe(epochs=8, epoch_size=12_800, batch_size=64, learning_rate=0.2, halved_every=3),
    ),
    "cifar": (FeaturesConfig(), FeaturesRecipe()),
}


class FeaturesRun(RunFolder[FeaturesConfig, FeaturesRecipe]):
    """The run folder of a feature network."""

    MODEL, TRAINING = FeaturesConfig, FeaturesRecipe


@dataclass(frozen=True)
class FeaturesUpdate:
    """The metrics of one update."""

    index: int  # from 0
    epoch: int  # from 0
    loss: float  # nats per image
    right: float  # share of the batch classified right

    def numbers(self) -> dict[str, float]:
        """Returns the loss and the accuracy."""
        return {"loss": self.loss, "right": self.right}


class FeaturesTrainer(Resumable[FeaturesUpdate]):
    """Trains a feature network. `state_dict` holds all that the next `update` depends on.

    Args:
        network: trained in place.
        data: the training images.
        recipe: how it is trained.
        seed: of the order of the images, of mirroring and of dropout.
    """

    model: FeatureNetwork

    def __init__(self, network: FeatureNetwork, data: Labelled, recipe: FeaturesRecipe, seed: int = 0) -> None:
        optimizer = torch.optim.SGD(
            network.parameters(), recipe.learning_rate, 0.9, dampening=0.9, weight_decay=recipe.weight_decay
        )
        super().__init__(network, optimizer)
        self.data, self.recipe, self.seed = data, recipe, seed
        self._epoch: tuple[int, NDArray[np.uint8], NDArray[np.int64]] | None = None

    @property
    def updates_per_epoch(self) -> int:
        return self.recipe.epoch_size // self.recipe.batch_size

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.recipe.epochs * self.updates_per_epoch

    def set_normalization(self) -> None:
        """Sets the mean and deviation of each channel from training images; call it before the first update."""
        images, _ = self.data.epoch(self.seed, 0, NORMALIZATION_IMAGES)
        pixels = as_images(torch.from_numpy(images).to(self.model.mean.device))
        self.model.mean.copy_(pixels.mean((0, 2, 3)))
        self.model.deviation.copy_(pixels.std((0, 2, 3)).clamp(min=1e-3))

    def update(self) -> FeaturesUpdate:
        """Runs one update.

        Raises:
            aligndraw.training.guards.NotFinite: a loss, a gradient or a parameter is not finite. Where it is no
                parameter, the network keeps its parameters and statistics.
        """
        with kept(self.model.buffers()):
            return self._update()

    def batch_name(self, index: int) -> str:
        epoch, position = divmod(index, self.updates_per_epoch)
        first = position * self.recipe.batch_size
        return f"images {first + 1} to {first + self.recipe.batch_size} of epoch {epoch + 1}"

    def _update(self) -> FeaturesUpdate:
        recipe = self.recipe
        epoch, position = divmod(self.index, self.updates_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, *self.data.epoch(self.seed, epoch, recipe.epoch_size)
        rows = slice(position * recipe.batch_size, (position + 1) * recipe.batch_size)
        device = self.model.mean.device
        images = as_images(torch.from_numpy(self._epoch[1][rows]).to(device))
        labels = torch.from_numpy(self._epoch[2][rows]).to(device)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 ** (epoch // recipe.halved_every)
        self.model.train()
        devices = () if device.type == "cpu" else (device,)
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(np.random.SeedSequence((self.seed, self.index)).generate_state(1, np.uint64)[0] >> 1))
            mirrored = torch.rand(len(images), device=device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            logits: Tensor = self.model(images)
        loss = functional.cross_entropy(logits, labels)
        value, right = loss.item(), (logits.argmax(1) == labels).float().mean().item()
        self.optimizer.zero_grad()
        loss.backward()
        batch = self.batch_name(self.index)
        check_finite([p.grad for p in self.model.parameters() if p.grad is not None], loss, self.index, batch)
        self.optimizer.step()
        state = [
            t.detach() for t in self.model.state_dict().values() if t.is_floating_point()
        ]  # and the statistics of batch normalisation
        check_finite(state, loss, self.index, batch, "parameter")
        self.index += 1
        return FeaturesUpdate(self.index - 1, epoch, value, right)


def accuracy(network: FeatureNetwork, data: Labelled, size: int = 1000, batch_size: int = 500) -> Share:
    """Returns the share of test images that the network classifies right."""
    images, labels = data.epoch(0, 0, size)
    network.eval()
    hits = 0
    with torch.no_grad():
        for start in range(0, size, batch_size):
            part = as_images(torch.from_numpy(images[start : start + batch_size]).to(network.mean.device))
            predicted = network(part).argmax(1).cpu()
            hits += int((predicted == torch.from_numpy(labels[start : start + batch_size])).sum())
    return Share(hits, size)


class FeaturesSetup(TrainingSetup):
    """The training of a feature network.

    Args:
        settings: "data", a folder with CIFAR-10 or None for scenes; "seed".
        model: its image size, channels and classes are replaced by those of the data.
        recipe: how it is trained.
        device: of the network.

    Attributes:
        test: images to test on.

    Raises:
        aligndraw.data.DataError: the images cannot be read.
    """

    RUN, PRESETS, SETTINGS = FeaturesRun, PRESETS, {"data": (str, type(None)), "seed": (int,)}
    model_config: FeaturesConfig
    trainer: FeaturesTrainer

    def __init__(self, settings: Mapping[str, Any], model: FeaturesConfig, recipe: FeaturesRecipe, device: str) -> None:
        self.settings, self.recipe = settings, recipe
        images, self.test = open_labelled(settings["data"])
        self.origins = {"sha256": (images.checksum, settings["data"])}
        channels, *size = images.image_shape
        self.model_config = model.replace(image_size=tuple(size), channels=channels, classes=len(images.classes))
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(settings["seed"])
            network = FeatureNetwork(self.model_config)
        self.trainer = FeaturesTrainer(network.to(device), images, recipe, settings["seed"])
        self.trainer.set_normalization()

    def description(self) -> str:
        parameters = sum(p.numel() for p in self.trainer.model.parameters())
        data = self.settings["data"] or "scenes"
        classes, updates = self.model_config.classes, self.trainer.total
        return (
            f"{parameters:,} parameters on {counted(classes, 'class', 'classes')} of {data}: "
            f"{counted(updates, 'update')}"
        )

    def save(self, folder: Path) -> None:
        """Writes the network with notes on its training."""
        notes = {"settings": dict(self.settings), "training": self.recipe.to_dict(), "updates": self.trainer.index}
        self.trainer.model.notes = notes
        self.trainer.model.save(folder)
