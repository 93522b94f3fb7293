"""The Triton backend in Triton's interpreter, which must be asked for before anything is imported."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_contract_holds_in_the_interpreter(triton_interpreter, tmp_path):
    """The tests of every backend again, in a process in which Triton serves CPU tensors."""
    tests = [Path(__file__).parent / name for name in ("test_contract.py", "test_properties.py")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "triton", "--import-mode=importlib", *tests],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout
