"""The Triton backend in Triton's interpreter, which must be asked for before anything is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "tests",
    [
        pytest.param(["-k", "triton", "test_contract.py", "test_properties.py"], id="the-contract"),
        pytest.param(["-k", "triton and nan and float32 and not False", "test_poisoned_rows.py"], id="poisoned"),
        pytest.param(["-k", "triton and (scalar or example or ways)", "test_transforms.py"], id="the-derivatives"),
        pytest.param(["interpreted_loops.py"], id="the-loops"),
    ],
)
def test_in_the_interpreter(triton_interpreter, tmp_path, tests):
    """In a process in which Triton serves CPU tensors: the tests of every backend again, and of its loops."""
    here = [str(Path(__file__).with_name(t)) if t.endswith(".py") else t for t in tests]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", *here],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout
