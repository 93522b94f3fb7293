"""Checkpoints keep what the bits of a training depend on; whoever takes it up in other conditions is told."""

import json

import pytest
import torch

import aligndraw
from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig, machine
from aligndraw.data import MNISTCaptions, load_digits
from aligndraw.training import conditions
from aligndraw.training.checkpoint import load_checkpoint, save_checkpoint
from aligndraw.training.model_run import Run
from aligndraw.training.state import Resumable
from aligndraw.training.trainer import Trainer

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
RECIPE = TrainingConfig(epochs=1, epoch_size=8, batch_size=4)


@pytest.fixture
def trainer():
    torch.manual_seed(0)
    return Trainer(AlignDRAW(TINY), MNISTCaptions(load_digits()), RECIPE)


@pytest.fixture
def run(tmp_path, trainer):
    run = Run.create(tmp_path / "run", TINY, RECIPE, 0)
    update(run, trainer)
    return run


def update(run, trainer):
    """An update's traces in the folder: its figures and a checkpoint."""
    trainer.index += 1
    run.log(update=trainer.index)
    run.checkpoint(trainer)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_other_conditions_are_told(run, trainer, threads, monkeypatch):
    assert run.restore(trainer) == []
    before = torch.get_num_threads()
    threads(before + 1)
    with aligndraw.use_backend("reference"):
        monkeypatch.setattr(torch, "__version__", "9.9.9")
        monkeypatch.setattr(conditions, "processor", lambda: "another one")
        (told,) = run.restore(trainer)
    ops = conditions.current_conditions(trainer)["ops"]
    monkeypatch.undo()
    assert told == (
        f"this training goes on to rounding, not to the bit: torch was {torch.__version__} and is 9.9.9, "
        f"{f'ops was {ops} and is reference, ' if ops != 'reference' else ''}"
        f"threads was {before} and is {before + 1}, processor was {machine.processor()} and is another one"
    )


def test_they_are_those_of_the_last_checkpoint(run, trainer, threads):
    """Not those that the training began in."""
    threads(torch.get_num_threads() + 1)
    assert len(run.restore(trainer)) == 1
    update(run, trainer)
    assert run.restore(trainer) == []


@pytest.mark.parametrize("variable", ["ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS"])
def test_what_chooses_the_instructions_counts(run, trainer, monkeypatch, variable):
    monkeypatch.setenv(variable, "something")
    (told,) = run.restore(trainer)
    capability = torch.backends.cpu.get_cpu_capability()
    assert told.endswith(f"instructions was {capability} and is {capability} {variable}=something")


def test_another_precision(run, trainer):
    trainer.precision = "bf16"
    assert run.restore(trainer) == [
        "this training goes on to rounding, not to the bit: precision was float32 and is bf16"
    ]


def test_every_kind_of_training_has_them(tmp_path):
    model = torch.nn.Linear(2, 2)

    class Trainer(Resumable):
        updates_per_epoch = total = 1

        def update(self):
            raise NotImplementedError

    resumable = Trainer(model, torch.optim.SGD(model.parameters(), 0.1))
    save_checkpoint(resumable, tmp_path / "update-00000000")
    kept = json.loads((tmp_path / "update-00000000" / "state.json").read_text())["conditions"]
    assert set(kept) == {
        "aligndraw", "torch", "device", "ops", "precision", "processes", "threads", "processor", "instructions"
    }  # fmt: skip
    assert load_checkpoint(resumable, tmp_path / "update-00000000") == ""


def test_what_was_not_kept_is_not_compared():
    """Checkpoints of earlier versions have no conditions."""
    assert conditions.difference({}, {"torch": "2"}) == ""
    assert conditions.difference({"device": "cpu", "threads": "1"}, {"device": "a GPU"}) == (
        "this training goes on to rounding, not to the bit: device was cpu and is a GPU"
    )
