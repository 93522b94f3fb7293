"""The documented examples run, and learn."""

import importlib.util
from pathlib import Path

import torch

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
