"""The training loop of all trainers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from aligndraw.arguments import check_int
from aligndraw.training.run import RunFolder
from aligndraw.training.state import Resumable, Update

_U = TypeVar("_U", bound=Update)


def fit(
    trainer: Resumable[_U],
    run: RunFolder[Any, Any] | None = None,
    *,
    checkpoint_every: int = 100,
    keep: int = 2,
    on_update: Callable[[_U], None] = lambda update: None,
    end_epoch: Callable[[int], None] = lambda epoch: None,
    out_of_patience: Callable[[], bool] = lambda: False,
    stopping: Callable[[], bool] = lambda: False,
) -> str:
    """Runs a trainer's remaining updates.

    Args:
        trainer: fresh, or restored from a checkpoint.
        run: receives metrics and checkpoints; locked by the caller. Without it nothing is written.
        checkpoint_every: updates between checkpoints. Each epoch also ends with one.
        keep: checkpoints kept.
        on_update: called with each finished update, at most `trainer.updates_in_flight` updates after its launch.
        end_epoch: called with the number of each finished epoch, from 1, before its checkpoint.
        out_of_patience: called before the first update and after each epoch; true ends the training.
        stopping: called after each update; true saves a checkpoint and ends the training.

    Returns:
        "finished", "stopped" or "no better bound" (out of patience).

    Raises:
        ValueError: `checkpoint_every` or `keep` is below 1.
        FloatingPointError: the training diverged. The last checkpoint is whole.
        OSError: the run folder cannot be written.
    """
    check_int("checkpoint_every", checkpoint_every, 1)
    check_int("keep", keep, 1)
    launched: list[Callable[[], _U]] = []

    def drain(waiting: int) -> None:
        """Reports launched updates in order; the last `waiting` stay in flight."""
        while len(launched) > waiting:
            update = launched.pop(0)()
            if run is not None:
                run.log(update=update.index + 1, **update.numbers())
            on_update(update)

    ended = out_of_patience()
    while trainer.index < trainer.total and not ended:
        launched.append(trainer.launch())
        epoch, rest = divmod(trainer.index, trainer.updates_per_epoch)
        due = not rest or trainer.index == trainer.total or trainer.index % checkpoint_every == 0
        drain(0 if due else trainer.updates_in_flight)
        if not rest:
            end_epoch(epoch)
            ended = out_of_patience()
        stop = stopping()
        if stop or due:
            drain(0)
            if run is not None:
                run.checkpoint(trainer, keep)
        if stop:
            return "stopped"
    return "no better bound" if ended else "finished"
