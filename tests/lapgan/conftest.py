import pytest
import torch


@pytest.fixture
def config(sharpener_config):
    return sharpener_config


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
