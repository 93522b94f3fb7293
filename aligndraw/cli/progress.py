"""How a training is going: a bar, a line an epoch, and pictures of the same captions each time."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from aligndraw.cli.outputs import write_sheet
from aligndraw.pipelines import Job
from aligndraw.training import Update
from aligndraw.training.run import SAMPLES

RECENT = 50  # updates that the numbers shown are means of


class Progress:
    """Shows how training goes: a bar on a terminal; after each epoch a line, and a sheet of pictures."""

    def __init__(self, job: Job) -> None:
        self.job, self.recipe = job, job.trainer.config
        self.recent: deque[Update] = deque(maxlen=RECENT)
        self.bar = tqdm(
            total=self.recipe.epochs * self.recipe.epoch_size,
            initial=job.trainer.index * self.recipe.batch_size,
            unit=" images",
            bar_format="{desc}{percentage:3.0f}%|{bar}| {remaining} left, {rate_fmt}{postfix}",
            dynamic_ncols=True,
            disable=None,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    @property
    def done(self) -> str:
        """How many updates of how many."""
        return f"{self.job.trainer.index} of {self.job.trainer.total} updates"

    def on_update(self, update: Update) -> None:
        """Moves the bar."""
        self.recent.append(update)
        kl, nll = (sum(x) / len(self.recent) for x in zip(*((u.kl, u.nll) for u in self.recent)))
        self.bar.set_description(f"epoch {update.epoch + 1}/{self.recipe.epochs}", refresh=False)
        self.bar.set_postfix_str(f"bound {kl + nll:.1f}, KL {kl:.1f}, NLL {nll:.1f}", refresh=False)
        self.bar.update(self.recipe.batch_size)

    def on_epoch(self, epoch: int, scores: dict[str, Any]) -> None:
        """Draws the captions and says where the bound is."""
        folder = self.job.run.folder
        path = folder / SAMPLES / f"epoch-{epoch:04d}.png"
        path.parent.mkdir(exist_ok=True)
        write_sheet(path, self.job.pipeline, self.job.data.shown, model=str(folder))
        self.bar.write(f"epoch {epoch}/{self.recipe.epochs}: {bounds(scores)}")
        sys.stdout.flush()


def bounds(scores: dict[str, Any]) -> str:
    """One line of what an epoch was scored."""
    told = (f"{s['bound']['mean']:.1f} ± {s['bound']['error']:.1f} on {kind}" for kind, s in scores.items())
    return f"bound in nats {', '.join(told)}".replace("_", " ")
