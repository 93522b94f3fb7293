import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig

TINY = AlignDRAWConfig(
    image_size=(9, 7),
    channels=2,
    steps=4,
    read_size=3,
    write_size=4,
    encoder_units=11,
    decoder_units=10,
    latent_units=5,
    language_units=6,
    align_units=7,
    vocabulary_size=12,
    canvas_init=-1.0,
)


@pytest.fixture
def tiny():
    """Makes a small model in float64 with parameters large enough to matter."""

    def make(**changes):
        torch.manual_seed(0)
        model = AlignDRAW(TINY.replace(**changes)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
        return model

    return make


@pytest.fixture
def batch():
    """Images [3, 2, 9, 7], word ids [3, 6], lengths."""
    torch.manual_seed(1)
    images = torch.rand(3, 2, 9, 7, dtype=torch.float64)
    return images, torch.randint(0, 12, (3, 6)), torch.tensor([6, 3, 1])
