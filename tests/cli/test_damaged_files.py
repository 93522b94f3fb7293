"""Files that are damaged, or become so during the work: one line that names the file."""

import numpy as np
import pytest
import torch
from refusals import refused

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.cli.train.progress import Progress
from aligndraw.data import Scenes
from aligndraw.model.saved import save_model
from aligndraw.text.skipthoughts import write_skipthoughts
from aligndraw.text.words import treebank_words

BUS = "a red bus stands on grass"
SKIPTHOUGHT = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3".split()
SHORT = "--epochs 1 --epoch-size 8 --checkpoint-every 1 --batch-size 4 --kl-warmup 0 --validation-size 2".split()


@pytest.fixture
def skipthoughts(tmp_path):
    """The folder of uni-skip with 3 units, which knows the words of the scenes."""
    rng = np.random.default_rng(0)
    words = ["UNK", *Scenes.vocabulary.words]
    shapes = {"W": (5, 6), "b": (6,), "U": (3, 6), "Wx": (5, 3), "Ux": (3, 3), "bx": (3,)}
    arrays = {f"encoder_{name}": rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    folder = tmp_path / "skip"
    folder.mkdir()
    write_skipthoughts(folder, "uni", arrays, words, [rng.normal(0, 1, (len(words), 5)).astype(np.float32)])
    return folder


@pytest.fixture
def skipthought_model(skipthoughts, tmp_path):
    """The folder of a model that reads its vectors."""
    torch.manual_seed(0)
    config = AlignDRAWConfig(
        image_size=(32, 32), channels=3, vocabulary_size=len(Scenes.vocabulary), steps=2, encoder_units=6,
        decoder_units=5, latent_units=3, sentences=f"uni-skip:{skipthoughts}", sentence_units=3, align=False,
    )  # fmt: skip
    save_model(AlignDRAW(config), Scenes.vocabulary, tmp_path / "model", notes={})
    return tmp_path / "model"


def flip(path, at):
    """Flips the bits of a byte in place."""
    with path.open("r+b") as file:
        file.seek(at, 2 if at < 0 else 0)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0xFF]))


def test_a_damaged_vector_of_a_word(command, skipthoughts, skipthought_model, tmp_path, listing):
    """It is read when the caption is drawn: a traceback."""
    row = ["UNK", *Scenes.vocabulary.words].index(treebank_words(BUS)[1])
    flip(skipthoughts / "utable.npy", -20 * (len(Scenes.vocabulary) + 1 - row))
    before = listing()
    for name in ("o.npz", "o.png"):
        result = command("sample", BUS, "--model", skipthought_model, "-n", 1, "-o", tmp_path / name)
        refused(result, 1, f"utable.npy is damaged: row {row} is not the one that was written")
    assert listing() == before


def test_a_vector_damaged_during_the_training(command, skipthoughts, tmp_path, monkeypatch):
    """The end of the epoch reads it again: a traceback. The checkpoint of the first update stays."""
    report = Progress.on_update

    def damaging(self, update):
        report(self, update)
        if update.index:
            return
        for at in range(128, (skipthoughts / "utable.npy").stat().st_size, 20):
            flip(skipthoughts / "utable.npy", at)

    monkeypatch.setattr(Progress, "on_update", damaging)
    options = (*SKIPTHOUGHT, *SHORT, "--sentences", f"uni-skip:{skipthoughts}", "--out", tmp_path / "run")
    status, _, err = command("train", "scenes", "--model", "skipthought", *options)
    refused((status, "", err), 1, "utable.npy is damaged: row")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["update-00000001"]


@pytest.mark.parametrize("damaged", ["table", "weights"])
def test_skipthoughts_that_are_not_finite(command, skipthoughts, skipthought_model, tmp_path, damaged):
    """Without checksums, as in the released files: pictures of NaN, in silence."""
    with np.load(skipthoughts / "uni_skip.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "table_crc32"}
    table = np.load(skipthoughts / "utable.npy").astype(np.float64)
    if damaged == "table":
        table[1:, 2] = 1e39  # beyond float32
    else:
        arrays["encoder_U"][1, 2] = np.nan
    np.save(skipthoughts / "utable.npy", table)
    np.savez(skipthoughts / "uni_skip.npz", **arrays)
    words = {
        "table": "utable.npy is damaged: row ",
        "weights": "uni_skip.npz is damaged or no skip-thoughts: encoder_U ",
    }
    result = command("sample", BUS, "--model", skipthought_model, "-n", 1, "-o", tmp_path / "o.npz")
    refused(result, 1, words[damaged], "finite")
    assert not (tmp_path / "o.npz").exists()


def test_an_archive_of_pictures_that_are_not_finite(command, model, tmp_path, monkeypatch):
    """A sheet refused them, an archive did not."""
    sample = AlignDRAW.sample

    def spoilt(self, *arguments, **options):
        drawing = sample(self, *arguments, **options)
        drawing.images[0, 0, 5, 5] = torch.nan
        return drawing

    monkeypatch.setattr(AlignDRAW, "sample", spoilt)
    seven = "the digit seven is at the top left of the image"
    refused(
        command("sample", seven, "--model", model, "-n", 2, "-o", tmp_path / "o.npz"), 1, "pictures must lie in [0, 1]"
    )
    assert not (tmp_path / "o.npz").exists()
