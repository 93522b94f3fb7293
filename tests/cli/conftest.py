import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.cli import main
from aligndraw.data import VOCABULARY, Scenes
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model.saved import save_model
from aligndraw.pipelines import Pipeline

TINY = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 --language-units 4 --align-units 4"
SHORT = "--epochs 2 --epoch-size 12 --batch-size 4 --kl-warmup 0 --validation-size 3"


@pytest.fixture
def command(capsys):
    """Runs `aligndraw` with these arguments; returns status, output and what it complained of."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def small():
    """The options of a tiny model and six updates."""
    return (*TINY.split(), *SHORT.split())


@pytest.fixture
def train(command, small):
    """`aligndraw train mnist` with these, and more options."""
    return lambda *options: command("train", "mnist", *small, *options)


@pytest.fixture
def model(tmp_path):
    """The folder of a model whose pictures differ, of which nothing is known but a seed."""
    torch.manual_seed(0)
    tiny = dict(zip((n[2:].replace("-", "_") for n in TINY.split()[::2]), map(int, TINY.split()[1::2])))
    network = AlignDRAW(AlignDRAWConfig(canvas_init=0.0, **tiny))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    save_model(network, VOCABULARY, tmp_path / "model", notes={"seed": 0})
    return tmp_path / "model"


@pytest.fixture
def scenes_model():
    """Writes a model of scenes whose pictures differ, "trained" on the first 60 from seed 3; returns its folder."""

    def write(folder, seed=0, **changes):
        torch.manual_seed(seed)
        config = AlignDRAWConfig(
            image_size=(32, 32), channels=3, canvas_init=0.0, vocabulary_size=len(Scenes.vocabulary),
            steps=3, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4,
        )  # fmt: skip
        network = AlignDRAW(config.replace(**changes))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, 0, 0.5)
        data = {"name": "scenes", "path": None, "sha256": None}
        notes = {"data": data, "seed": 3, "epochs": 2, "training": {"epoch_size": 30}}
        save_model(network, Scenes.vocabulary, folder, notes=notes)
        return folder

    return write


@pytest.fixture
def scenes(scenes_model, tmp_path):
    """The folder of one."""
    return scenes_model(tmp_path / "scenes")


@pytest.fixture
def scenes_sharpener():
    """Writes a sharpener, trained with the captions as a model reads them, that changes pictures visibly."""

    def write(folder, model):
        torch.manual_seed(0)
        network = Pipeline.from_pretrained(model).model
        units = 2 * network.config.language_units
        made = Sharpener(SharpenerConfig(image_size=(32, 32), channels=3, sentence_units=units, hidden_channels=2))
        torch.nn.init.constant_(made.generator.convolutions[-1].bias, 0.25)
        made.notes = {"sentences": sentence_notes("caption", network.language)}
        made.save(folder)
        return folder

    return write


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """Makes models in folders those that ship, by name, in place of the real ones; returns the folder of all."""

    def run(**models):
        monkeypatch.setattr("aligndraw.pipelines.shipped.SHIPPED", tmp_path / "weights")
        for name, folder in models.items():
            pipeline = Pipeline.from_pretrained(folder)
            if pipeline.vocabulary == VOCABULARY:
                pipeline.notes = {"data": {"name": "mnist"}, **pipeline.notes}
            pipeline.save_pretrained(tmp_path / "weights" / name)
        return tmp_path / "weights"

    return run


@pytest.fixture
def listing(tmp_path):
    """Everything below the test's folder, with contents: equal before and after what must leave no trace."""

    def take():
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*") if path.exists()}

    return take


@pytest.fixture
def digits(tmp_path):
    """Writes a file of n digits; returns its path."""

    def write(n, name="digits.npz", seed=0):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        np.savez(tmp_path / name, images=images, labels=(np.arange(n) % 10).astype(np.uint8))
        return tmp_path / name

    return write
