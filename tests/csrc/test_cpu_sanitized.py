"""The C++ CPU ops and loops under the address and undefined-behaviour sanitizers: their own tests, over again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulated_cuda
import pytest
import sanitized_cpu

from aligndraw.backends import missing_reason

pytestmark = [
    pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="the C++ ops are not built"),
    pytest.mark.skipif(shutil.which(emulated_cuda.compiler()) is None, reason="g++ is not here"),
]
TESTS = Path(__file__).parents[1]


def test_addresses_and_undefined_behaviour(tmp_path):
    library = sanitized_cpu.library()
    names = ("contract", "unroll", "lstm_sequence", "product", "muon")
    files = [TESTS / "ops" / f"test_{name}.py" for name in names]
    # Not those that ask for exact float32: unoptimised, sums are not taken in parts.
    cases = "opcheck or equals_the or finite or mixed_dtypes or in_every_shape or one_unit"
    cases += " or errs_as_pytorch or test_step"
    command = [sys.executable, "-m", "pytest", "-qs", "-p", "sanitized_cpu", "--import-mode=importlib", "-k", cases]
    environment = {**os.environ, **emulated_cuda.preloads(), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["ALIGNDRAW_ISA"] = "portable"  # no sanitizer sees the masked accesses of other ISAs
    command += map(str, [*files, TESTS / "csrc/test_cpu.py"])
    # Elsewhere: `-m` puts the working folder first, and the sources have no compiled library.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[:3000]
    assert f"loaded ['{library.name}']" in done.stdout
