"""Training a sharpener and what can be done with it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw.data import VOCABULARY, CaptionedWriter
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.lapgan.config import SHARPENERS, LAPGANConfig
from aligndraw.lapgan.examples import open_examples
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model.language import LanguageModel
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import save_model
from aligndraw.pipelines import Pipeline
from aligndraw.training.adversarial import AdversarialTrainer, SharpenerTrainer
from aligndraw.training.reconstructions import reconstruct

SEVEN, TWO = "the digit seven is at the top left of the image", "the digit two is at the top left of the image"
SHORT = "--hidden-channels 2 --epochs 2 --batch-size 4".split()


@pytest.fixture
def archive(command, model, tmp_path):
    path = tmp_path / "drawn.npz"
    assert command("sample", SEVEN, TWO, "-n", 3, "--model", model, "-o", path)[0] == 0
    return path


@pytest.fixture
def train(command, archive, model, tmp_path):
    def run(*options, out=tmp_path / "sharpener"):
        return command("train", "sharpener", "--data", archive, "--model", model, *SHORT, "--out", out, *options)

    return run


@pytest.fixture
def sharpener(train, tmp_path):
    """A folder whose sharpener changes pictures visibly."""
    assert train()[0] == 0
    folder = tmp_path / "sharpener"
    trained = Sharpener.load(folder)
    with torch.no_grad():
        trained.generator.convolutions[-1].bias += 0.25
    trained.save(folder)
    return folder


def expected(folder, model, archive):
    """The archive's images as the module itself sharpens them."""
    with np.load(archive) as file:
        images, captions = torch.from_numpy(file["images"]), file["captions"].tolist()
    pipeline = Pipeline.from_pretrained(model)
    rows = []
    for image, caption in zip(images, captions):
        ids, lengths = pipeline.vocabulary.encode_batch([caption])
        _, sentence = pipeline.model.language(ids, lengths)
        rows.append(Sharpener.load(folder)(image[None], sentence).detach()[0])
    assert (torch.stack(rows) - images).abs().max() > 0.1
    return torch.stack(rows).numpy()


def test_training(train, tmp_path):
    status, out, err = train()
    assert (status, err) == (0, "")
    assert "on 6 images: 6 updates; cpu" in out
    assert "epoch 2/2: discriminator 0." in out and "recognised " in out
    folder = tmp_path / "sharpener"
    assert sorted(p.name for p in (folder / "samples").iterdir()) == ["epoch-0001.png", "epoch-0002.png"]
    notes = Sharpener.load(folder).notes
    assert notes["sentences"]["specification"] == "caption" and notes["training"]["epochs"] == 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert train()[0] == 1 and train("--overwrite")[0] == 0


def test_resuming(train, command, archive, tmp_path):
    assert train("--overwrite", out=tmp_path / "a")[0] == 0
    wanted = (tmp_path / "a" / "sharpener.safetensors").read_bytes()
    folder = tmp_path / "b"
    assert train(out=folder)[0] == 0
    (folder / "sharpener.safetensors").unlink()
    (folder / "checkpoints" / "update-00000006" / "state.json").unlink()  # damaged: the one before is taken
    status, out, err = command("train", "sharpener", "--resume", "--out", folder)
    assert status == 0 and "from update 3 on" in out and "passed over" in err
    assert (folder / "sharpener.safetensors").read_bytes() == wanted
    status, _, err = command("train", "sharpener", "--resume", "--out", folder, "--seed", 1)
    assert status == 2 and "leave out --seed" in err
    archive.write_bytes(archive.read_bytes() + b" ")
    status, _, err = command("train", "sharpener", "--resume", "--out", folder)
    assert status == 1 and "has changed since the training in" in err


def test_what_diverges_leaves_the_last_good_checkpoint(train, command, tmp_path):
    status, _, err = train("--learning-rate", 1e30, "--checkpoint-every", 1)
    assert status == 1 and "is not finite" in err and err.count("\n") == 1
    assert not (tmp_path / "sharpener" / "sharpener.safetensors").exists()


def test_an_archive(command, sharpener, archive, model, tmp_path):
    options = ("--sharpener", sharpener, "--model", model)
    status, out, _ = command("sharpen", archive, *options, "--dtype", "float32", "-o", tmp_path / "sharp.npz")
    assert status == 0 and "6 pictures, sharpened" in out
    wanted = expected(sharpener, model, archive)
    with np.load(tmp_path / "sharp.npz") as file:
        np.testing.assert_allclose(file["images"], wanted, rtol=0, atol=1e-5)
        assert file["captions"].tolist() == [SEVEN] * 3 + [TWO] * 3
    assert command("sharpen", archive, *options, "--dtype", "bfloat16", "-o", tmp_path / "half.npz")[0] == 0
    with np.load(tmp_path / "half.npz") as file:
        assert 0 < np.abs(file["images"] - wanted).max() < 0.02


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_taken_where_it_is_faster(command, sharpener, archive, model, tmp_path, monkeypatch, fast):
    monkeypatch.setattr("aligndraw.training.precision.rounds_fast", lambda device: fast)
    options = ("--sharpener", sharpener, "--model", model)
    found = []
    for given in ((), ("--dtype", "bfloat16" if fast else "float32")):
        assert command("sharpen", archive, *options, *given, "-o", tmp_path / "sharp.npz")[0] == 0
        with np.load(tmp_path / "sharp.npz") as file:
            found.append(file["images"])
    assert np.array_equal(*found)
    assert (np.abs(found[0] - expected(sharpener, model, archive)).max() > 1e-5) == fast


def test_sample_with_a_sharpener(command, sharpener, archive, model, tmp_path):
    sample = ("sample", SEVEN, TWO, "-n", 3, "--model", model, "--sharpen", sharpener)
    assert command(*sample, "-o", tmp_path / "sharp.npz")[0] == 0
    with np.load(tmp_path / "sharp.npz") as file:
        np.testing.assert_allclose(file["images"], expected(sharpener, model, archive), rtol=0, atol=1e-5)
    assert command(*sample[:-2], "-o", tmp_path / "blurry.png")[0] == 0
    assert command(*sample, "-o", tmp_path / "sharp.png")[0] == 0
    sharp, blurry = (np.asarray(Image.open(tmp_path / f"{name}.png")).mean() for name in ("sharp", "blurry"))
    assert sharp > blurry + 1


def test_a_picture(command, sharpener, archive, model, tmp_path, monkeypatch):
    with np.load(archive) as file:
        pixels = np.rint(file["images"][0, 0] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    options = ("--sharpener", sharpener, "--model", model, "--caption", SEVEN, "--dtype", "float32")
    assert command("sharpen", tmp_path / "in.png", *options, "-o", tmp_path / "out.png")[0] == 0
    with Image.open(tmp_path / "out.png") as image:
        sharp = np.asarray(image)
        assert image.text["Caption"] == SEVEN and image.mode == "L"
    difference = sharp / 255 - expected(sharpener, model, archive)[0, 0]
    assert np.abs(difference).max() < 0.01
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow then raises what is no OSError
    status, _, err = command("sharpen", tmp_path / "in.png", *options, "-o", tmp_path / "again.png")
    assert status == 1 and "cannot sharpen " in err and "in.png: " in err and err.count("\n") == 1


def test_pictures_of_more_than_eight_bits(command, sharpener, model, tmp_path):
    """16 bits were clipped to white, and floating-point numbers to black."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "8.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(pixels / np.float32(255)).save(tmp_path / "float.png", "TIFF")
    options = ("--sharpener", sharpener, "--model", model, "--caption", SEVEN)
    for name in ("8", "16"):
        path = tmp_path / f"sharp-{name}.png"
        assert command("sharpen", tmp_path / f"{name}.png", *options, "-o", path)[0] == 0
    assert (tmp_path / "sharp-8.png").read_bytes() == (tmp_path / "sharp-16.png").read_bytes()
    status, out, err = command("sharpen", tmp_path / "float.png", *options, "-o", tmp_path / "sharp.png")
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "float.png: it holds floating-point numbers, and nothing says which is white" in err


def test_another_models_captions(command, sharpener, archive, tmp_path):
    """The sharpener was trained with the caption states of one model, and the shipped one is another."""
    status, _, err = command("sharpen", archive, "--sharpener", sharpener, "-o", tmp_path / "sharp.npz")
    assert status == 1 and "trained with captions as another model reads them" in err


def test_stored_vectors(train, command, archive, model, tmp_path):
    np.savez(tmp_path / "v.npz", captions=[SEVEN, TWO], vectors=np.eye(2, 5))
    assert train("--sentences", f"vectors:{tmp_path / 'v.npz'}")[0] == 0
    folder = tmp_path / "sharpener"
    assert Sharpener.load(folder).config.sentence_units == 5
    assert command("sharpen", archive, "--sharpener", folder, "-o", tmp_path / "sharp.npz")[0] == 0
    np.savez(tmp_path / "v.npz", captions=[SEVEN], vectors=np.eye(1, 5))
    status, _, err = command("sharpen", archive, "--sharpener", folder, "-o", tmp_path / "sharp.npz")
    assert status == 1 and "has no vector of the caption" in err


def test_a_folder_of_captioned_images(command, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 10, 12), np.uint8)
    with CaptionedWriter(tmp_path / "data", (3, 10, 12), {}) as writer:
        writer.store("train", ["a", "b", "c"], pictures)
        writer.store("test", ["d"], pictures[:1])
        told = [("a", "A one"), ("b", "B two"), ("c", "C three"), ("a", "again")]
        writer.finish({"train": told, "test": [("d", "x")]})
    examples = open_examples(tmp_path / "data")
    images, captions = examples.batch(np.array([3, 1, 0]))
    rows = [["A one", "B two", "C three", "again"].index(caption) % 3 for caption in captions]
    assert len(examples) == 4 and len(set(captions)) == 3
    torch.testing.assert_close(images, torch.from_numpy(pictures[rows]).float() / 255)
    vectors = tmp_path / "v.npz"
    np.savez(vectors, captions=["A one", "B two", "C three", "again"], vectors=np.eye(4))
    train = ("train", "sharpener", "--data", tmp_path / "data", "--sentences", f"vectors:{vectors}", *SHORT)
    status, out, _ = command(*train, "--out", tmp_path / "s")
    assert status == 0 and "on 4 images: 4 updates" in out
    config = Sharpener.load(tmp_path / "s").config
    assert (config.channels, config.image_size, config.sentence_units) == (3, (10, 12), 4)


@pytest.fixture
def data(tmp_path):
    store_scenes(tmp_path / "data", 4, captions=2)
    return tmp_path / "data"


def recipe(folder):
    """How a run is trained, but for what the tests make small."""
    record = json.loads((folder / "run.json").read_text())
    return {**record["training"], "epochs": 0, "batch_size": 0}, record


def test_scenes_have_a_recipe_of_their_own(train, command, data, scenes, tmp_path):
    """It is the default for what `aligndraw data scenes` wrote alone, and can be asked for and refused."""
    given = ("train", "sharpener", "--data", data, "--model", scenes, *SHORT, "--out")
    status, out, err = command(*given, tmp_path / "a")
    assert (status, err) == (0, "") and "preset scenes" in out
    assert train(out=tmp_path / "b")[0] == 0
    assert command(*given, tmp_path / "c", "--preset", "published", "--noise", 0.5)[0] == 0
    schedules = {name: {**told.to_dict(), "epochs": 0, "batch_size": 0} for name, (_, told) in SHARPENERS.items()}
    for run, preset, changed in (("a", "scenes", {}), ("b", "published", {}), ("c", "published", {"noise": 0.5})):
        told, record = recipe(tmp_path / run)
        assert told == {**schedules[preset], **changed} and record["preset"] == preset
    with Image.open(tmp_path / "a" / "samples" / "epoch-0002.png") as sheet:
        assert sheet.width > 0
    assert schedules["scenes"]["coarse"] == "reconstructions" and schedules["published"]["coarse"] == "pyramid"


def test_reconstructions_are_those_of_the_model_and_are_resumed(command, data, scenes, tmp_path, monkeypatch):
    seen = []

    def update(trainer):
        seen.append(trainer.reconstructions)
        return AdversarialTrainer.update(trainer)

    monkeypatch.setattr(SharpenerTrainer, "update", update)
    given = ("train", "sharpener", "--data", data, "--model", scenes, *SHORT, "--seed", 3, "--out")
    assert command(*given, tmp_path / "a")[0] == 0
    pipeline = Pipeline.from_pretrained(scenes)
    assert np.array_equal(seen[0], reconstruct(pipeline.model, pipeline.vocabulary, open_examples(data), 3))
    assert command(*given, tmp_path / "b")[0] == 0
    (tmp_path / "b" / "sharpener.safetensors").unlink()
    (tmp_path / "b" / "checkpoints" / "update-00000008" / "state.json").unlink()
    status, out, _ = command("train", "sharpener", "--resume", "--out", tmp_path / "b")
    assert status == 0 and "from update 4 on" in out
    weights = [(tmp_path / run / "sharpener.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    status, _, err = command("train", "sharpener", "--resume", "--out", tmp_path / "b", "--preset", "published")
    assert status == 2 and "leave out --preset" in err
    changed = Pipeline.from_pretrained(scenes).model
    with torch.no_grad():
        changed.canvas += 0.1  # what reads the captions stays
    save_model(changed, pipeline.vocabulary, scenes)
    status, _, err = command("train", "sharpener", "--resume", "--out", tmp_path / "b")
    assert status == 1 and "has changed since the training in" in err


def test_what_cannot_be_reconstructed(command, data, model, archive, tmp_path, listing):
    texts = sorted(set((data / "train-captions.txt").read_text().splitlines()))
    np.savez(tmp_path / "v.npz", captions=texts, vectors=np.eye(len(texts), 5))
    vectors = ("--data", data, "--sentences", f"vectors:{tmp_path / 'v.npz'}", "--model")
    sizes = LAPGANConfig(sentence_units=6, hidden_channels=2, generator_units=2)
    LAPGAN(sizes, VOCABULARY, LanguageModel(len(VOCABULARY), 3)).save(tmp_path / "gan")
    before = listing()
    given = ("train", "sharpener", *SHORT, "--out", tmp_path / "s")
    for arguments, status, message in (
        (("--data", data, "--model", model), 1, "unknown word"),
        ((*vectors, model), 1, "must be those of the model, [C, H, W] = [1, 60, 60], got [3, 32, 32]"),
        ((*vectors, tmp_path / "gan"), 1, "needs a drawing model, got a LAPGAN"),
        (("--data", tmp_path / "none", "--model", model), 1, "there is no archive"),
        (("--data", archive, "--model", model, "--l1-weight", -1), 2, "l1_weight must not be negative, got -1"),
    ):
        found, _, err = command(*given, *arguments)
        assert found == status and message in err and err.count("\n") == 1, (arguments, err)
    assert listing() == before | {tmp_path / "s": None, tmp_path / "s" / "lock": b""}


def test_an_input_of_other_pictures_or_captions_is_named(command, sharpener, model, tmp_path):
    faults = {
        (
            20,
            SEVEN,
        ): "must hold pictures of 60 x 60 pixels in grey, those of the sharpener, got of 20 x 20 pixels in grey",
        (60, " "): 'caption must hold at least one word, got ""',
    }
    path = tmp_path / "in.npz"
    for (side, caption), fault in faults.items():
        np.savez(path, images=np.zeros((1, 1, side, side), np.float32), captions=[caption])
        given = ("--sharpener", sharpener, "--model", model, "-o", tmp_path / "o.npz")
        status, _, err = command("sharpen", path, *given)
        assert status == 1 and err.startswith(f"aligndraw: error: {path}") and fault in err
        assert not (tmp_path / "o.npz").exists()


def test_errors(command, archive, model, tmp_path, listing):
    np.savez(tmp_path / "odd.npz", images=np.full((1, 1, 60, 60), 2, np.float32), captions=["a"])
    np.savez(tmp_path / "bare.npz", images=np.zeros((1, 1, 60, 60), np.float32))
    np.savez(tmp_path / "four.npz", images=np.zeros((1, 4, 60, 60), np.float32), captions=["a"])
    before = listing()
    train = ("train", "sharpener", "--out", tmp_path / "s")
    sharpen = ("sharpen", "--sharpener", model)
    npz, png = ("-o", tmp_path / "s.npz"), ("-o", tmp_path / "s.png")
    for arguments, status, message in (
        (train, 2, "--data PATH must name the training data"),
        ((*train, "--data", tmp_path / "no.npz"), 1, "there is no archive"),
        ((*train, "--data", tmp_path / "odd.npz"), 1, "must be float32 in [0, 1]"),
        ((*train, "--data", tmp_path / "bare.npz"), 1, "is no .npz archive"),
        ((*train, "--data", tmp_path / "four.npz"), 1, "must be grey, C = 1, or in colour, C = 3, got C = 4"),
        ((*train, "--data", archive, "--batch-size", 3), 2, "must be even, got 3"),
        ((*sharpen, archive, *npz), 1, "there is no sharpener in"),
        ((*sharpen, archive, *png), 2, "must both end in .npz, or both in"),
        ((*sharpen, tmp_path / "a.png", *png), 2, "--caption TEXT must be given"),
        (("sample", SEVEN, "--sharpen", model, *png), 1, "there is no sharpener in"),
    ):
        found, _, err = command(*arguments)
        assert found == status and message in err and err.count("\n") == 1, (arguments, err)
    assert listing() == before
