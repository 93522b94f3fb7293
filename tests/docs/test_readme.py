"""README.md: its Python and its commands, word for word."""

import csv

import numpy as np
from pages import blocks, commands
from PIL import Image
from small_runs import smaller

from aligndraw.cli import main
from aligndraw.pipelines import Pipeline

README = "README.md"


def test_its_python_runs_draws_trains_and_takes_an_op(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(README, "python")
    names: dict[str, object] = {}
    exec(compile(block, README, "exec"), names)
    assert [picture.size for picture in names["drawing"].images] == [(60, 60)] * 4
    assert names["drawing"].attention.shape == (4, 12, 12)
    for picture in ("pair.png", "words.png"):
        Image.open(picture).verify()
    assert names["job"].trainer.index == names["job"].trainer.total == 10
    assert len(Pipeline.from_pretrained("mine")("the digit 3 is on the left of the digit 8 .")) == 1
    assert names["window"].grad.abs().sum() > 0


def test_every_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aligndraw.evaluation.tables.MEAN_CAPTION_SCENES", 30)
    photos(tmp_path / "photos", tmp_path / "photos.csv")
    for words in commands(README):
        assert main(smaller(words)) == 0, f"{words}: {capsys.readouterr().err}"
    for picture in ("quick/samples.png", "models.png", "out.png", "pair.png", "steps.gif", "words.png", "swap.png"):
        Image.open(picture).verify()


def photos(folder, table):
    """Pictures of one's own, and their table."""
    folder.mkdir()
    random = np.random.default_rng(0)
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "caption"])
        for name, caption in ((f"{i}.png", f"a {c} square") for i in range(4) for c in ("red", "blue", "green")):
            name = f"{caption.split()[1]}-{name}"
            Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / name)
            rows.writerow([name, caption])
