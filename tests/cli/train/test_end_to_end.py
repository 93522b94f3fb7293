"""Training a drawing model and a sharpener on together, and what can be done with the result."""

import json

import pytest

from aligndraw.data.stored_scenes import store_scenes
from aligndraw.model.refined import RefinedDRAW
from aligndraw.pipelines import Pipeline

BUS = "a large red bus is parked on the road"
SHORT = "--epochs 2 --epoch-size 8 --batch-size 4 --validation-size 2".split()


@pytest.fixture
def parts(command, small, tmp_path):
    """The options that name a drawing model of scenes and a sharpener for it."""
    store_scenes(tmp_path / "data", 4, captions=2)
    model, sharpener = tmp_path / "drawing", tmp_path / "sharpener"
    assert command("train", "scenes", *small, "--out", model)[0] == 0
    train = (
        "train",
        "sharpener",
        "--data",
        tmp_path / "data",
        "--model",
        model,
        "--hidden-channels",
        2,
        "--batch-size",
        4,
    )
    assert command(*train, "--epochs", 1, "--out", sharpener)[0] == 0
    return "--model", model, "--sharpener", sharpener


@pytest.fixture
def train(command, parts, tmp_path):
    def run(*options, out=tmp_path / "run"):
        return command("train", "end-to-end", *parts, *SHORT, "--out", out, *options)

    return run


def test_training_and_resuming(train, command, parts, tmp_path):
    """With a discriminator; the parts that it began with are needed no more."""
    weighed = ("--adversarial", 5, "--discriminator-channels", 2)
    status, out, err = train(*weighed, out=tmp_path / "a")
    assert (status, err) == (0, "") and "training end-to-end refined alignDRAW" in out and "on scenes" in out
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 2, 3, 4, 4] and lines[0]["discriminator_loss"] > 0
    assert train(*weighed, out=tmp_path / "b")[0] == 0
    (tmp_path / "b" / "model.safetensors").unlink()
    (tmp_path / "b" / "checkpoints" / "update-00000004" / "state.json").unlink()
    for part in parts[1::2]:
        part.rename(f"{part}-moved")
    status, out, err = command("train", "end-to-end", "--resume", "--out", tmp_path / "b")
    assert status == 0 and "from update 2 on" in out and "passed over" in err
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    status, _, err = command("train", "end-to-end", "--resume", "--out", tmp_path / "b", "--epsilon", 0.1)
    assert status == 2 and "leave out --epsilon" in err


def test_it_begins_with_its_parts(train, parts, tmp_path):
    """Before the first update it is the model with the sharpener behind it; that is kept, to be resumed from."""
    assert train("--learning-rate", "1e-12", "--epsilon", "0.01")[0] == 0
    model = Pipeline.from_pretrained(tmp_path / "run").model
    assert type(model) is RefinedDRAW and model.config.epsilon == 0.01
    drawing = Pipeline.from_pretrained(parts[1]).model
    for name, parameter in drawing.state_dict().items():
        assert (model.state_dict()[name] - parameter).abs().max() < 1e-6, name
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["begun"] == {"model": str(parts[1]), "sharpener": str(parts[3])}


def test_what_others_are_for(train, command, tmp_path):
    """Pictures, and scores by the same command as the two stages."""
    assert train()[0] == 0
    folder = tmp_path / "run"
    assert command("sample", BUS, "-n", 2, "--model", folder, "-o", tmp_path / "a.png")[0] == 0
    given = ("--model", folder, "--images", 2, "--samples", 1, "--json", tmp_path / "out.json")
    status, out, _ = command("eval", "scenes", *given)
    assert status == 0 and "end-to-end refined alignDRAW" in out
    assert json.loads((tmp_path / "out.json").read_text())["bound"]["seen"]["nll"]["mean"] > 0


def test_what_diverges_ends_in_one_line(train, tmp_path):
    status, _, err = train("--learning-rate", "1e30", "--clip-norm", 0)
    assert status == 1 and "is not finite" in err and err.count("\n") == 1
    assert (tmp_path / "run" / "checkpoints" / "update-00000000").is_dir()


def test_errors(command, parts, model, tmp_path, listing):
    before = listing()
    train = ("train", "end-to-end", "--out", tmp_path / "e")
    names, drawing, option, sharpener = parts
    for arguments, status, message in (
        ((*train, names, drawing), 2, "--sharpener DIR must name"),
        ((*train, names, drawing, option, drawing), 1, "there is no sharpener in"),
        ((*train, names, model, option, sharpener), 1, "must read captions as the model does"),
        ((*train[:-1], drawing, *parts, "--overwrite"), 2, "--out must be another folder than that of --model, got"),
        ((*train[:-1], sharpener, *parts, "--overwrite"), 2, "must be another folder than that of --sharpener, got"),
        (
            ("train", "sharpener", names, drawing, "--data", tmp_path / "data", "--out", drawing, "--overwrite"),
            2,
            "--out must be another folder than that of --model, got",
        ),
        ((*train, *parts, "--epsilon", 0.5), 1, "epsilon must be above 0 and below 0.5, got 0.5"),
        ((*train, *parts, "--adversarial", -1), 2, "adversarial must not be negative"),
        (("train", "end-to-end", "--out", drawing, "--resume"), 1, "holds another training: aligndraw train scenes"),
    ):
        found, _, err = command(*arguments)
        assert found == status and message in err and err.count("\n") == 1, (arguments, err)
    assert listing() == before
