"""aligndraw train scenes and captioned: captions of different lengths, pictures of any size and channels."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from stopping import stop_at

from aligndraw.data import CaptionedImages, CaptionedWriter, open_data_set
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.model.saved import load_model
from aligndraw.presets import PRESETS


@pytest.fixture
def stored(tmp_path):
    store_scenes(tmp_path / "data", 20, captions=2)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["scenes", "captioned"])
def test_a_run(command, small, stored, tmp_path, monkeypatch, name):
    """It trains, stops, is taken up to the same bits, and draws what it is then asked for."""
    data = ("--data", stored) if name == "captioned" else ()
    arguments = ("train", name, *small, *data)
    status, out, err = command(*arguments, "--out", tmp_path / "whole")
    assert (status, err) == (0, "")
    title = "scenes" if name == "scenes" else f"captioned images of {stored}"
    assert f" parameters on {title}: preset scenes, 2 epochs of 12 images" in out
    kinds = ["seen", "held_out"] if name == "scenes" else ["validation"]
    epochs = [m for m in map(json.loads, (tmp_path / "whole" / "metrics.jsonl").open()) if "epoch" in m]
    assert [set(m) for m in epochs] == [{"update", "epoch", *kinds}] * 2
    assert all(m[kind]["images"] == 3 for m in epochs for kind in kinds)
    for kind in kinds:
        assert f" on {kind.replace('_', ' ')}" in out.splitlines()[1]
    model, vocabulary, _ = load_model(tmp_path / "whole")
    assert vocabulary == open_data_set(name, stored if data else None, 1).source.vocabulary
    assert model.config.image_size == (32, 32) and model.config.channels == 3
    assert model.config.vocabulary_size == len(vocabulary)

    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        status, _, err = command(*arguments, "--out", tmp_path / "parts")
    assert status == 130 and f"aligndraw train {name} --out {tmp_path / 'parts'} --resume" in err
    status, _, err = command("train", name, "--out", tmp_path / "parts", "--resume")
    assert (status, err) == (0, "")
    for file in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()

    monkeypatch.chdir(tmp_path)
    status, drawn, err = command(*shlex.split(out.splitlines()[-1].removeprefix("next: aligndraw ")), "-n", 2)
    assert (status, err) == (0, "") and drawn.startswith("wrote out.png: 2 pictures")


def test_other_images(command, small, tmp_path):
    """Grey, of another size, with captions of one word and of many."""
    rng = np.random.default_rng(0)
    with CaptionedWriter(tmp_path / "data", (1, 9, 7), {}) as writer:
        for split in ("train", "validation"):
            writer.store(split, list("ab"), rng.integers(0, 256, (2, 1, 9, 7), np.uint8))
        writer.finish({split: [("a", "cat"), ("b", "the dog " * 40)] for split in ("train", "validation")})
    status, _, err = command("train", "captioned", "--data", tmp_path / "data", *small, "--out", tmp_path / "run")
    assert (status, err) == (0, "")
    assert load_model(tmp_path / "run")[0].config.image_size == (9, 7)


def test_the_paper_on_coco(command, stored, tmp_path):
    """Its model and its recipe, but for the numbers that the data and the command line give."""
    short = ("--epochs", 1, "--epoch-size", 2, "--batch-size", 2, "--steps", 1, "--validation-size", 2)
    given = ("train", "captioned", "--data", stored, "--preset", "coco", *short, "--out", tmp_path / "run")
    status, out, err = command(*given)
    assert (status, err) == (0, "") and "rmsprop at 0.001" in out
    config = load_model(tmp_path / "run")[0].config
    assert (config.decoder_units, config.latent_units, config.write_size) == (550, 275, 9)
    assert config.vocabulary_size == len(CaptionedImages.open(stored).vocabulary)


def test_refused(command, small, stored, tmp_path, listing):
    assert command("train", "captioned", *small, "--data", stored, "--out", tmp_path / "run")[0] == 0
    shutil.copytree(stored, tmp_path / "damaged")
    content = bytearray((stored / "train-images.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged" / "train-images.npy").write_bytes(content)
    before = listing()
    new, again = (*small, "--out", tmp_path / "new"), ("--out", tmp_path / "run", "--resume")
    for arguments, status, message in (
        (("captioned", *new), 2, "captioned images are needed: give --data DIR"),
        (("captioned", *new, "--data", tmp_path / "none"), 1, "there are no captioned images in"),
        (("captioned", *new, "--data", tmp_path / "damaged"), 1, "train-images.npy is damaged: its checksum"),
        (("captioned", *new, "--data", stored, "--channels", 1), 1, "channels must be 3 for captioned images of"),
        (("captioned", *new, "--data", stored, "--vocabulary-size", 5), 1, "vocabulary_size must be "),
        (("scenes", *new, "--image-size", 30, 30), 1, "image_size must be 32 x 32 for scenes, got (30, 30)"),
        (("scenes", *new, "--data", stored), 2, "unrecognized arguments: --data"),
        (("captioned", *again, "--channels", 3), 2, "leave out --channels"),
        (("scenes", *again), 1, "holds a training on captioned images of"),
    ):
        got, out, err = command("train", *arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert len(err.splitlines()) == 1 and listing() == before


def test_other_data_under_the_same_name(command, small, stored, tmp_path):
    assert command("train", "captioned", *small, "--data", stored, "--out", tmp_path / "run")[0] == 0
    store_scenes(stored, 20, seed=1, overwrite=True)
    status, _, err = command("train", "captioned", "--out", tmp_path / "run", "--resume")
    assert status == 1 and f"{stored} holds other data than those that {tmp_path / 'run'} began with" in err
    assert torch.isfinite(load_model(tmp_path / "run")[0].canvas).all()


@pytest.mark.parametrize("kind", ["align", "noalign", "conv-vae"])
def test_photographs(command, stored, tmp_path, kind):
    """Their preset mirrors pictures, drops words and decays weights; the VAEs have their own recipe."""
    short = ("--epochs", 1, "--epoch-size", 8, "--batch-size", 4, "--validation-size", 2, "--model", kind)
    given = ("train", "captioned", "--data", stored, "--preset", "photos", *short, "--out", tmp_path / "run")
    status, out, err = command(*given)
    assert (status, err) == (0, "") and "preset photos, 1 epoch" in out
    recipe = load_model(tmp_path / "run")[2]["training"]
    regular = kind != "conv-vae"
    assert recipe["flip"] is regular and (recipe["word_dropout"] > 0) is regular
    assert PRESETS["captioned"]["photos"]["skipthought"][1].word_dropout == 0
