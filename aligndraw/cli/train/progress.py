"""The progress bar of a training, and one line per epoch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tqdm import tqdm  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from aligndraw.cli.train.job import Job


class Progress:
    """Shows the progress of a training: a bar on a terminal, and one line per epoch."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        self.job = job
        self.bar = tqdm(
            total=job.trainer.total * job.per_update,
            initial=job.trainer.index * job.per_update,
            unit=f" {job.unit}",
            bar_format="{desc}{percentage:3.0f}%|{bar}| {remaining} left, {rate_fmt}{postfix}",
            dynamic_ncols=True,
            disable=None,
        )
        stack.callback(self.bar.close)

    def on_update(self, update: Any) -> None:
        """Moves the bar."""
        epoch = update.index // self.job.trainer.updates_per_epoch + 1
        self.bar.set_description(f"epoch {epoch}/{self.job.epochs}", refresh=False)
        self.bar.set_postfix_str(self.job.status(update), refresh=False)
        self.bar.update(self.job.per_update)

    def on_epoch(self, epoch: int, scores: Mapping[str, Any]) -> None:
        """Prints the line of an epoch."""
        if line := self.job.epoch_line(epoch, scores):
            self.bar.write(f"epoch {epoch}/{self.job.epochs}: {line}")
            sys.stdout.flush()
