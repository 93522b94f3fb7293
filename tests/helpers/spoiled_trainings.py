"""Trainings in several processes, of which process 1 alone has numbers that are not finite."""

import torch
from shared_trainings import made, state_of
from torch_processes import command

from aligndraw.training import Trainer
from aligndraw.training.fit import fit
from aligndraw.training.ranks import current, started
from aligndraw.training.run import RunFolder

BAD = 1  # the update, from 0


def _spoils(trainer):
    return current().rank == 1 and trainer.index == BAD


def _gradient(parameter_of):
    """A way to spoil: the gradient of one parameter is infinite in process 1."""

    def spoil(trainer):
        def hook(gradient):
            return gradient * float("inf") if _spoils(trainer) else gradient

        parameter_of(trainer).register_hook(hook)

    return spoil


def _loss(trainer):
    """A way to spoil: the loss is infinite in process 1, and all gradients are finite."""
    step = trainer._step

    def infinite(network, loss, share):
        step(network, loss + float("inf") if _spoils(trainer) else loss, share)

    trainer._step = infinite


def _noise(trainer):
    """A way to spoil: a noise of process 1 is no number, so that loss and gradient are none."""
    batch = trainer._batch

    def spoiled(index):
        *others, noise = batch(index)
        return *others, noise * float("nan") if current().rank == 1 and index == BAD else noise

    trainer._batch = spoiled


def _parameter(trainer):
    """A way to spoil: the step of process 1 leaves a parameter that is no number."""
    step = trainer.optimizer.step

    def too_long(**options):
        step(**options)
        if _spoils(trainer):
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(float("nan"))

    trainer.optimizer.step = too_long


def spoiled_command(*words):
    """Runs `aligndraw`, with a drawing model whose noise is spoiled."""
    begin = Trainer.__init__

    def spoiled(self, *arguments, **options):
        begin(self, *arguments, **options)
        _noise(self)

    Trainer.__init__ = spoiled
    return command(*words)


def last(trainer):
    return list(trainer.model.parameters())[-1]


# By name: the training, the way, and the batch in the message.
SPOILED = {
    "gradient": ("adam", _gradient(last), "examples 11 to 20 of epoch 1"),
    "noise": ("global-clip", _noise, "examples 11 to 20 of epoch 1"),
    "sparse": ("sparse", _gradient(last), "examples 6 to 10 of epoch 1"),
    "muon": ("muon", _gradient(last), "examples 11 to 20 of epoch 1"),
    "graphed": ("graphed", _gradient(last), "examples 11 to 20 of epoch 1"),
    "end-to-end": ("end-to-end", _gradient(last), "examples 6 to 10 of epoch 1"),
    "discriminator": ("end-to-end", _gradient(lambda t: next(t.auxiliary.parameters())), "examples 6 to 10 of epoch 1"),
    "sharpener": ("sharpener", _gradient(lambda t: next(t.discriminator.parameters())), "images .*"),
    "generator": ("sharpener", _gradient(lambda t: next(t.generator.parameters())), "images .*"),
    "sharpener-loss": ("sharpener", _loss, "images .*"),
    "lapgan": ("lapgan", _gradient(lambda t: next(t.levels["top"].discriminator.parameters())), "images .*"),
    "skipthoughts": ("skipthoughts", _gradient(last), "the triples around sentences .*"),
}


PARAMETER = "parameter"  # of a case in which no batch can be skipped


def fit_spoiled(folder):
    """Fits each training twice, and writes what came of it in every process: without skipping, and with."""
    with started("cpu") as ranks:
        for name, (training, spoil, _) in {**SPOILED, PARAMETER: ("global-clip", _parameter, "")}.items():
            for skips in (0, 1):
                trainer, skipped, error = made(training), [], ""
                spoil(trainer)
                run = RunFolder(folder / f"{name}-{skips}", {})
                ranks.on_first(run.folder.mkdir)
                try:
                    fit(trainer, run, checkpoint_every=1, max_skipped=skips, on_skip=lambda e: skipped.append(str(e)))  # noqa: B023
                except FloatingPointError as failure:
                    error = str(failure)
                found = {"error": error, "skipped": skipped, "index": trainer.index, "state": state_of(trainer)}
                torch.save(found, folder / f"{name}-{skips}-{ranks.rank}.pt")
