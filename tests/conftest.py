import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

from aligndraw.lapgan.config import LAPGANConfig, SharpenerConfig

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it no product on a GPU is deterministic


def pytest_addoption(parser):
    parser.addoption(
        "--seconds", type=float, default=20.0, help="of each test of -m faults and of -m slow; then it reports [20]"
    )


@pytest.fixture
def seconds(pytestconfig):
    """The time of a test that can go on for as long as wanted."""
    return pytestconfig.getoption("seconds")


@pytest.fixture(autouse=True)
def poisoned_memory():
    """New tensors are full of NaN, not of what was there before: a kernel that leaves a number unwritten shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def triton_interpreter():
    """Skips a test that asks for Triton's interpreter where there is none that works."""
    triton = pytest.importorskip("triton", reason="triton is not installed")
    if Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.4"):
        pytest.skip(
            f"the interpreter of triton {triton.__version__} does not run with numpy {np.__version__}: "
            "triton 3.7 or numpy before 2.4 does"
        )


@pytest.fixture
def sharpener_config():
    """Odd sides, H != W, and another number of each thing."""
    return SharpenerConfig(image_size=(11, 14), channels=2, sentence_units=6, hidden_channels=5)


@pytest.fixture
def pyramid_config(sharpener_config):
    """A LAPGAN of the same images."""
    sizes = dict(noise_units=3, generator_units=8, discriminator_units=7)
    return LAPGANConfig.from_dict({**sharpener_config.to_dict(), **sizes})


@pytest.fixture
def flipped():
    """Damages a file at `count` bits, one at a time, from a share `first` of its length on; mends it again."""

    def each(path, count, first=0.0):
        path, draw = Path(path), random.Random(0)
        whole = path.read_bytes()
        for _ in range(count):
            damaged = bytearray(whole)
            damaged[draw.randrange(int(first * len(whole)), len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            yield
        path.write_bytes(whole)

    return each
