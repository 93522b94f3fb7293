"""The numbers of a training as TensorBoard events."""

from __future__ import annotations

from typing import Any

from aligndraw.cli.failure import Failure
from aligndraw.pipelines import Job
from aligndraw.training import Update
from aligndraw.training.run import EVENTS


def check_tensorboard() -> None:
    """Raises a Failure where events cannot be written."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise Failure(f"--tensorboard needs the package tensorboard: pip install tensorboard ({error})") from error


class Curves:
    """Writes what `metrics.jsonl` holds into a folder of the run too, for `tensorboard --logdir`."""

    def __init__(self, job: Job) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.trainer = job.trainer
        # What a run wrote after the checkpoint that it resumes from is hidden.
        self.writer = SummaryWriter(str(job.run.folder / EVENTS), purge_step=self.trainer.index + 1)

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def on_update(self, update: Update) -> None:
        """Adds the numbers of an update."""
        names = ("bound", "kl", "nll", "gradient_norm", "learning_rate")
        for name, value in {**{name: getattr(update, name) for name in names}, **update.more}.items():
            self.writer.add_scalar(f"update/{name}", value, self.trainer.index)

    def on_epoch(self, epoch: int, scores: dict[str, Any]) -> None:
        """Adds the scores of an epoch, at its last update."""
        for kind, score in scores.items():
            for name in ("bound", "kl", "nll"):
                self.writer.add_scalar(f"epoch/{kind}/{name}", score[name]["mean"], self.trainer.index)
