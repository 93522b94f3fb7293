import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data.scene_captions import VOCABULARY


@pytest.fixture
def scene_model():
    """A small model of scenes whose parameters are large enough to matter."""
    torch.manual_seed(0)
    model = AlignDRAW(
        AlignDRAWConfig(
            image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY),
            steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model
