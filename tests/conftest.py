import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it no product on a GPU is deterministic


@pytest.fixture(autouse=True)
def poisoned_memory():
    """New tensors are full of NaN, not of what was there before: a kernel that leaves a number unwritten shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
