import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw import AlignDRAW, AlignDRAWConfig, Pipeline
from aligndraw.data import Scenes
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener


@pytest.fixture(scope="session")
def digits():
    """The model of digits that ships."""
    return Pipeline.from_pretrained("mnist")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """The folder of a tiny model of scenes in colour, with a sharpener that makes pictures visibly brighter."""
    folder = tmp_path_factory.mktemp("models") / "scenes"
    torch.manual_seed(0)
    sizes = {"encoder_units": 6, "decoder_units": 5, "latent_units": 3, "language_units": 4, "align_units": 4}
    shape = {"image_size": (32, 32), "channels": 3, "vocabulary_size": len(Scenes.vocabulary), "steps": 3}
    model = AlignDRAW(AlignDRAWConfig(canvas_init=0.0, **sizes, **shape))
    sharpener = Sharpener(SharpenerConfig(image_size=(32, 32), channels=3, sentence_units=8, hidden_channels=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    torch.nn.init.constant_(sharpener.generator.convolutions[-1].bias, 0.25)
    sharpener.notes = {"sentences": sentence_notes("caption", model.language)}
    sharpener.save(folder.parent / "sharpener")
    pipeline = Pipeline(model, Scenes.vocabulary, {"data": {"name": "scenes"}})
    pipeline.with_sharpener(folder.parent / "sharpener").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def films():
    """Returns the frames of each picture in the HTML of figures, uint8 [T + 1, H, W, 3]."""

    def decode(html):
        pictures = []
        for count, content in re.findall(r'data-frames="(\d+)".*?<img[^>]*src="data:image/png;base64,([^"]*)"', html):
            strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
            pictures.append(np.stack(np.split(strip, int(count), 1)))
        return pictures

    return decode
