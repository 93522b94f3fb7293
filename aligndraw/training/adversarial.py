"""Adversarial training of generators and discriminators, by the schedule of LAPGAN's released code.

Discriminator loss: binary cross-entropy on half a batch of real images and half a batch of fakes. Generator loss:
binary cross-entropy of fakes against the target "real", plus l1_weight · mean |fake − x|, where x is the real image
with the fake's caption. Each fake has its own noise, image and caption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from aligndraw.data import as_images
from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import AdversarialConfig, LAPGANConfig, SharpenerConfig, SharpeningConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator, TopDiscriminator
from aligndraw.lapgan.examples import CaptionedExamples
from aligndraw.lapgan.generator import ResidualGenerator, TopGenerator
from aligndraw.model.lapgan import LAPGAN
from aligndraw.noise import stream
from aligndraw.text.sentences import SentenceEncoder
from aligndraw.training.guards import check_finite, listed
from aligndraw.training.precision import autocast_to, float32_products, resolve_precision
from aligndraw.training.run import SKIPPED, RunFolder
from aligndraw.training.state import Resumable


@dataclass(frozen=True)
class Update:
    """The metrics of one update: losses in nats; accuracies, the discriminator's shares of right classifications."""

    index: int  # from 0
    epoch: int  # from 0
    discriminator_loss: float
    generator_loss: float
    real_accuracy: float
    fake_accuracy: float
    learning_rate: float
    momentum: float

    def numbers(self) -> dict[str, float]:
        """Returns the losses, the accuracies and the schedule."""
        return {name: value for name, value in vars(self).items() if name not in ("index", "epoch")}


METRICS = [f.name for f in fields(Update) if f.name.endswith(("loss", "accuracy"))]


class AdversarialTrainer(Resumable[Update]):
    """Trains one generator against one discriminator. `state_dict` holds all that the next `update` depends on.

    Several processes draw the rows and the noise of the whole batch; each takes its share of them.

    Args:
        generator, discriminator: of one level of the pyramid; trained in place.
        source: real images with captions.
        encoder: of the captions.
        config: the schedule.
        seed: of rows, noise and dropout.
        prepare: maps images [B, C, H, W] to those of the level.
        precision: the resolved one, where another trainer has it; None resolves that of the configuration.

    Raises:
        ValueError: several processes cannot share the batches.
    """

    SHARED = True

    def __init__(
        self,
        generator: ResidualGenerator | TopGenerator,
        discriminator: nn.Module,
        source: CaptionedExamples,
        encoder: SentenceEncoder,
        config: AdversarialConfig,
        seed: int = 0,
        prepare: Callable[[Tensor], Tensor] = lambda images: images,
        precision: str | None = None,
    ) -> None:
        model = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU
        self.device = next(model.parameters()).device
        precision = precision or resolve_precision(self.device, config.precision)
        super().__init__(model, _optimizer(model, config), precision)
        if 2 * self.ranks.count > config.batch_size:
            count = self.ranks.count
            raise ValueError(
                f"batch_size must be at least twice the number of processes, {count}, got {config.batch_size}"
            )
        self.generator, self.discriminator = generator, discriminator
        self.source, self.encoder, self.config, self.seed, self.prepare = source, encoder, config, seed, prepare
        self._drawn: list[int] = []  # the images of the present update

    @property
    def updates_per_epoch(self) -> int:
        return -(-len(self.source) // (self.config.batch_size // 2))

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.config.epochs * self.updates_per_epoch

    def update(self) -> Update:
        """Updates the discriminator, then the generator.

        Raises:
            aligndraw.training.guards.NotFinite: a loss, a gradient or a parameter is not finite; the trainer keeps its
                state.
        """
        with self.undone():
            return self.update_networks()

    def update_networks(self) -> Update:
        """As `update`, but an error in the generator's step leaves the discriminator's."""
        self._drawn.clear()
        config, half = self.config, self.config.batch_size // 2
        epoch = self.index // self.updates_per_epoch
        rate, momentum = config.learning_rate_in(epoch), config.momentum_in(epoch)
        if config.optimizer == "adam":
            momentum_options: dict[str, Any] = {"betas": (momentum, 0.999)}
        else:
            momentum_options = {"momentum": momentum, "dampening": momentum}
        for group in self.optimizer.param_groups:
            group.update(lr=rate, **momentum_options)
        generator = stream(self.seed, self.index)  # a resumed training draws the same
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), float32_products(self.precision == "tf32"):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # for dropout
            real, sentences = self._real(self._rows(half, generator))
            own = len(real)
            with torch.no_grad():
                fake, fake_sentences, _ = self._fake(half, generator)
            with self.ranks.dropout(half, 2):
                logits = self._discriminate(torch.cat([sentences, fake_sentences]), torch.cat([real, fake]))
            targets = (torch.arange(2 * own, device=self.device) < own).to(logits)
            correct = (logits > 0) == (targets > 0)
            discriminator_loss = binary_cross_entropy_with_logits(logits, targets)
            self._step(self.discriminator, discriminator_loss, self.ranks.weight(half))
            fake, fake_sentences, real = self._fake(2 * half, generator)
            with self.ranks.dropout(2 * half):
                logits = self._discriminate(fake_sentences, fake)
            generator_loss = binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            distance = (fake - real).abs().mean()  # L1 distance
            self._step(self.generator, generator_loss + config.l1_weight * distance, self.ranks.weight(2 * half))
        means = torch.stack(
            [n.float().mean() for n in (discriminator_loss, generator_loss, correct[:own], correct[own:])]
        )
        shares = means.new_tensor([self.ranks.weight(half)] * len(means))
        shares[1] = self.ranks.weight(2 * half)
        (total,), _ = self.ranks.summed([means.detach() * shares])
        measured = dict(zip(METRICS, total.tolist()))
        self.index += 1
        return Update(self.index - 1, epoch, learning_rate=rate, momentum=momentum, **measured)

    def _rows(self, count: int, generator: torch.Generator) -> NDArray[np.int64]:
        """Draws `count` rows of the source; returns this process's share."""
        rows: NDArray[np.int64] = torch.randint(len(self.source), (count,), generator=generator).numpy()
        self._drawn += rows.tolist()
        return rows[self.ranks.share(range(count))]

    def batch_name(self, index: int) -> str:
        return listed("images", self._drawn) if index == self.index else super().batch_name(index)

    def _real(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        images, captions = self.source.batch(rows)
        return self.prepare(images.to(self.device)), self.encoder.encode(captions).to(self.device)

    def _fake(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Returns this process's share of `count` fakes, their sentences, and the real images of the same captions."""
        rows = self._rows(count, generator)
        images, sentences = self._real(rows)
        noise = self.generator.noise(count, generator)[self.ranks.share(range(count))].to(self.device)
        with autocast_to(self.precision, self.device):
            return self._generate(sentences, noise, images, rows).float(), sentences, images

    def _generate(self, sentences: Tensor, noise: Tensor, images: Tensor, rows: NDArray[np.int64]) -> Tensor:
        return self.generator.generate(sentences, noise, images)

    def _discriminate(self, sentences: Tensor, images: Tensor) -> Tensor:
        with autocast_to(self.precision, self.device):  # its copies of parameters are stale after the next step
            logits: Tensor = self.discriminator(sentences, images)
        return logits.float()

    def _step(self, network: nn.Module, loss: Tensor, share: float) -> None:
        """Steps the parameters of one network; the optimizer skips the others, which have no gradient.

        Args:
            share: the weight of this process's loss in the batch's.
        """
        parameters = list(network.parameters())
        own = torch.autograd.grad(loss, parameters, torch.full_like(loss, share))
        (loss, *gradients), marks = self.ranks.summed([loss.detach() * share, *own])
        batch = self.batch_name(self.index)
        check_finite(gradients, loss, self.index, batch, marks=marks)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        check_finite(parameters, loss, self.index, batch, "parameter")


class SharpenerTrainer(AdversarialTrainer):
    """Trains a sharpener.

    Args:
        generator, discriminator, source, encoder, config, seed: as for `AdversarialTrainer`.

    Attributes:
        reconstructions: of each image of the source, uint8 [n, C, H, W], from
            `aligndraw.training.reconstructions.reconstruct`. Needed where `config.coarse` is "reconstructions".
    """

    config: SharpeningConfig
    generator: ResidualGenerator

    def __init__(
        self,
        generator: ResidualGenerator,
        discriminator: ResidualDiscriminator,
        source: CaptionedExamples,
        encoder: SentenceEncoder,
        config: SharpeningConfig,
        seed: int = 0,
    ) -> None:
        super().__init__(generator, discriminator, source, encoder, config, seed)
        self.reconstructions: NDArray[np.uint8] | None = None

    def coarse(self, images: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Returns the blurry inputs of examples, float32 [B, C, H, W].

        Args:
            images: the real images [B, C, H, W], of which `pyramid.coarse` makes the inputs.
            rows: int64 [B], positions in the source, which select reconstructions.
        """
        if self.config.coarse == "pyramid":
            return pyramid.coarse(images)
        assert self.reconstructions is not None
        return as_images(torch.from_numpy(self.reconstructions[rows]).to(images.device))

    def _generate(self, sentences: Tensor, noise: Tensor, images: Tensor, rows: NDArray[np.int64]) -> Tensor:
        return self.generator.sharpen(sentences, self.config.noise * noise, self.coarse(images, rows))


def _optimizer(networks: nn.Module, config: AdversarialConfig) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    return kind(networks.parameters(), lr=config.learning_rate)


@dataclass(frozen=True)
class PyramidUpdate:
    """The metrics of one update of both levels of a LAPGAN."""

    levels: Mapping[str, Update]  # "top" and "residual"

    @property
    def index(self) -> int:
        return self.levels["top"].index

    def numbers(self) -> dict[str, float]:
        """Returns the metrics of each level, under names such as top_generator_loss, and their common schedule."""
        measured = {f"{name}_{k}": getattr(u, k) for name, u in self.levels.items() for k in METRICS}
        first = self.levels["top"]
        return {**measured, "learning_rate": first.learning_rate, "momentum": first.momentum}


class PyramidTrainer(Resumable["PyramidUpdate"]):
    """Trains both levels of a LAPGAN independently; an update updates each level once.

    Args:
        model: trained in place; its language model stays as it is.
        source, encoder, config, seed: as for `AdversarialTrainer`.

    Attributes:
        levels: "top" trains on images from `pyramid.down`, "residual" on full-size ones.
    """

    SHARED = True

    def __init__(
        self,
        model: LAPGAN,
        source: CaptionedExamples,
        encoder: SentenceEncoder,
        config: AdversarialConfig,
        seed: int = 0,
    ) -> None:
        device = next(model.parameters()).device
        precision = resolve_precision(device, config.precision)
        top, residual = TopDiscriminator(model.config).to(device), ResidualDiscriminator(model.config).to(device)
        shared: dict[str, Any] = dict(source=source, encoder=encoder, config=config, seed=seed, precision=precision)
        self.levels = {
            "top": AdversarialTrainer(model.top, top, prepare=pyramid.down, **shared),
            "residual": AdversarialTrainer(model.residual, residual, **shared),
        }
        networks = nn.ModuleDict({name: level.model for name, level in self.levels.items()})
        super().__init__(networks, _optimizer(networks, config), precision)
        for level in self.levels.values():
            level.optimizer = self.optimizer  # checkpoints hold one optimizer
        self.config = config

    @property
    def updates_per_epoch(self) -> int:
        return self.levels["top"].updates_per_epoch

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.levels["top"].total

    def update(self) -> PyramidUpdate:
        """Updates each level once; errors are those of `AdversarialTrainer.update`."""
        done = {}
        with self.undone():
            for name, level in self.levels.items():
                level.index = self.index
                done[name] = level.update_networks()
        self.index += 1
        return PyramidUpdate(done)


class SharpenerRun(RunFolder[SharpenerConfig, SharpeningConfig]):
    """The run folder of a sharpener; `sharpener.safetensors` and `sharpener.json` hold that of the last epoch."""

    MODEL, TRAINING = SharpenerConfig, SharpeningConfig


class LAPGANRun(RunFolder[LAPGANConfig, AdversarialConfig]):
    """The run folder of a LAPGAN; `lapgan.safetensors` and `lapgan.json` hold that of the last epoch."""

    MODEL, TRAINING = LAPGANConfig, AdversarialConfig


def log_epoch(run: RunFolder[Any, Any], trainer: Resumable[Any], epoch: int) -> dict[str, float]:
    """Returns the mean losses and accuracies of the epoch that has just ended; adds them to the metrics of the run."""
    lines = [m for m in run.metrics() if trainer.index - trainer.updates_per_epoch < m["update"] and "epoch" not in m]
    lines = [line for line in lines if SKIPPED not in line]
    names = [name for name in (lines[0] if lines else ()) if name.endswith(tuple(METRICS))]
    means = {name: float(np.mean([line[name] for line in lines if name in line])) for name in names}
    run.log(update=trainer.index, epoch=epoch, **means)
    return means
