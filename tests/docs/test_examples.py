"""The documented examples run, and learn."""

import importlib.util
from pathlib import Path

import torch
from pages import commands
from PIL import Image
from small_runs import smaller

from aligndraw.cli import main

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_draw_mnist(tmp_path, capsys):
    example = load("draw_mnist")
    model = example.main(12, str(tmp_path / "grid.png"))
    first, last = (float(line.split()[2]) for line in capsys.readouterr().out.strip().splitlines())
    assert last < first
    assert (tmp_path / "grid.png").stat().st_size > 1000
    assert model(torch.rand(3, 1, 28, 28)).shape == (3,)


def test_draw_mnist_is_short():
    assert len((EXAMPLES / "draw_mnist.py").read_text().splitlines()) < 100


def test_the_commands_of_the_quick_start_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in commands("docs/quickstart.md"):
        assert main(smaller(words)) == 0, f"{words}: {capsys.readouterr().err}"
    for picture in ("out.png", "pair.png", "steps.gif", "words.png", "quick/samples.png"):
        Image.open(picture).verify()
