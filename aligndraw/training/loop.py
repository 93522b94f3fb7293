"""The training loop: epochs of examples drawn anew, one update a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aligndraw.config import TrainingConfig
from aligndraw.data import Examples, Source, to_tensors
from aligndraw.model import Bound, Model
from aligndraw.model.noise import stream
from aligndraw.training.optimizer import RMSprop, build_optimizer, clip_scales, learning_rate, takes_bf16
from aligndraw.training.state import Resumable


@dataclass(frozen=True)
class Update:
    """What one update reports: means over its batch, in nats."""

    index: int  # from 0
    epoch: int  # from 0
    kl: float
    nll: float
    gradient_norm: float
    learning_rate: float
    more: Mapping[str, float] = field(default_factory=dict)  # that other terms of the loss measure

    @property
    def bound(self) -> float:
        """KL + NLL, the negative of the variational bound (Eq. 9)."""
        return self.kl + self.nll


class Trainer(Resumable):
    """A model in training: after each `update`, all that the next one depends on is in `state_dict`.

    Args:
        model: trained in place; its parameters as they stand: `model.reset_parameters(config.init)` first for a new.
        source: of the examples.
        config: the recipe.
        seed: of the examples and of the noise.

    Attributes:
        index: the number of updates done.
        bf16: whether the factors of large products are rounded, as the configuration's precision has it here.
    """

    model: Model

    def __init__(
        self, model: Model, source: Source, config: TrainingConfig, seed: int = 0
    ) -> None:
        super().__init__(model, build_optimizer(model, config))
        self.source, self.config, self.seed = source, config, seed
        if config.ema:
            self.average = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.bf16 = takes_bf16(config, model.canvas.device)
        self._epoch: tuple[int, Examples] | None = None

    @property
    def updates_per_epoch(self) -> int:
        return self.config.epoch_size // self.config.batch_size

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.config.epochs * self.updates_per_epoch

    @contextmanager
    def averaged(self) -> Iterator[Model]:
        """The model with the running mean of its parameters inside the block, where `config.ema` asks for one."""
        if not self.average:
            yield self.model
            return
        own = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self._set_parameters(self.average)
        try:
            yield self.model
        finally:
            self._set_parameters(own)

    @torch.no_grad()
    def _set_parameters(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])

    def update(self) -> Update:
        """One update.

        Raises:
            FloatingPointError: the gradient is not finite; the model keeps its parameters.
        """
        config, device, index = self.config, self.model.canvas.device, self.index
        epoch, position = divmod(index, self.updates_per_epoch)
        images, captions, lengths = to_tensors(
            self._examples(epoch), slice(position * config.batch_size, (position + 1) * config.batch_size)
        )
        generator = stream(self.seed, index, device)  # resuming needs no history
        bound, penalty, more = self._measured(images.to(device), captions.to(device), lengths.to(device), generator)
        kl, nll = bound.kl.mean(), bound.nll.mean()
        weight = min(1.0, (index + 1) / config.kl_warmup) if config.kl_warmup else 1.0
        self.optimizer.zero_grad()
        (weight * kl + nll + penalty).backward()
        norm, scales = clip_scales(self.model.parameters(), config)
        values = torch.stack([kl.detach(), nll.detach(), norm, *more.values()]).tolist()
        kl_value, nll_value, norm_value = values[:3]
        if not norm_value < float("inf"):
            raise FloatingPointError(
                f"the gradient of update {index} is not finite (KL {kl_value:g}, NLL {nll_value:g} nats): "
                "lower learning_rate"
            )
        rate = learning_rate(config, index)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if isinstance(self.optimizer, RMSprop):
            self.optimizer.step(scales=scales)
        else:
            for p, scale in scales.items():
                p.grad.mul_(scale)  # type: ignore[union-attr]
            self.optimizer.step()
        if self.average:
            own = [p.detach() for p in self.model.parameters()]
            decay = min(config.ema, (index + 1) / (index + 10))  # the first weights are soon forgotten
            torch._foreach_lerp_(list(self.average.values()), own, 1 - decay)
        self.index += 1
        return Update(index, epoch, kl_value, nll_value, norm_value, rate, dict(zip(more, values[3:])))

    def _measured(
        self, images: Tensor, captions: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Bound, Tensor | float, dict[str, Tensor]]:
        """The bound of a batch; what is to be descended beside it; and what that measured, scalars by name."""
        with self._rounding():
            return self.model(images, captions, lengths, generator=generator), 0.0, {}

    def _rounding(self) -> torch.autocast:
        return torch.autocast(self.model.canvas.device.type, torch.bfloat16, enabled=self.bf16)

    def _examples(self, epoch: int) -> Examples:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self.source.epoch(self.seed, epoch, self.config.epoch_size)
        return self._epoch[1]


def train(
    model: Model,
    source: Source,
    config: TrainingConfig,
    seed: int = 0,
    on_update: Callable[[Update], None] = lambda update: None,
) -> Trainer:
    """Trains a model in place from its first update to its last; arguments as for `Trainer`.

    Args:
        on_update: called after each update.

    Returns:
        the trainer, with the optimizer's state.
    """
    trainer = Trainer(model, source, config, seed)
    while trainer.index < trainer.total:
        on_update(trainer.update())
    return trainer
