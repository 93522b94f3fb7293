import os

import numpy as np
import pytest
import torch
from packaging.version import Version

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it no product on a GPU is deterministic


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
