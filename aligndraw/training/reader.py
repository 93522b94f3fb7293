"""Training of the small networks that read pictures of digits (`digit_reader`) and of scenes (`scene_reader`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm  # type: ignore[import-untyped]

from aligndraw.evaluation.reader import Reader
from aligndraw.training.fit import fit
from aligndraw.training.guards import check_finite, kept
from aligndraw.training.state import Resumable

_R = TypeVar("_R", bound=Reader)


@dataclass(frozen=True)
class ReaderUpdate:
    """The metrics of one update."""

    index: int  # from 0
    loss: float  # nats

    def numbers(self) -> dict[str, float]:
        """Returns the loss."""
        return {"loss": self.loss}


class ReaderTrainer(Resumable[ReaderUpdate]):
    """AdamW with a one-cycle learning rate, and an exponential moving average of parameters and buffers.

    Args:
        reader: trained in place.
        loss_of: returns the loss of an update, given its number.
        updates: their number; one epoch.
        rate: the highest learning rate of the cycle.
    """

    def __init__(self, reader: Reader, loss_of: Callable[[int], Tensor], updates: int, rate: float) -> None:
        super().__init__(reader, torch.optim.AdamW(reader.parameters(), rate, weight_decay=0.01))
        self.loss_of, self.updates = loss_of, updates
        self.mean = AveragedModel(reader, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, updates, pct_start=0.2)

    @property
    def updates_per_epoch(self) -> int:
        return self.updates

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.updates

    def update(self) -> ReaderUpdate:
        """Runs one update.

        Raises:
            aligndraw.training.guards.NotFinite: the loss or the gradient is not finite; the reader stays as it is.
        """
        with kept(self.model.buffers()):
            loss = self.loss_of(self.index)
            self.optimizer.zero_grad()
            loss.backward()
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            check_finite(gradients, loss, self.index, self.batch_name(self.index))
        self.optimizer.step()
        self.schedule.step()
        self.mean.update_parameters(self.model)
        self.index += 1
        return ReaderUpdate(self.index - 1, loss.item())


def train_reader(reader: _R, loss_of: Callable[[int], Tensor], updates: int, rate: float) -> _R:
    """Trains a reader in place and returns it with the averaged weights; arguments as for `ReaderTrainer`."""
    trainer = ReaderTrainer(reader, loss_of, updates, rate)
    with tqdm(total=updates, unit=" updates", dynamic_ncols=True, disable=None) as bar:

        def show(update: ReaderUpdate) -> None:
            bar.set_postfix_str(f"loss {update.loss:.3f}", refresh=False)
            bar.update()

        fit(trainer, on_update=show)
    reader.load_state_dict(trainer.mean.module.state_dict())
    return reader.eval()
