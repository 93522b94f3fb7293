"""Folders that version 0.1.0 wrote: models load, trainings go on from its checkpoints to the weights it came to."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from aligndraw.data import CaptionedImages
from aligndraw.pipelines import Pipeline

ARCHIVE = Path(__file__).parents[1] / "data" / "version-0.1.0.tar.xz"
TRAININGS = {  # of each folder the command, and the file of weights
    "mnist": ("mnist", "model.safetensors"),
    "noalign": ("mnist", "model.safetensors"),
    "scenes": ("scenes", "model.safetensors"),
    "captioned": ("captioned", "model.safetensors"),
    "conv-vae": ("captioned", "model.safetensors"),
    "end-to-end": ("end-to-end", "model.safetensors"),
    "sharpener": ("sharpener", "sharpener.safetensors"),
    "lapgan": ("lapgan", "lapgan.safetensors"),
    "features": ("features", "features.safetensors"),
    "skipthoughts": ("skipthoughts", None),
}
BUS = "a large red bus is parked on the road under a blue sky"
CAPTIONS = {
    "mnist": "the digit seven is at the top of the image",
    "noalign": "the digit 3 is on the left of the digit 8 .",
    "captioned": "an orange school bus is flying over white snow under the moon .",
    "conv-vae": "an orange school bus is flying over white snow under the moon .",
}


@pytest.fixture
def archive(tmp_path):
    """The folders, with their paths where they were unpacked; trained in float32, as they were there."""
    root = tmp_path / "earlier"
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(root, filter="data")
    for path in root.rglob("*.json"):
        text = path.read_text().replace("@FOLDER@", str(root))
        path.write_text(text.replace('"precision": "auto"', '"precision": "float32"'))
    return root


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_goes_on(archive, command, name):
    training, weights = TRAININGS[name]
    wanted = weights and safetensors.torch.load_file(archive / name / weights)
    status, out, err = command("train", training, "--out", archive / name, "--resume")
    assert status == 0, err
    assert "from update " in out
    if weights is None:
        return
    found = safetensors.torch.load_file(archive / name / weights)
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["mnist", "noalign", "scenes", "captioned", "conv-vae", "end-to-end", "lapgan"])
def test_a_model_draws(archive, name):
    drawing = Pipeline.from_pretrained(archive / name)([CAPTIONS.get(name, BUS)], seed=0)
    assert np.isfinite(drawing.arrays()).all()


def test_prepared_data_are_whole(archive):
    data = CaptionedImages.open(archive / "data")
    data.verify()
    assert len(data.split("train").images) == 4
