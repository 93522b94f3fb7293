import pytest
import torch

from aligndraw.lapgan.config import LAPGANConfig, SharpenerConfig


@pytest.fixture
def config():
    """Odd sides, H != W, and another number of each thing."""
    return SharpenerConfig(image_size=(11, 14), channels=2, sentence_units=6, planes=5)


@pytest.fixture
def pyramid_config():
    return LAPGANConfig(
        image_size=(11, 14),
        channels=2,
        sentence_units=6,
        planes=5,
        noise_units=3,
        generator_units=8,
        discriminator_units=7,
    )


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
