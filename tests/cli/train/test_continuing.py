"""Trainings that begin with a model, go on for more epochs, or whose data have moved."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stopping import stop_at

from aligndraw.data import CaptionedImages, CaptionedWriter
from aligndraw.model.saved import load_model, save_model
from aligndraw.pipelines import Pipeline
from aligndraw.text import Vocabulary

OLD = ["a red dog .", "two cats in the snow", "a dog's ball", "the 7 dogs"]
NEW = ["a green dog", "a dog on the grass .", "seven red cats", "two trees, a ball"]


@pytest.fixture
def store(tmp_path):
    """Writes a folder of pictures with these captions in both splits."""

    def write(name, captions, shape=(3, 8, 8), splits=("train", "validation"), min_count=1):
        rng = np.random.default_rng(len(name))
        keys = [str(i) for i in range(len(captions))]
        with CaptionedWriter(tmp_path / name, shape, {}) as writer:
            for split in splits:
                writer.store(split, keys, rng.integers(0, 256, (len(keys), *shape), np.uint8))
            writer.finish({split: list(zip(keys, captions)) for split in splits}, min_count=min_count)
        return tmp_path / name

    return write


@pytest.fixture
def trained(command, small, store, tmp_path):
    """The folder of a trained run on the old captions."""
    options = ("--data", store("old", OLD), *small, "--canvas-init", 0, "--word-values", "embeddings")
    status, _, err = command("train", "captioned", *options, "--learning-rate", 0.1, "--out", tmp_path / "first")
    assert (status, err) == (0, "")
    return tmp_path / "first"


SHORT = "--epochs 2 --epoch-size 12 --batch-size 4 --kl-warmup 0 --validation-size 3".split()


def test_a_vocabulary_that_grows(command, store, trained, tmp_path, monkeypatch):
    """New words are added; old ones keep their rows, so that old captions give the same picture, to the bit."""
    new = store("new", NEW)
    given = ("--data", new, *SHORT, "--init-from", trained, "--out", tmp_path / "second")
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        status, out, err = command("train", "captioned", *given)
        assert status == 130 and f", begun from {trained} with 5 new words" in out
        shutil.copytree(tmp_path / "second", tmp_path / "begun")
    (before, old, _), checkpoint = load_model(trained), tmp_path / "begun" / "checkpoints" / "update-00000000"
    assert checkpoint.is_dir()

    status, _, err = command("train", "captioned", "--resume", "--out", tmp_path / "second")
    assert (status, err) == (0, "")
    after, words, notes = load_model(tmp_path / "second")
    assert words.words == (*old.words, ",", "grass", "green", "on", "trees")
    assert notes["begun"] == {"init_from": str(trained), "new_words": 5} and "vocabulary" not in notes
    assert after.config == before.config.replace(vocabulary_size=len(words))

    first = {k.removeprefix("model/"): v for k, v in load_file(checkpoint / "state.safetensors").items()}
    for name, value in before.state_dict().items():
        assert torch.equal(first[name][: len(value)] if name.endswith("words") else first[name], value)
        grown = name.endswith("words")
        assert first[name].shape[0] == (len(words) if grown else value.shape[0])
        assert not grown or (first[name][len(value) :].std() > 1e-3)  # drawn, each for itself
    after.load_state_dict({k: v for k, v in first.items() if k in after.state_dict()})
    for caption in OLD:
        pictures = [
            Pipeline(m, v)(caption, num_images_per_prompt=2, seed=0, output_type="pt").images
            for m, v in ((before, old), (after, words))
        ]
        assert torch.equal(*pictures)

    # A stop and a resume end with the same bits as a training without.
    status, _, err = command("train", "captioned", *given[:-1], tmp_path / "whole")
    assert (status, err) == (0, "")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("second", "whole")]
    assert weights[0] == weights[1]

    # It is measured on the data of its training, which number their words otherwise.
    status, out, err = command(
        "eval", "captioned", "--data", new, "--model", tmp_path / "whole", "--split", "validation"
    )
    assert (status, err) == (0, "")


def test_captions_are_read_in_the_words_of_the_model(command, store, trained, tmp_path):
    """The ids of the data are others: a training on the old data itself would begin with a worse bound."""
    old = store("old-again", OLD[::-1])
    assert CaptionedImages.open(old).vocabulary.words == load_model(trained)[1].words
    reordered = store("reordered", [*OLD, "snow snow snow"])
    given = ("--data", reordered, *SHORT, "--init-from", trained, "--out", tmp_path / "second")
    assert command("train", "captioned", *given)[::2] == (0, "")
    words = load_model(tmp_path / "second")[1]
    assert words == load_model(trained)[1] != CaptionedImages.open(reordered).vocabulary


def test_a_full_stop_that_is_new(command, small, store, tmp_path):
    first = ("--data", store("plain", ["a dog", "a cat"]), *small, "--out", tmp_path / "first")
    assert command("train", "captioned", *first)[0] == 0
    given = ("--data", store("ended", ["a dog .", "a cow ."]), *SHORT, "--init-from", tmp_path / "first")
    status, _, err = command("train", "captioned", *given, "--out", tmp_path / "second")
    told = "a full stop is new to the model and now ends every caption: it draws old captions otherwise\n"
    assert (status, err) == (0, told)
    status, _, err = command("train", "captioned", *given, "--decoder-units", 9, "--out", tmp_path / "third")
    assert status == 1 and err.startswith("aligndraw: error: decoder_units must be 5") and err.count("\n") == 1


def test_refused(command, small, store, trained, scenes, model, tmp_path, listing):
    new, grey = store("new", NEW), store("grey", NEW, (1, 8, 8))
    before = listing()
    captioned, place = ("captioned", "--data", new, *SHORT, "--out", tmp_path / "x"), f"as in the model in {trained}"
    for arguments, status, message in (
        ((*captioned, "--init-from", trained, "--decoder-units", 9), 1, f"decoder_units must be 5 {place}, got 9"),
        (
            (*captioned, "--init-from", trained, "--word-values", "states"),
            1,
            f"word_values must be embeddings {place}, got states",
        ),
        (
            ("captioned", "--data", grey, *captioned[3:], "--init-from", trained),
            1,
            f"channels must be 3 {place}, got 1",
        ),
        ((*captioned, "--init-from", scenes), 1, f"image_size must be 32 x 32 as in the model in {scenes}, got 8 x 8"),
        (
            (*captioned, "--init-from", trained, "--model", "noalign"),
            2,
            f"--model must be align {place[:2]} the model in {trained}, got noalign",
        ),
        ((*captioned, "--init-from", tmp_path / "none"), 1, f"there is no model in {tmp_path / 'none'}"),
        ((*captioned, "--init-from", trained, "--resume"), 2, "leave out --"),
        (
            (*captioned[:-1], new / ".." / trained.name, "--init-from", trained, "--overwrite"),
            2,
            f"--out must be another folder than that of --init-from, got {new / '..' / trained.name} for both",
        ),
        (("scenes", *SHORT, "--out", tmp_path / "x", "--init-from", trained), 1, "image_size must be 8 x 8"),
        (("mnist", *SHORT, "--out", tmp_path / "x", "--init-from", trained), 1, "image_size must be 8 x 8"),
    ):
        got, out, err = command("train", *arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert len(err.splitlines()) == 1 and listing() == before


def test_another_number_of_steps(command, store, trained, tmp_path):
    """No parameter depends on it."""
    given = ("--data", store("new", NEW), *SHORT, "--init-from", trained, "--steps", 5, "--out", tmp_path / "second")
    assert command("train", "captioned", *given)[0] == 0
    assert load_model(tmp_path / "second")[0].config.steps == 5


def test_generated_pictures_keep_their_words(command, train, model, tmp_path):
    """Digits begin with a model of digits, not with one of other words."""
    assert train("--init-from", model, "--out", tmp_path / "run")[0] == 0
    assert load_model(tmp_path / "run")[2]["begun"] == {"init_from": str(model), "new_words": 0}
    assert command("train", "mnist", *SHORT, "--init-from", "mnist", "--out", tmp_path / "shipped")[0] == 0
    assert load_model(tmp_path / "shipped")[2]["begun"] == {"init_from": "mnist", "new_words": 0}
    network, vocabulary, _ = load_model(model)
    save_model(network, Vocabulary(vocabulary.words[::-1]), tmp_path / "other")
    status, _, err = train("--init-from", tmp_path / "other", "--out", tmp_path / "x")
    assert status == 1 and "the model must have the vocabulary of MNIST with captions, got another" in err


def test_more_epochs(train, command, tmp_path):
    """With a step schedule they end as if they had been asked for at once."""
    step = ("--schedule", "step", "--drop-epoch", 9)
    for name, epochs in (("parts", 2), ("whole", 3)):
        assert train(*step, "--epochs", epochs, "--out", tmp_path / name)[0] == 0
    status, out, err = command("train", "mnist", "--out", tmp_path / "parts", "--resume", "--epochs", 3)
    assert (status, err) == (0, "") and "3 epochs of 12 images" in out and "finished after 9 of 9 updates" in out
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    status, out, err = command("train", "mnist", "--out", tmp_path / "parts", "--resume")  # it remembers
    assert (status, err) == (0, "") and "finished after 9 of 9 updates" in out
    before = (tmp_path / "parts" / "run.json").read_bytes()
    for epochs in (2, 3):
        status, out, err = command("train", "mnist", "--out", tmp_path / "parts", "--resume", "--epochs", epochs)
        message = f"{tmp_path / 'parts'} has 3 epochs: give more than these, or leave epochs out"
        assert (status, out) == (1, "") and message in err
    assert (tmp_path / "parts" / "run.json").read_bytes() == before


def test_more_epochs_of_a_schedule_that_falls_to_the_end(train, command, tmp_path):
    assert train("--out", tmp_path / "run")[0] == 0
    status, out, err = command("train", "mnist", "--out", tmp_path / "run", "--resume", "--epochs", 4)
    told = "the learning rate now falls to the end of 4 epochs, not of 2: it rises here\n"
    assert (status, err) == (0, told) and "finished after 12 of 12 updates" in out


def test_data_that_have_moved(command, small, store, tmp_path):
    data, run = store("data", NEW), tmp_path / "run"
    assert command("train", "captioned", *small, "--data", data, "--out", run)[0] == 0
    moved = data.rename(tmp_path / "moved")
    status, out, err = command("train", "captioned", "--out", run, "--resume", "--epochs", 3)
    assert (status, out) == (1, "") and f"there are no captioned images in {data}" in err
    assert "if the data have moved, name their place (--data, --digits)" in err and len(err.splitlines()) == 1
    other = store("other", NEW)
    status, out, err = command("train", "captioned", "--out", run, "--resume", "--data", other)
    assert (status, out) == (1, "") and f"{other} holds other data than those that {run} began with" in err
    for options in (("--data", moved, "--epochs", 3), ()):
        status, out, err = command("train", "captioned", "--out", run, "--resume", *options)
        assert status == 0 and "finished after 9 of 9 updates" in out
    assert json.loads((run / "run.json").read_text())["data"]["path"] == str(moved)
    assert load_model(run)[2]["data"]["path"] == str(moved)


def test_digits_that_have_moved(train, command, digits, tmp_path):
    file, run = digits(2100), tmp_path / "run"
    assert train("--digits", file, "--out", run)[0] == 0
    moved = file.rename(tmp_path / "moved.npz")
    assert command("train", "mnist", "--out", run, "--resume", "--digits", moved)[::2] == (0, "")


def test_captions_that_all_have_unknown_words(command, small, store, tmp_path):
    """The training drew none but captions without them, and refused to begin."""
    data = store("rare", ["a red dog", "a cat", "a cow asleep"], min_count=2)
    status, out, err = command("train", "captioned", "--data", data, *small, "--out", tmp_path / "run")
    assert (status, err) == (0, "") and "a picture of each of 3 captions\nnext: aligndraw sample 'a " in out
