"""gpu_report.py on a bare machine: an environment without the package, whose torch says that CUDA is there."""

import json
import os
import subprocess
import venv

import pytest

TORCH = """
__version__ = "2.11.0+cu130"

class version:
    cuda = "13.0"

class _Properties:
    name, major, minor, multi_processor_count = "ACME X100", 9, 0, 132
    total_memory, L2_cache_size = 2**37, 60 * 2**20

class cuda:
    is_available = staticmethod(lambda: {available})
    get_device_properties = staticmethod(lambda device: _Properties)

def get_num_threads():
    return 16
"""


@pytest.fixture
def bare(tmp_path, benchmarks):
    """Runs the report in a new environment: its exit code, its output, and the folder of its report."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "torch").mkdir()

    def run(*arguments, available=True):
        (packages / "torch" / "__init__.py").write_text(TORCH.replace("{available}", str(available)))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        command = [tmp_path / "env/bin/python", benchmarks / "gpu_report.py", "--out", tmp_path / "out", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr, tmp_path / "out"

    return run


def test_a_gpu_is_found_before_the_package_is_there(bare):
    """The probe once imported the package, and the report ended before it had built it."""
    code, output, folder = bare("--brief")
    results = json.loads((folder / "acme-x100-brief.json").read_text())
    assert results["machine"]["gpu"] == "ACME X100" and results["machine"]["compute_capability"] == "9.0"
    install = results["stages"]["install"]
    assert install["status"] == "failed" and "No module named pip" in install["log"]
    assert results["stages"]["model"] == {"status": "not measured", "log": "the package could not be installed"}
    assert code == 1 and "Traceback" not in output


def test_no_gpu_is_one_line(bare):
    code, output, folder = bare("--brief", available=False)
    assert code == 2 and output.count("\n") == 1 and not folder.exists()
    assert "nothing was measured: torch 2.11.0+cu130 sees no CUDA device" in output


def test_the_plan_needs_neither_gpu_nor_torch(bare):
    code, output, folder = bare("--brief", "--plan", available=False)
    limits = [int(line.split()[1]) for line in output.splitlines()[1:-1]]
    assert code == 0 and not folder.exists()
    assert len(limits) == 10 and sum(limits) == int(output.splitlines()[-1].split()[1]) <= 480
