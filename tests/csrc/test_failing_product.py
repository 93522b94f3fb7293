"""What an op says when PyTorch refuses one of its products."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import native  # of build_backend: the library's own compiler flags
import pytest
import torch

CSRC = Path(__file__).parents[2] / "csrc"
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def message(tmp_path_factory):
    """Returns the error message of [2, depth] times [3, 2]; "" where nothing fails."""
    target, torch_folder = tmp_path_factory.mktemp("product") / "product.so", Path(torch.__file__).parent
    command = ["g++", *native.CXX_FLAGS, "-O0", native.STABLE_ABI, "-fvisibility=default", "-shared", "-I", CSRC]
    command += ["-isystem", torch_folder / "include", Path(__file__).with_name("failing_product.cpp"), "-o", target]
    subprocess.run([*command, f"-L{torch_folder / 'lib'}", "-ltorch_cpu"], check=True)
    library = ctypes.CDLL(str(target))

    def ask(depth):
        text = ctypes.create_string_buffer(4096)
        library.message_of_a_product(ctypes.c_int64(depth), text, ctypes.c_int64(4095))
        return text.value.decode()

    return ask


def test_a_product_that_fits_says_nothing(message):
    assert message(3) == ""


@pytest.mark.skipif(torch.__version__.startswith("2.11"), reason="PyTorch 2.11 prints the cause")
def test_a_product_that_fails_says_why(message):
    """The cause was once dropped: out of memory looked like any other failure."""
    text = message(4)
    assert text.startswith("a product of matrices failed in PyTorch: ")
    assert "mat1 and mat2 shapes cannot be multiplied (2x4 and 3x2)" in text
