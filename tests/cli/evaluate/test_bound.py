"""aligndraw eval scenes and captioned: the bound, gradient energies, attributes of scenes; and all of it sharpened."""

import json

import numpy as np
import pytest
import torch

from aligndraw.data import CaptionedImages, Scenes, evaluation_scenes
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.evaluation.energy import score_energy
from aligndraw.evaluation.shuffling import Shuffled, caption_gain, derangement
from aligndraw.lapgan.captioned import CaptionedSharpener
from aligndraw.model.saved import load_model

SHORT = ("--images", 3, "--samples", 2, "--seed", 5)


@pytest.fixture
def stored(tmp_path):
    store_scenes(tmp_path / "data", 20, captions=2)
    return tmp_path / "data"


def test_shuffled_captions(command, scenes, tmp_path):
    """Of scenes and of stored pictures with several captions; the numbers are the library's."""
    stored = store_scenes(tmp_path / "data", 20, captions=2).reworded(Scenes.vocabulary)
    given = ("--model", scenes, "--images", 12, "--samples", 2, "--seed", 5, "--json", tmp_path / "out.json")
    model = load_model(scenes)[0]
    for name, options, sets in (
        ("scenes", (), evaluation_scenes("test", 5, 12)),
        (
            "captioned",
            ("--data", tmp_path / "data", "--split", "train"),
            {"train": stored.split("train").epoch(5, size=12)},
        ),
    ):
        status, out, err = command("eval", name, *given, *options, "--shuffle-captions")
        assert (status, err) == (0, "")
        record = json.loads((tmp_path / "out.json").read_text())["shuffled_captions"]
        assert set(record) == set(sets)
        for kind, examples in sets.items():
            images = examples.image_index if name == "captioned" else np.arange(12)
            others = Shuffled(examples, derangement(images, 5))
            own, shuffled = (estimate_bound(model, part, samples=2, seed=5) for part in (examples, others))
            gain = caption_gain(own, shuffled, images)
            assert record[kind]["bound"]["bound"]["mean"] == pytest.approx(shuffled.bound.mean, rel=1e-5)
            assert record[kind]["difference"] == pytest.approx(gain.to_dict(), rel=1e-2, abs=1e-3)
            assert record[kind]["difference"]["error"] > 0 and str(shuffled.bound) in out
        assert "captions help where the difference is above 0" in out


def test_captions_of_one_picture_cannot_be_shuffled(command, scenes, tmp_path):
    store_scenes(tmp_path / "data", 1, captions=5)
    given = ("--model", scenes, "--data", tmp_path / "data", "--split", "train", "--shuffle-captions")
    status, out, err = command("eval", "captioned", *given)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "captions must be of several pictures to be shuffled, got 5 of 5 of one picture" in err


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
    assert [line for line in out.splitlines()[3:] if line != line.rstrip() or len(line) > 100] == []


@pytest.mark.parametrize("name", ["scenes", "captioned"])
def test_after_sharpening(command, small, stored, scenes_sharpener, tmp_path, name):
    """Beside the numbers of the pictures as they are, which stay, those of the sharpened ones."""
    data = ("--data", stored) if name == "captioned" else ()
    assert command("train", name, *small, *data, "--out", tmp_path / "run")[0] == 0
    model, vocabulary, _ = load_model(tmp_path / "run")
    scenes_sharpener(tmp_path / "sharpener", tmp_path / "run")
    given = ("eval", name, "--model", tmp_path / "run", *SHORT, *data)
    given += ("--sharpen", tmp_path / "sharpener", "--sharpen-epsilon", "1e-3", "--json", tmp_path / "out.json")
    status, out, err = command(*given)
    assert (status, err) == (0, "") and "clipped to [0.001, 1 - 0.001]" in out
    sharpen = CaptionedSharpener.load(tmp_path / "sharpener", model.language, vocabulary)
    sets = (
        {"test": CaptionedImages.open(stored).split("test").epoch(5, size=3)}
        if data
        else evaluation_scenes("test", 5, 3)
    )
    record = json.loads((tmp_path / "out.json").read_text())
    sharpened = record["sharpened"]
    assert (sharpened["epsilon"], sharpened["sharpener"]) == (1e-3, str(tmp_path / "sharpener"))
    for kind, examples in sets.items():
        report = estimate_bound(model, examples, samples=2, seed=5, sharpen=sharpen, epsilon=1e-3)
        assert sharpened["bound"][kind] == report.to_dict() != record["bound"][kind]
        assert sharpened["bound"][kind]["kl"] == record["bound"][kind]["kl"]
        assert str(report.nll) in out
        drawn, sharp = (score_energy(model, examples, seed=5, sharpen=s).to_dict() for s in (None, sharpen))
        energies = {stage: row[kind] for stage, row in record["gradient_energy"].items()}
        assert energies == {"real": drawn["real"], "drawn": drawn["drawn"], "sharpened": sharp["drawn"]}
        assert f"{1000 * sharp['drawn']['mean']:.2f} ± " in out
    if not data:
        accuracy = score_attributes(model, vocabulary, sets, seed=5, sharpen=sharpen)
        assert sharpened["attributes"] == {kind: score.to_dict() for kind, score in accuracy.items()}
    assert [line for line in out.splitlines()[3:] if line != line.rstrip() or len(line) > 100] == []


def test_refused(command, small, stored, model, tmp_path):
    """A model of other pictures, an unknown split, a model that is not there."""
    torch.manual_seed(0)
    assert command("train", "scenes", *small, "--out", tmp_path / "run")[0] == 0
    for arguments, status, message in (
        (("scenes", "--model", model), 1, "must be of pictures [3, 32, 32] for scenes, got [1, 60, 60]"),
        (("captioned", "--model", tmp_path / "run", "--data", model), 1, "there are no captioned images in"),
        (("captioned", "--model", model, "--data", stored, "--split", "dev"), 1, "split must be one of 'train', "),
        (("scenes", "--model", tmp_path / "none"), 1, "there is no model in"),
        (("scenes", "--model", tmp_path / "run", "--sharpen", model), 1, "there is no sharpener in"),
        (("scenes", "--model", model, "--sharpen-epsilon", "0.5"), 2, "must be above 0 and below 0.5, got '0.5'"),
        (("scenes",), 2, "the following arguments are required: --model"),
        (("scenes", "--model", model, "--split", "train"), 2, "--split: invalid choice: 'train'"),
    ):
        got, out, err = command("eval", *arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert len(err.splitlines()) == 1
