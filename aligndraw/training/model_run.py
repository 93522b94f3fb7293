"""Training of a drawing model or a VAE in a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from aligndraw.arguments import check_int
from aligndraw.config import EndToEndConfig, ModelConfig, RefinedConfig, TrainingConfig, model_config
from aligndraw.data import Examples
from aligndraw.evaluation.bound import BoundReport, each_bound, image_bounds
from aligndraw.json_files import entry
from aligndraw.model import Model
from aligndraw.model.saved import save_model
from aligndraw.training.fit import fit
from aligndraw.training.guards import NotFinite
from aligndraw.training.ranks import Ranks
from aligndraw.training.run import RunFolder
from aligndraw.training.trainer import Trainer, Update


class Run(RunFolder[ModelConfig, TrainingConfig]):
    """The run folder of a drawing model or a VAE."""

    MODEL, TRAINING = ModelConfig, TrainingConfig

    @property
    def model_config(self) -> ModelConfig:
        return model_config(self.record["model"])

    @property
    def training_config(self) -> TrainingConfig:
        kind = EndToEndConfig if isinstance(self.model_config, RefinedConfig) else TrainingConfig
        return self._extended(kind)

    def origin(self, trainer: Trainer) -> dict[str, Any]:
        """Returns notes for the trainer's model: the run's record, the updates done, and the epochs begun."""
        record = {k: v for k, v in self.record.items() if k not in ("format", "model", "vocabulary")}
        return {**record, "updates": trainer.index, "epochs": -(-trainer.index // trainer.updates_per_epoch)}


def train_run(
    run: Run,
    trainer: Trainer,
    validation_sets: Mapping[str, Examples],
    *,
    checkpoint_every: int,
    keep: int = 2,
    on_update: Callable[[Update], None] = lambda update: None,
    on_epoch: Callable[[int, dict[str, Any]], None] = lambda epoch, scores: None,
    stopping: Callable[[], bool] = lambda: False,
    max_skipped: int = 0,
    on_skip: Callable[[NotFinite], None] = lambda error: None,
) -> str:
    """Trains to the end of the recipe.

    The folder then holds the model of the last epoch, or of the update that stopped it.

    Args:
        run: locked by the caller.
        trainer: fresh, or restored.
        validation_sets: by name. Each epoch ends with the bound on each of them; patience reads the first.
        on_epoch: called in the first process after each epoch with its number, from 1, and its scores, once they are
            written. The model then holds the averaged weights, where the recipe averages.
        checkpoint_every, keep, on_update, stopping, max_skipped, on_skip: as for `fit`, whose results and errors are
            also these.
    """

    def save(model: Any, **notes: Any) -> None:
        save_model(model, trainer.source.vocabulary, run.folder, notes={**run.origin(trainer), **notes})

    def end_epoch(epoch: int) -> None:
        with trainer.averaged() as model:
            scores = {name: _bound(model, examples, trainer.ranks) for name, examples in validation_sets.items()}

            def report() -> None:
                save(model, bound=scores)
                run.log(update=trainer.index, epoch=epoch, **scores)
                on_epoch(epoch, scores)

            trainer.ranks.on_first(report)

    def out_of_patience() -> bool:
        patience = trainer.config.patience
        if not patience:
            return False
        first = next(iter(validation_sets))
        bounds = []
        for line in run.metrics():
            with suppress(ValueError):  # the line of an update, or a damaged one
                bounds.append(entry(entry(entry(line, first, dict), "bound", dict), "mean", float))
        return len(bounds) > patience and min(bounds[-patience:]) >= min(bounds[:-patience], default=math.inf)

    ended = fit(
        trainer,
        run,
        checkpoint_every=checkpoint_every,
        keep=keep,
        on_update=on_update,
        end_epoch=end_epoch,
        out_of_patience=out_of_patience,
        stopping=stopping,
        max_skipped=max_skipped,
        on_skip=on_skip,
    )
    if trainer.index % trainer.updates_per_epoch:
        with trainer.averaged() as model:
            trainer.ranks.on_first(lambda: save(model))
    return ended


@torch.no_grad()
def _bound(model: Model, examples: Examples, ranks: Ranks) -> dict[str, Any]:
    """Returns the bound on examples, of which each process takes its share."""
    check_int("examples", len(examples), 1)
    parts = [image_bounds(part) for part in each_bound(model, examples, positions=ranks.rows(len(examples)))]
    own = torch.cat(parts) if parts else model.canvas.new_empty(0, 3 + model.config.steps)
    return BoundReport.of(ranks.joined(own, len(examples)), samples=1).to_dict()
