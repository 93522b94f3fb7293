"""aligndraw eval scenes and captioned: the bound, and the attributes of scenes."""

import json

import pytest
import torch

from aligndraw.data import CaptionedImages, evaluation_scenes
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.model.saved import load_model

SHORT = ("--images", 3, "--samples", 2, "--seed", 5)


@pytest.fixture
def stored(tmp_path):
    store_scenes(tmp_path / "data", 20, captions=2)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["scenes", "captioned"])
def test_numbers(command, small, stored, tmp_path, name):
    """The file holds what the library computes, the page shows the same numbers."""
    data = ("--data", stored) if name == "captioned" else ()
    assert command("train", name, *small, *data, "--out", tmp_path / "run")[0] == 0
    split = "held_out" if data else "validation"
    given = ("--model", tmp_path / "run", *SHORT, *(data or ("-n", 2)), "--split", split)
    status, out, err = command("eval", name, *given, "--json", tmp_path / "out.json")
    assert (status, err) == (0, "")
    if data:
        sets = {split: CaptionedImages.open(stored).split(split).epoch(5, size=3)}
    else:
        sets = evaluation_scenes(split, 5, 3)
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record["bound"]) == set(sets) and record["split"] == split
    model, vocabulary, _ = load_model(tmp_path / "run")
    for kind, examples in sets.items():
        report = estimate_bound(model, examples, samples=2, seed=5)
        assert record["bound"][kind] == report.to_dict()
        assert str(report.bound) in out and str(report.importance) in out
    if data:
        assert "attributes" not in record
    else:
        accuracy = score_attributes(model, vocabulary, sets, n=2, seed=5)
        assert record["attributes"] == {kind: score.to_dict() for kind, score in accuracy.items()}
        assert record["attributes"]["seen"]["shares"]["right"]["count"] == 6
        assert all(str(score) in out for score in accuracy.values())
    assert all(line == line.rstrip() and len(line) <= 100 for line in out.splitlines()[3:])


def test_refused(command, small, stored, model, tmp_path):
    """A model of other pictures or words, an unknown split, a model that is not there."""
    torch.manual_seed(0)
    assert command("train", "scenes", *small, "--out", tmp_path / "run")[0] == 0
    for arguments, status, message in (
        (("scenes", "--model", model), 1, "must be of pictures [3, 32, 32] for scenes, got [1, 60, 60]"),
        (
            ("captioned", "--model", tmp_path / "run", "--data", stored),
            1,
            "must have the vocabulary of captioned images",
        ),
        (("captioned", "--model", tmp_path / "run", "--data", model), 1, "there are no captioned images in"),
        (("captioned", "--model", model, "--data", stored, "--split", "dev"), 1, "split must be one of 'train', "),
        (("scenes", "--model", tmp_path / "none"), 1, "there is no model in"),
        (("scenes",), 2, "the following arguments are required: --model"),
        (("scenes", "--model", model, "--split", "train"), 2, "--split: invalid choice: 'train'"),
    ):
        got, out, err = command("eval", *arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert len(err.splitlines()) == 1
