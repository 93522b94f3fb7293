"""Runs, from Python."""

import json

import pytest
import torch
from tiny_models import TINY

from aligndraw import TrainingConfig
from aligndraw.data import Scenes, open_data_set
from aligndraw.data.mnist_captions import all_captions
from aligndraw.model.saved import load_model
from aligndraw.pipelines import Pipeline, new_run, resumed_run, train
from aligndraw.pipelines.runs import training_pairs
from aligndraw.text import WordPairs
from aligndraw.training.run import RunError

SHORT = TrainingConfig(epochs=2, epoch_size=12, batch_size=4)


def new(folder, **options):
    return new_run(folder, TINY, SHORT, open_data_set("mnist", validation_size=3), **{"seed": 1, **options})


def test_a_run(tmp_path):
    seen = []
    with new(tmp_path / "a", colour="red") as job:
        assert set(job.data.validation_sets) == {"seen", "held_out"} and len(job.data.validation_sets["seen"]) == 3
        ended = train(job, on_update=seen.append, on_epoch=lambda epoch, scores: seen.append(epoch))
    assert ended == "finished"
    assert [x if isinstance(x, int) else x.index for x in seen] == [0, 1, 2, 1, 3, 4, 5, 2]
    assert job.run.record["colour"] == "red"
    assert Pipeline.from_pretrained(tmp_path / "a").notes["updates"] == 6


@pytest.mark.parametrize(
    ("place", "wrong", "message"),
    [
        (1, "quick", "model must be a ModelConfig, got str"),
        (1, SHORT, "model must be a ModelConfig, got TrainingConfig"),
        (2, TINY, "training must be a TrainingConfig, got AlignDRAWConfig"),
        (3, "mnist", "data must be a DataSet, got str"),
        (3, None, "data must be a DataSet, got NoneType"),
    ],
)
def test_arguments_of_a_wrong_kind(tmp_path, place, wrong, message):
    given = [tmp_path / "a", TINY, SHORT, open_data_set("mnist", validation_size=3)]
    given[place] = wrong
    with pytest.raises(ValueError, match=f"^{message}$"), new_run(*given):
        pass
    assert not (tmp_path / "a").exists()


def test_the_seed_draws_the_parameters(tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with new(tmp_path / name, seed=seed) as job:
            weights.append(job.trainer.model.encoder.weight_hh.detach().clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_new_run_leaves_torchs_generator_alone(tmp_path):
    before = torch.get_rng_state()
    with new(tmp_path / "a") as job:
        train(job)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_stopped_and_resumed(tmp_path, stop):
    with new(tmp_path / "whole") as job:
        train(job)
    with new(tmp_path / "parts") as job:
        assert train(job, stopping=lambda: job.trainer.index == stop) == "stopped"
    model, _, notes = load_model(tmp_path / "parts")
    assert (notes["updates"], notes["epochs"], notes["seed"]) == (stop, -(-stop // 3), 1)
    assert notes["data"]["name"] == "mnist"
    assert all(map(torch.equal, model.parameters(), job.trainer.model.parameters()))
    with resumed_run(tmp_path / "parts") as job:
        assert job.trainer.index == stop
        train(job)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_stopped_model_is_the_average_where_there_is_one(tmp_path):
    with new_run(tmp_path / "a", TINY, SHORT.replace(ema=0.9), open_data_set("mnist", validation_size=3)) as job:
        train(job, stopping=lambda: job.trainer.index == 2)
        model = load_model(tmp_path / "a")[0]
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, job.trainer.average[name])
        assert not torch.equal(model.canvas, job.trainer.model.canvas)


def test_an_error_before_the_first_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").touch()
    with pytest.raises(ZeroDivisionError), new(tmp_path):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_an_error_after_a_checkpoint_leaves_the_run(tmp_path):
    def error(update):
        if update.index == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), new(tmp_path / "a") as job:
        train(job, checkpoint_every=1, on_update=error)
    with resumed_run(tmp_path / "a") as job:
        assert job.trainer.index == 2


def test_a_refused_folder_is_left_as_it_was(tmp_path):
    with new(tmp_path / "a") as job:
        train(job)
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(RunError, match="holds run.json already"), new(tmp_path / "a"):
        pass
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_pairs_of_digits():
    """All are found in half of the captions, and a held-out placement is worded as the others."""
    pairs = training_pairs(open_data_set("mnist", validation_size=2).source)
    assert pairs is not None and not any(pairs.unlike(caption.split()) for caption in all_captions("all"))
    assert pairs.unlike("left of the digit".split()) == [("", "left")]
    assert WordPairs.from_dict(json.loads(json.dumps(pairs.to_dict()))) == pairs


def test_pairs_of_scenes():
    """Fresh captions are like them, with held-out combinations too; other wordings are not."""
    pairs = training_pairs(Scenes())
    assert pairs is not None
    for combinations in ("seen", "held_out"):
        fresh = Scenes("test", combinations).epoch(7, size=500).captions()
        assert sum(bool(pairs.unlike(caption.split())) for caption in fresh) <= 5
    assert "bus" not in pairs.following["green"]  # which is held out
    for caption, pair in (("red", ("", "red")), ("a red bus red", ("bus", "red")), ("a the bus", ("a", "the"))):
        assert pair in pairs.unlike(caption.split())


@pytest.mark.parametrize("epochs", ["3", 2.5, True, 0])
def test_epochs_to_resume_with(tmp_path, epochs):
    """Refused before anything is read."""
    with pytest.raises(ValueError, match=f"^epochs must be a whole number of at least 1, got {epochs!r}$"):
        with resumed_run(tmp_path / "none", epochs=epochs):
            pass
