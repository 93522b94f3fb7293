"""The training loop: epochs of examples drawn anew, one update a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aligndraw.config import TrainingConfig
from aligndraw.data import Examples, MNISTCaptions
from aligndraw.model import AlignDRAW
from aligndraw.training.optimizer import build_optimizer, clip_gradients, learning_rate


@dataclass(frozen=True)
class Update:
    """What one update reports: means over its batch, in nats."""

    index: int  # from 0
    epoch: int  # from 0
    kl: float
    nll: float
    gradient_norm: float
    learning_rate: float
    seconds: float  # since training began

    @property
    def bound(self) -> float:
        """KL + NLL, the negative of the variational bound (Eq. 9)."""
        return self.kl + self.nll


def to_tensors(examples: Examples, index: slice) -> tuple[Tensor, Tensor]:
    """Images float32 [B, 1, 60, 60] in [0, 1] and word ids int64 [B, 12] of a slice of the examples."""
    pictures, words = examples.batch(index)
    return torch.from_numpy(pictures)[:, None].float() / 255, torch.from_numpy(words)


def train(
    model: AlignDRAW,
    source: MNISTCaptions,
    config: TrainingConfig,
    seed: int = 0,
    on_update: Callable[[Update], None] | None = None,
) -> list[Update]:
    """Trains a model in place.

    Args:
        model: its parameters as they stand: `model.reset_parameters(config.init)` first for a new model.
        source: of the examples.
        config: the recipe.
        seed: of the examples and of the noise.
        on_update: called after each update.

    Returns:
        the report of every update.

    Raises:
        FloatingPointError: the loss is not a number any more; the model keeps the parameters of the last good update.
    """
    return list(updates(model, source, config, seed, on_update))


def updates(
    model: AlignDRAW,
    source: MNISTCaptions,
    config: TrainingConfig,
    seed: int = 0,
    on_update: Callable[[Update], None] | None = None,
) -> Iterator[Update]:
    """`train`, one update at a time."""
    device = model.canvas.device
    optimizer = build_optimizer(model, config)
    generator = torch.Generator(device).manual_seed(seed)
    per_epoch = config.epoch_size // config.batch_size
    began = time.perf_counter()
    for epoch in range(config.epochs):
        examples = source.epoch(seed, epoch, config.epoch_size)
        for i in range(per_epoch):
            index = epoch * per_epoch + i
            rate = learning_rate(config, index)
            for group in optimizer.param_groups:
                group["lr"] = rate
            images, captions = to_tensors(examples, slice(i * config.batch_size, (i + 1) * config.batch_size))
            bound = model(images.to(device), captions.to(device), generator=generator)
            kl, nll = bound.kl.mean(), bound.nll.mean()
            weight = min(1.0, (index + 1) / config.kl_warmup) if config.kl_warmup else 1.0
            optimizer.zero_grad()
            (weight * kl + nll).backward()
            norm = clip_gradients(model.parameters(), config)
            kl_value, nll_value, norm_value = torch.stack([kl.detach(), nll.detach(), norm]).tolist()
            if not norm_value < float("inf"):
                raise FloatingPointError(
                    f"the gradient of update {index} is not finite (KL {kl_value:g}, NLL {nll_value:g} nats): "
                    "lower learning_rate"
                )
            optimizer.step()
            update = Update(index, epoch, kl_value, nll_value, norm_value, rate, time.perf_counter() - began)
            if on_update is not None:
                on_update(update)
            yield update
