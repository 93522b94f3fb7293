"""aligndraw export."""

import json

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from aligndraw import Pipeline

SEVEN, BUS = "the digit seven is at the top left of the image", "a large red bus is parked on the road at night"


def test_a_run_becomes_a_folder_to_share(command, train, tmp_path):
    assert train("--out", tmp_path / "run")[0] == 0
    status, out, err = command("export", tmp_path / "run", "--out", tmp_path / "mine")
    assert (status, err) == (0, "")
    assert (
        out.splitlines()[0]
        == f"wrote {tmp_path / 'mine'}: 0.0 MB in float16, with README.md, samples.png and card.json"
    )
    names = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert names == ["README.md", "card.json", "config.json", "model.safetensors", "samples.png"]
    run, mine = (Pipeline.from_pretrained(tmp_path / name) for name in ("run", "mine"))
    np.testing.assert_allclose(run(SEVEN, seed=0).arrays(), mine(SEVEN, seed=0).arrays(), rtol=0, atol=0.01)
    assert mine.notes["updates"] == 6
    page = (tmp_path / "mine" / "README.md").read_text()
    assert "| updates | 6 |" in page and "none is chosen](samples.png)" in page
    assert Image.open(tmp_path / "mine" / "samples.png").size[0] > 4 * 160  # four pictures of each caption


def test_scores_and_facts_stand_on_the_card(command, model, scenes, tmp_path):
    """The numbers are those that `aligndraw eval` prints."""
    table, table_scenes = tmp_path / "digits.json", tmp_path / "scenes.json"
    small = ("--images", 2, "--samples", 1, "-n", 1, "--json")
    assert command("eval", "mnist", "--model", model, *small, table)[0] == 0
    assert command("eval", "scenes", "--model", scenes, *small, table_scenes)[0] == 0
    given = ("--fact", "hardware = two cores", "--scores")
    for name, folder, scores in (("digits", model, table), ("scenes", scenes, table_scenes)):
        status, _, err = command("export", folder, "--out", tmp_path / f"{name}-card", *given, scores)
        assert status == 0, err
    page, scenes_page = ((tmp_path / f"{name}-card" / "README.md").read_text() for name in ("digits", "scenes"))
    assert "| hardware | two cores |" in page
    record, of_scenes = json.loads(table.read_text()), json.loads(table_scenes.read_text())
    for kind, name in (("seen", "seen"), ("held_out", "held out")):
        bound, share = record["bound"][kind]["bound"], record["fidelity"]["faithful"][f"{kind}_one_digit"]
        assert f"| bound, {name} (test, seed 0) | {bound['mean']:.1f} ± {bound['error']:.1f} nats |" in page
        line = f"| faithful pictures, {kind.replace('held_out', 'held-out')} placements, one digit |"
        assert f"{line} {100 * share['mean']:.1f} ± {100 * share['error']:.1f} % |" in page
        right = of_scenes["attributes"][kind]["shares"]["right"]
        line = f"| pictures with object, colour and place of their caption, {name} |"
        assert f"{line} {100 * right['mean']:.1f} ± {100 * right['error']:.1f} % |" in scenes_page


def test_scores_that_are_not_there(command, model, tmp_path):
    status, out, err = command("export", model, "--out", tmp_path / "mine", "--scores", tmp_path / "none.json")
    assert (status, out) == (1, "") and not (tmp_path / "mine").exists()
    assert err == f"aligndraw: error: {tmp_path / 'none.json'}: No such file or directory\n"


def test_with_a_sharpener(command, scenes, scenes_sharpener, tmp_path):
    """Captions and the text about them are the user's; pairs of words come from the training data."""
    folder = scenes_sharpener(tmp_path / "sharpener", scenes)
    given = ("--sharpener", folder, "--draws", "buses", "--caption", BUS, "--caption", "a red car on the road")
    assert command("export", scenes, "--out", tmp_path / "mine", *given)[0] == 0
    sharp = Pipeline.from_pretrained(scenes).with_sharpener(folder)
    mine = Pipeline.from_pretrained(tmp_path / "mine")
    np.testing.assert_allclose(sharp(BUS, seed=0).arrays(), mine(BUS, seed=0).arrays(), rtol=0, atol=0.02)
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert card["draws"] == "buses" and card["captions"] == [BUS, "a red car on the road"]
    assert set(card["sha256"]) == {"model.safetensors", "config.json", "sharpener.safetensors", "sharpener.json"}
    assert mine.remark("red") != "" and mine.remark(BUS) == ""


def test_a_model_whose_data_are_gone(command, model, tmp_path):
    status, _, err = command("export", model, "--out", tmp_path / "mine", "--dtype", "float32")
    assert status == 0 and err.startswith("aligndraw: warning: the card lacks what the training data would tell: ")
    drawn = [Pipeline.from_pretrained(folder)(SEVEN, seed=0).arrays() for folder in (model, tmp_path / "mine")]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["none"], 1, "there is no model in none"),
        (["model", "--caption", "a cat"], 2, '--caption: unknown words "a", "cat"'),
        (["model", "--sharpener", "none"], 1, "there is no sharpener in none"),
        (["model", "--out", "model"], 1, "model is there already: give another folder"),
        (["model", "--scores", "none.json"], 1, "none.json"),
        (["model", "--scores", "model/config.json"], 1, "it does not say that its format is aligndraw eval 1"),
        (["model", "--fact", "two cores"], 2, "must be NAME=VALUE, got 'two cores'"),
    ],
)
def test_what_is_refused(command, model, listing, tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    before = listing()
    got, out, err = command("export", "--out", "new", *arguments)
    refused((got, out, err.splitlines()[-1]), status, words)
    assert listing() == before


def test_a_model_of_ones_own_captions(command, small, tmp_path):
    """The card has captions of the training data."""
    (tmp_path / "photos").mkdir()
    random, lines = np.random.default_rng(0), ["file_name,caption"]
    for i in range(60):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
        lines.append(f"{i}.png,a picture of a {('bus', 'car', 'cat')[i % 3]}")
    (tmp_path / "photos.csv").write_text("\n".join(lines))
    given = ("--images", tmp_path / "photos", "--captions", tmp_path / "photos.csv", "--validation", 3, "--test", 3)
    assert command("data", "folder", *given, "--out", tmp_path / "data")[0] == 0
    assert command("train", "captioned", "--data", tmp_path / "data", "--out", tmp_path / "run", *small)[0] == 0
    assert command("export", tmp_path / "run", "--out", tmp_path / "mine")[::2] == (0, "")
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert len(card["captions"]) == 3
    mine = Pipeline.from_pretrained(tmp_path / "mine")
    assert len(mine(card["captions"])) == 3 and mine.remark("bus") != ""


def test_nothing_is_half_written(command, model, listing, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aligndraw.pipelines.card.Card.write", full)
    before = listing()
    status, out, err = command("export", model, "--out", tmp_path / "mine")
    refused((status, out, err.splitlines()[-1]), 1, f"cannot write {tmp_path / 'mine'}: No space left on device")
    assert listing() == before
