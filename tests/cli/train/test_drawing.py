"""aligndraw train, eval and sample: every model, words and vectors of sentences alike."""

import json

import numpy as np
import pytest
import torch
from stopping import stop_at

from aligndraw.data import CaptionedImages, evaluation_scenes, sentences
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.model.saved import load_model
from aligndraw.pipelines import Pipeline
from aligndraw.text.sentences import StoredVectors

SHORT = "--epochs 2 --epoch-size 12 --batch-size 4 --validation-size 3 --latent-units 3"
DRAWING = "--steps 2 --encoder-units 6 --decoder-units 5"
SIZES = {
    "align": f"{DRAWING} --language-units 4 --align-units 4",
    "noalign": f"{DRAWING} --language-units 4",
    "skipthought": DRAWING,
    "fc-vae": "--hidden-units 7 --language-units 4",
    "conv-vae": "--hidden-channels 2 --language-units 4",
}
TITLES = dict(zip(SIZES, ["alignDRAW", "noalignDRAW", "skipthoughtDRAW", "Fully-Connected VAE", "Conv-Deconv VAE"]))
READ = [(model, "vectors") for model in list(SIZES)[2:]] + [(m, "words") for m in SIZES if m != "skipthought"]


@pytest.fixture
def stored(tmp_path):
    store_scenes(tmp_path / "data", 20, captions=2)
    return tmp_path / "data"


@pytest.fixture
def vectors(stored, tmp_path):
    """A file of vectors of the captions that the stored pictures have."""
    data = CaptionedImages.open(stored)
    captions = sorted({text for split in data.sizes for text in data.split(split).captions()})
    made = np.random.default_rng(0).standard_normal((len(captions), 9)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", captions=captions, vectors=made)
    return tmp_path / "vectors.npz"


@pytest.mark.parametrize(("model", "read"), READ)
def test_a_run(command, stored, vectors, tmp_path, monkeypatch, model, read):
    """Training stops and goes on to the same bits; the model is scored and draws, from anywhere."""
    title = TITLES[model]
    monkeypatch.chdir(tmp_path)
    sizes = SIZES[model] if read == "words" else SIZES[model].replace("--language-units 4", "")
    given = ("--data", stored, "--model", model, *SHORT.split(), *sizes.split())
    if read == "vectors":
        given = (*given, "--sentences", "vectors:vectors.npz")
    monkeypatch.setattr(sentences, "BLOCK", 5)
    status, out, err = command("train", "captioned", *given, "--out", "whole")
    assert (status, err) == (0, "") and out.startswith(f"training {title} of ")
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert command("train", "captioned", *given, "--out", "parts")[0] == 130
    monkeypatch.chdir(tmp_path.parent)
    assert command("train", "captioned", "--out", tmp_path / "parts", "--resume")[0] == 0
    for file in ("model.safetensors", "config.json", "metrics.jsonl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    config = json.loads((tmp_path / "whole" / "run.json").read_text())["model"]
    units, encoder = (9, f"vectors:{vectors}") if read == "vectors" else (0, "caption")
    assert (config["sentence_units"], config["sentences"]) == (units, encoder)

    vectors.rename(tmp_path / "moved.npz")
    moved = ("--sentences", f"vectors:{tmp_path / 'moved.npz'}") if read == "vectors" else ()
    folder = ("--model", tmp_path / "whole", *moved)
    short = ("--images", 3, "--samples", 2, "--json", tmp_path / "eval.json")
    status, out, err = command("eval", "captioned", "--data", stored, *folder, *short)
    assert (status, err) == (0, "") and f"whole, {title}; " in out
    assert ("2822.98 nats of the NLL are constant" in out) == model.endswith("vae")
    record = json.loads((tmp_path / "eval.json").read_text())["bound"]["test"]
    assert len(record["kl_steps"]) == (1 if model.endswith("vae") else 2)
    assert record["bound"]["mean"] == pytest.approx(record["kl"]["mean"] + record["nll"]["mean"])
    caption = CaptionedImages.open(stored).split("test").captions()[0]
    out = tmp_path / "out.npz"
    assert command("sample", caption, "-n", 3, *folder, "-o", out)[0] == 0
    pipeline = Pipeline.from_pretrained(tmp_path / "whole", sentences=moved[1] if moved else None)
    with np.load(out) as drawn:
        np.testing.assert_allclose(
            drawn["images"], pipeline([caption], num_images_per_prompt=3, seed=0).arrays(), atol=1e-6
        )
        assert np.ptp(drawn["images"], axis=0).max() > 0


def test_scenes(command, stored, tmp_path):
    """Scenes have too many captions to list; what they show is told of every model."""
    given = ("--model", "fc-vae", *SHORT.split(), "--hidden-units", 7, "--out", tmp_path / "run")
    assert command("train", "scenes", *given)[0] == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["model"]["kind"] == "fc-vae" and run["training"]["optimizer"] == "adam"
    short = ("--images", 3, "--samples", 2)
    status, out, err = command("eval", "scenes", "--model", tmp_path / "run", *short)
    assert (status, err) == (0, "") and "object, colour and place" in out
    status, _, err = command("sample", "a red bus", "--model", tmp_path / "run", "--animate", tmp_path / "x.gif")
    assert status == 2 and "--animate needs a model that draws in steps, got a Fully-Connected VAE" in err
    status, _, err = command("sample", "a red bus", "--model", tmp_path / "run", "--attention", tmp_path / "x.png")
    assert status == 2 and "--attention needs a model that attends to words, got a Fully-Connected VAE" in err


def test_scenes_by_vectors(command, vectors, stored, tmp_path, monkeypatch):
    """What a model that reads vectors shows of scenes is told too."""
    monkeypatch.setattr(StoredVectors, "encode", lambda self, texts: torch.tensor([[len(t) / 60.0] * 9 for t in texts]))
    given = ("--model", "conv-vae", *SHORT.split(), "--hidden-channels", 2, "--sentences", f"vectors:{vectors}")
    assert command("train", "scenes", *given, "--out", tmp_path / "run")[0] == 0
    short = ("--images", 3, "--samples", 2, "--json", tmp_path / "out.json")
    assert command("eval", "scenes", "--model", tmp_path / "run", *short)[0] == 0
    pipeline, examples = Pipeline.from_pretrained(tmp_path / "run"), evaluation_scenes("test", 0, 3)
    record = json.loads((tmp_path / "out.json").read_text())
    for kind, score in score_attributes(pipeline.model, pipeline.reader, examples).items():
        assert record["attributes"][kind] == score.to_dict()
        assert record["bound"][kind] == estimate_bound(pipeline.model, pipeline.read(examples[kind]), 2).to_dict()


def test_refused(command, stored, vectors, tmp_path, listing):
    data = CaptionedImages.open(stored)
    few = sorted({text for split in ("train", "validation") for text in data.split(split).captions()})
    np.savez(tmp_path / "few.npz", captions=few[1:], vectors=np.zeros((len(few) - 1, 9), np.float32))
    np.savez(tmp_path / "none.npz", captions=["a"], vectors=np.zeros((1, 9), np.float32))
    given = ("--model", "skipthought", *SHORT.split(), *DRAWING.split(), "--data", stored)
    by_file = (*given, "--sentences", f"vectors:{vectors}")
    assert command("train", "captioned", *by_file, "--out", tmp_path / "run")[0] == 0
    new = (*given, "--out", tmp_path / "new")
    vae = ("--model", "fc-vae", "--data", stored, "--out", tmp_path / "new")
    before = listing()
    for arguments, status, message in (
        (new, 2, "--model skipthought reads sentence vectors: give --sentences"),
        ((*new, "--sentences", "nonsense"), 1, "sentences must be caption, combined-skip:DIR"),
        ((*new, "--sentences", "vectors:gone.npz"), 1, "sentences must be there to be read, got 'vectors:/"),
        ((*new, "--sentences", f"vectors:{tmp_path / 'none.npz'}"), 1, "none.npz has no vector of the caption 'a"),
        ((*by_file, "--sentence-units", 8, "--out", tmp_path / "new"), 1, "sentence_units must be 9 for vectors:"),
        ((*by_file, "--align", "--out", tmp_path / "new"), 2, "align must be false for vectors of sentences"),
        ((*vae, "--steps", 3), 2, "--steps has no meaning for --model fc-vae: leave it out"),
        ((*vae, "--hidden-channels", 3), 2, "--hidden-channels has no meaning for --model fc-vae: leave it out"),
        (("--out", tmp_path / "run", "--resume", "--model", "align"), 2, "leave out --model"),
    ):
        got, out, err = command("train", "captioned", *arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert len(err.splitlines()) == 1 and listing() == before
    lacking = (*new, "--sentences", f"vectors:{tmp_path / 'few.npz'}", "--overwrite")
    status, _, err = command("train", "captioned", *lacking)
    assert status == 1 and f"few.npz has no vector of the caption {few[0]!r}" in err and len(err.splitlines()) == 1
    vectors.unlink()
    for arguments, message in (
        (("sample", "a red bus", "--model", tmp_path / "run"), "needs its sentence encoder: sentences must be there"),
        (("eval", "captioned", "--data", stored, "--model", tmp_path / "run"), "needs its sentence encoder"),
        (("train", "captioned", "--out", tmp_path / "run", "--resume"), "sentences must be there to be read"),
        (("sample", "the digit 3", "--sentences", "transformer:x"), "the model in"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (1, "") and message in err and len(err.splitlines()) == 1, (arguments, err)
    assert load_model(tmp_path / "run")[0].config.sentence_units == 9
