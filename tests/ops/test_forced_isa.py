"""The loops, `read` and `write` by each ISA that this machine has, forced by ALIGNDRAW_ISA: their tests, over again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aligndraw.backends import ISAS, missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++ ops here")
HERE = Path(__file__).parent
CASES = (
    "(single_precision and (odd or sequence or True)) or (rounded_products and odd-True)"
    " or same_bits or bits_of_a_row or (one_unit and ones5) or nothing_behind"
)


@pytest.fixture(scope="module")
def runs():
    """Exit status by ISA, and what was printed."""
    files = [str(HERE / f"test_{name}.py") for name in ("unroll", "lstm_sequence", "packed_decoder")]
    files.append(str(HERE.parent / "csrc/test_cpu.py"))
    command = [sys.executable, str(HERE / "forced_isa.py"), "-q", "--import-mode=importlib", "-k", CASES, *files]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.parametrize("isa", ISAS)
def test_loops(runs, isa):
    """As exact as their reference, in the same bits on any number of threads, whatever rows a row is batched with."""
    status, printed = runs
    if isa not in status:
        pytest.skip(f"no {isa} here")
    assert status[isa] == pytest.ExitCode.OK, printed[-4000:]
