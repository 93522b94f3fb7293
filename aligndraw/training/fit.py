"""The training loop of all trainers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from aligndraw.arguments import check_int
from aligndraw.training.conditions import current_conditions
from aligndraw.training.guards import NotFinite, all_finite
from aligndraw.training.run import SKIPPED, RunFolder
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
    max_skipped: int = 0,
    on_skip: Callable[[NotFinite], None] = lambda error: None,
) -> str:
    """Runs a trainer's remaining updates. Several processes call it together.

    Args:
        trainer: fresh, or restored from a checkpoint.
        run: receives metrics and checkpoints; locked by the caller. Without it nothing is written.
        checkpoint_every: updates between checkpoints. Each epoch also ends with one.
        keep: checkpoints kept.
        on_update: called with each finished update, at most `trainer.updates_in_flight` updates after its launch.
        end_epoch: called with the number of each finished epoch, from 1, before its checkpoint.
        out_of_patience: called before the first update and after each epoch, in the first process; true ends the
            training.
        stopping: called after each update; true, in any process, saves a checkpoint and ends the training.
        max_skipped: batches of the whole training that may be skipped. An update whose loss or gradient is not finite
            then changes nothing, counts as done, and is noted in the metrics. One more ends the training.
        on_skip: called with each skipped update, in the first process.

    Returns:
        "finished", "stopped" or "no better bound" (out of patience).

    Raises:
        ValueError: `checkpoint_every` or `keep` is below 1, or `max_skipped` below 0.
        FloatingPointError: a number is not finite. The message names it, the update, its batch, and the last
            checkpoint, in which all parameters are finite.
        OSError: the run folder cannot be written.
        RanksError: another process of the training has ended.
    """
    check_int("checkpoint_every", checkpoint_every, 1)
    check_int("keep", keep, 1)
    check_int("max_skipped", max_skipped, 0)
    ranks, skipped = trainer.ranks, 0
    if run is not None:
        ranks.on_first(
            lambda: run.prune(keep)
        )  # a kill may have come between a checkpoint and the removal of an older one
        skipped = ranks.on_first(run.skipped)
    launched: list[Callable[[], _U]] = []

    def drain(waiting: int) -> None:
        """Reports launched updates in order; the last `waiting` stay in flight."""
        while len(launched) > waiting:
            try:
                update = launched.pop(0)()
            except NotFinite as error:
                launched.clear()  # they changed nothing, and are launched again
                skip(error)
                return
            if run is not None:
                run.log(update=update.index + 1, **update.numbers())
            on_update(update)

    def skip(error: NotFinite) -> None:
        """Goes on after a failed update, or raises."""
        nonlocal skipped
        if not error.skippable or skipped >= max_skipped:
            before = f", after {skipped} skipped batch{'es' * (skipped > 1)}" if skipped else ""
            raise FloatingPointError(f"{error}{before}; {_last_checkpoint(run)}") from error
        skipped += 1
        trainer.index = error.index + 1
        if run is not None:
            run.log(update=trainer.index, **{SKIPPED: 1})
        if ranks.first:
            on_skip(error)

    ranks.check_same(lambda: current_conditions(trainer))  # else the same gradient gives other steps
    ended = ranks.on_first(out_of_patience)
    while trainer.index < trainer.total and not ended:
        try:
            launched.append(trainer.launch())
        except NotFinite as error:
            skip(error)
        done = trainer.index
        epoch, rest = divmod(done, trainer.updates_per_epoch)
        due = not rest or done == trainer.total or done % checkpoint_every == 0
        drain(0 if due else trainer.updates_in_flight)
        if trainer.index != done:
            continue  # an earlier update was skipped
        if due:
            _check_parameters(trainer, run)
        if not rest:
            end_epoch(epoch)
            ended = ranks.on_first(out_of_patience)
        stop = ranks.any(stopping())
        if stop and not due:
            drain(0)
            _check_parameters(trainer, run)
        if (stop or due) and run is not None:
            run.checkpoint(trainer, keep)
        if stop:
            return "stopped"
    return "no better bound" if ended else "finished"


def _check_parameters(trainer: Resumable[Any], run: RunFolder[Any, Any] | None) -> None:
    """Raises FloatingPointError where a step has left a parameter that is not finite: no checkpoint keeps it."""
    beside = () if trainer.auxiliary is None else trainer.auxiliary.parameters()
    if trainer.ranks.any(not all_finite([*trainer.model.parameters(), *beside])):
        raise FloatingPointError(
            f"a parameter is not finite after update {trainer.index}: lower learning_rate; {_last_checkpoint(run)}"
        )


def _last_checkpoint(run: RunFolder[Any, Any] | None) -> str:
    found = None if run is None else run.last_checkpoint
    return "no checkpoint was saved" if found is None else f"the last good checkpoint is {found}"
