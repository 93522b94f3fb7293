"""Training a LAPGAN, and what can be done with it."""

import json

import numpy as np
import pytest
import torch

from aligndraw.data import CaptionedImages, evaluation_scenes
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.similarity import score_similarity
from aligndraw.noise import stream
from aligndraw.pipelines import Pipeline

BUS, KITE = "a large red bus is parked on the road", "a small pink kite is flying over the snow"
SIZES = (
    "--hidden-channels 2 --noise-units 3 --generator-units 4 --discriminator-units 5 --epochs 2 --batch-size 8".split()
)


@pytest.fixture
def data(tmp_path):
    store_scenes(tmp_path / "data", 4, captions=2)
    return tmp_path / "data"


@pytest.fixture
def drawing(command, small, tmp_path):
    """The folder of a drawing model of scenes, whose language model reads the captions."""
    assert command("train", "scenes", *small, "--out", tmp_path / "drawing")[0] == 0
    return tmp_path / "drawing"


@pytest.fixture
def train(command, data, drawing, tmp_path):
    def run(*options, out=tmp_path / "lapgan"):
        return command("train", "lapgan", "--data", data, "--model", drawing, *SIZES, "--out", out, *options)

    return run


def test_training_and_resuming(train, command, drawing, scenes_model, tmp_path):
    status, out, err = train(out=tmp_path / "a")
    assert (status, err) == (0, "")
    assert "on 8 images: 4 updates; cpu" in out and "epoch 2/2: top discriminator 0." in out
    assert sorted(p.name for p in (tmp_path / "a" / "samples").iterdir()) == ["epoch-0001.png", "epoch-0002.png"]
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 2, 3, 4, 4] and "residual_fake_accuracy" in lines[2]
    assert train(out=tmp_path / "b")[0] == 0
    (tmp_path / "b" / "lapgan.safetensors").unlink()
    (tmp_path / "b" / "checkpoints" / "update-00000004" / "state.json").unlink()
    status, out, _ = command("train", "lapgan", "--resume", "--out", tmp_path / "b")
    assert status == 0 and "from update 2 on" in out
    weights = [(tmp_path / run / "lapgan.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    status, _, err = command("train", "lapgan", "--resume", "--out", tmp_path / "b", "--noise-units", 4)
    assert status == 2 and "leave out --noise-units" in err
    assert train("--epochs", 3, out=tmp_path / "c")[0] == 0
    status, out, err = command("train", "lapgan", "--resume", "--epochs", 3, "--out", tmp_path / "b")
    assert (status, err) == (0, "") and "epoch 3/3: top discriminator 0." in out
    weights = [(tmp_path / run / "lapgan.safetensors").read_bytes() for run in "bc"]
    assert weights[0] == weights[1]
    scenes_model(drawing)
    status, _, err = command("train", "lapgan", "--resume", "--out", tmp_path / "b")
    assert status == 1 and "has changed since the training in" in err


def test_pictures(train, command, drawing, tmp_path):
    """Each of a stream of its own; the drawing model is needed no more."""
    assert train()[0] == 0
    drawing.rename(tmp_path / "elsewhere")
    folder = tmp_path / "lapgan"
    assert command("sample", BUS, KITE, "-n", 2, "--seed", 3, "--model", folder, "-o", tmp_path / "a.npz")[0] == 0
    with np.load(tmp_path / "a.npz") as file:
        images, captions = torch.from_numpy(file["images"]), file["captions"].tolist()
    assert images.shape == (4, 3, 32, 32) and captions == [BUS, BUS, KITE, KITE]
    model = Pipeline.from_pretrained(folder).model
    for i, (image, caption) in enumerate(zip(images, captions)):
        ids, lengths = model.vocabulary.encode_batch([caption])
        alone = model.sample(ids, lengths, generator=[stream(3, i % 2)]).images[0]
        torch.testing.assert_close(image, alone)
    assert command("sample", BUS, "--model", folder, "-o", tmp_path / "a.png")[0] == 0
    status, _, err = command("sample", BUS, "--model", folder, "--sentences", "uni-skip:none", "-o", tmp_path / "c.png")
    assert status == 1 and "sentences must be left out" in err
    for option in (("--steps", 3), ("--animate", tmp_path / "a.gif"), ("--attention", tmp_path / "b.png")):
        status, _, err = command("sample", BUS, "--model", folder, *option, "-o", tmp_path / "c.png")
        assert status == 2 and "got a LAPGAN" in err
        assert not (tmp_path / "c.png").exists()


def test_evaluation(train, command, tmp_path, monkeypatch):
    """It has no bound, and says so; all else as of other models."""
    assert train()[0] == 0
    given = ("--model", tmp_path / "lapgan", "--images", 3, "--seed", 5, "--json", tmp_path / "out.json")
    status, out, err = command("eval", "scenes", *given, "-n", 2)
    assert (status, err) == (0, "") and "no bound" in out and "bound of" not in out
    record = json.loads((tmp_path / "out.json").read_text())
    pipeline, examples = Pipeline.from_pretrained(tmp_path / "lapgan"), evaluation_scenes("test", 5, 3)
    accuracy = score_attributes(pipeline.model, pipeline.vocabulary, examples, n=2, seed=5)
    assert record["attributes"] == {kind: score.to_dict() for kind, score in accuracy.items()}
    assert record["bound"] == {} and set(record["gradient_energy"]) == {"real", "drawn"}
    monkeypatch.setattr("aligndraw.cli.evaluate.measures.TRAINING_COUNT", 5)
    given = ("--model", tmp_path / "lapgan", "--seed", 5)
    status, out, err = command("eval", "similarity", *given, "--captions", 3, "-n", 2)
    assert (status, err) == (0, "")
    assert f"SSI {score_similarity(pipeline.model, examples['seen'], 2, 5)}; " in out
    for data in ("mnist", "retrieval"):
        status, _, err = command("eval", data, *given)
        assert status == 1 and "got a LAPGAN" in err


def test_other_sentences(train, command, data, tmp_path):
    """Vectors of captions in place of a language model; where they are is remembered, or told."""
    texts = CaptionedImages.open(data).split("train").captions()
    vectors = tmp_path / "v.npz"
    np.savez(vectors, captions=texts, vectors=np.eye(len(texts), 5))
    folder = tmp_path / "lapgan"
    assert train("--sentences", f"vectors:{vectors}")[0] == 0
    assert Pipeline.from_pretrained(folder).model.config.sentence_units == 5
    assert command("sample", texts[0], "-n", 1, "--model", folder, "-o", tmp_path / "a.npz")[0] == 0
    vectors.rename(tmp_path / "w.npz")
    sample = ("sample", texts[0], "-n", 1, "--model", folder, "-o", tmp_path / "b.npz")
    status, _, err = command(*sample)
    assert status == 1 and "sentences must be there to be read" in err
    assert command(*sample, "--sentences", f"vectors:{tmp_path / 'w.npz'}")[0] == 0
    images = [np.load(tmp_path / f"{name}.npz")["images"] for name in "ab"]
    assert np.array_equal(*images)
    given = ("--sentences", f"vectors:{tmp_path / 'w.npz'}", "--images", 4)
    assert command("eval", "captioned", "--model", folder, "--data", data, "--split", "train", *given)[0] == 0


def test_errors(command, data, model, tmp_path, listing):
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 3, 32, 32), np.float32), captions=["a"])
    before = listing()
    train = ("train", "lapgan", "--out", tmp_path / "l")
    for arguments, status, message in (
        (train, 2, "--data PATH must name the training data"),
        ((*train, "--data", tmp_path / "a.npz"), 1, "there are no captioned images in"),
        ((*train, "--data", data, "--model", model), 1, "unknown word"),
        (
            (*train, "--data", data, "--hidden-channels", 0),
            2,
            "hidden_channels must be a whole number of at least 1, got 0",
        ),
    ):
        found, _, err = command(*arguments)
        assert found == status and message in err and err.count("\n") == 1, (arguments, err)
    assert listing() == before
