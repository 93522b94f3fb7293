import pytest
import torch
from tiny_models import TINY

from aligndraw import AlignDRAW, Pipeline
from aligndraw.data import VOCABULARY, Scenes
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener


@pytest.fixture
def network():
    """Makes a tiny model whose pictures differ."""

    def make(**changes):
        torch.manual_seed(0)
        model = AlignDRAW(TINY.replace(**changes))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0, 0.5)
        return model

    return make


@pytest.fixture
def pipeline(network):
    """Draws digits."""
    return Pipeline(network(), VOCABULARY, name="tiny")


@pytest.fixture
def scenes(network):
    """Draws scenes in colour."""
    shape = {"image_size": (32, 32), "channels": 3, "vocabulary_size": len(Scenes.vocabulary)}
    return Pipeline(network(**shape), Scenes.vocabulary, {"data": {"name": "scenes"}}, name="tiny scenes")


@pytest.fixture
def sharpener(scenes, tmp_path):
    """The folder of a sharpener for `scenes`, which changes pictures visibly."""
    torch.manual_seed(0)
    made = Sharpener(SharpenerConfig(image_size=(32, 32), channels=3, sentence_units=8, hidden_channels=2))
    torch.nn.init.constant_(made.generator.convolutions[-1].bias, 0.25)
    made.notes = {"sentences": sentence_notes("caption", scenes.model.language)}
    made.save(tmp_path / "sharpener")
    return tmp_path / "sharpener"
