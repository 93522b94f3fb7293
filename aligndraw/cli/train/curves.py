"""The metrics of a training as TensorBoard events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aligndraw.cli.failure import Failure
from aligndraw.training.run import EVENTS
from aligndraw.training.state import Resumable, Update


def check_tensorboard() -> None:
    """Raises Failure where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise Failure(f"--tensorboard needs the package tensorboard: pip install tensorboard ({error})") from error


class Curves:
    """Writes the metrics of `metrics.jsonl` as events into the run folder, for `tensorboard --logdir`."""

    def __init__(self, folder: Path, trainer: Resumable[Any], stack: ExitStack) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.trainer = trainer
        # TensorBoard hides the events after the checkpoint that a run resumes from.
        self.writer = SummaryWriter(str(folder / EVENTS), purge_step=trainer.index + 1)
        stack.callback(self.writer.close)

    def on_update(self, update: Update) -> None:
        """Adds the metrics of an update."""
        for name, value in update.numbers().items():
            self.writer.add_scalar(f"update/{name}", value, update.index + 1)

    def on_epoch(self, epoch: int, scores: Mapping[str, Any]) -> None:
        """Adds the metrics of an epoch, at its last update."""
        for name, value in _flat(scores, "epoch"):
            self.writer.add_scalar(name, value, self.trainer.index)


def _flat(scores: Mapping[str, Any], place: str) -> Iterator[tuple[str, float]]:
    """Yields each figure with its path; of an estimate its mean."""
    for name, value in scores.items():
        path = f"{place}/{name}"
        if isinstance(value, Mapping):
            yield from ([(path, value["mean"])] if "mean" in value else _flat(value, path))
        elif isinstance(value, float):
            yield path, value
