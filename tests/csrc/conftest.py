import emulated_cuda
import pytest


@pytest.fixture(scope="session")
def loaded():
    return emulated_cuda.Emulation("race")


@pytest.fixture
def emulation(loaded):
    """The stand-in for CUDA as it starts: four multiprocessors, threads in order, every barrier in place."""
    yield loaded
    loaded.multiprocessors(4)
    loaded.order(0)
    loaded.capability(9)
    loaded.leave_out("", 0)
