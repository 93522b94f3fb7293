"""The sums over rows that give biases their gradients, in the stand-in for the CUDA runtime."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulated_cuda
import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(emulated_cuda.compiler()) is None, reason="g++ on Linux is not here"
)


@pytest.fixture(scope="module")
def program():
    return emulated_cuda.link("race", [Path(__file__).with_name("sums.cu"), emulated_cuda.CSRC / "cuda/loop.cu"])


@pytest.mark.parametrize("order", ["forward", "reverse", "7"])
def test_sums_over_rows_are_exact_in_any_order_of_threads(program, order):
    """Of more and fewer rows and columns than a block takes at once."""
    environment = {**os.environ, "CUDA_ON_CPU_ORDER": order}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout + done.stderr).strip() == "ok" and done.returncode == 0
