"""Every Python block of a page runs, in the order of the page, in a folder with what the page presumes."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import blocks, pages, run
from PIL import Image
from small_runs import smaller

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig, data
from aligndraw.cli import main
from aligndraw.convert import to_released
from aligndraw.evaluation import fidelity, retrieval

# test_readme.py looks at the results of the first; the second shows one line of a class.
NOT_HERE = {"README.md", "csrc/README.md"}


def command(line):
    assert main(smaller(line.split())) == 0


def photos():
    Path("photos").mkdir()
    random = np.random.default_rng(0)
    lines = ["file_name,caption"]
    for i in range(70):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(f"photos/{i}.png")
        lines.append(f"{i}.png,picture {i} of a square")
    Path("photos.csv").write_text("\n".join(lines))
    command("data folder --images photos --captions photos.csv --out photos32")


def digits_of_npm(monkeypatch):
    folder = Path("package/src/digits")
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for digit in range(10):
        (folder / f"{digit}.json").write_text(json.dumps({"data": random.random(3 * 784).tolist()}))


def captioned(monkeypatch):
    photos()


def training(monkeypatch):
    photos()
    recipe = TrainingConfig.preset("scenes").replace(epochs=1, epoch_size=8, batch_size=4, kl_warmup=0)
    monkeypatch.setattr(TrainingConfig, "preset", lambda name: recipe)


def evaluation(monkeypatch):
    command("train mnist --out quick")
    command("train scenes --out scenes")
    monkeypatch.setattr(data, "evaluation_scenes", partial(data.evaluation_scenes, size=6))
    monkeypatch.setattr(data, "evaluation_sets", partial(data.evaluation_sets, size=6))
    scored = fidelity.score_fidelity
    monkeypatch.setattr(retrieval, "shortlists", partial(retrieval.shortlists, size=3))
    monkeypatch.setattr(fidelity, "score_fidelity", lambda model, vocabulary, n: scored(model, vocabulary, n=1))


def sharpening(monkeypatch):
    h5py = pytest.importorskip("h5py")
    command("data scenes --out scenes-data")
    command("train scenes --out align")
    command("train sharpener --data scenes-data --model align --out sharpener")
    random = np.random.default_rng(0)
    shapes = {
        "skipthought2image": (4800, 1024), "skipthought2image-bias": (1024,),
        "W_conv0": (4, 5, 7, 7), "b_conv0": (4,), "W_conv1": (4, 4, 7, 7), "b_conv1": (4,),
        "W_conv2": (3, 4, 5, 5), "b_conv2": (3,),
    }  # fmt: skip
    with h5py.File("gan.hdf5", "w") as file:
        for name, shape in shapes.items():
            file[name] = random.normal(0, 0.1, shape).astype(np.float32)


def authors_code(monkeypatch):
    h5py = pytest.importorskip("h5py")
    config = AlignDRAWConfig(
        image_size=(6, 6), channels=3, steps=32, read_size=3, write_size=3, encoder_units=5, decoder_units=7,
        latent_units=4, language_units=3, align_units=6, vocabulary_size=4,
    )  # fmt: skip
    model = AlignDRAW(config)
    torch.nn.init.normal_(model.write.patch.weight)
    with h5py.File("aligndraw.h5", "w") as file:
        for name, array in to_released(model).items():
            file[name] = array
    Path("words.txt").write_text("a\nred\nbus\nskis\n")


# What a page presumes: files in the folder, smaller sizes.
BEFORE = {
    "docs/authors-code.md": authors_code,
    "docs/captioned-images.md": captioned,
    "docs/data.md": digits_of_npm,
    "docs/evaluation.md": evaluation,
    "docs/sharpening.md": sharpening,
    "docs/training.md": training,
}
PAGES = [page for page in pages() if blocks(page, "python") and page not in NOT_HERE]


@pytest.fixture
def one_thread():
    """Threads gain nothing on small tensors, and wait for each other where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page, tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    BEFORE.get(page, lambda monkeypatch: None)(monkeypatch)
    run(page)
