"""Which device tests each stage of the GPU report takes."""

import os
import sys

import gpu_command
import gpu_tools
import pytest


@pytest.fixture(scope="module")
def collected():
    """The parts of test names that a selection of the device tests takes, by the test's function."""

    def collect(selection):
        command = (sys.executable, "-c", gpu_tools.PYTEST, str(gpu_tools.DEVICE_TESTS), "-k", selection)
        done = gpu_command.run((*command, "--collect-only", "-q", "-p", "no:cacheprovider"), 120.0, dict(os.environ))
        names = [
            test.rpartition("::")[2].removesuffix("]").partition("[")
            for test in gpu_tools.COLLECTED.findall(done.output)
        ]
        assert done.code == 0 and names
        return [(function, parameters) for function, _, parameters in names]

    return collect


def test_the_quick_selection_has_every_kernel_and_triton_once(collected):
    found = collected(gpu_tools.QUICK)
    exact = [parameters for function, parameters in found if function.startswith("test_as_exact")]
    ops = ("read", "write", "attend", "lstm_gates", "latent")
    assert not [p for _, p in found if "fp16" in p or "persistent" in p or "cluster" in p]
    assert {p.split("-")[0] for p in exact if "-cuda-" in p} == set(ops)
    assert {p.split("-")[2] for p in exact if "-cuda-" in p} == {"fp32", "fp64", "bf16"}
    assert sorted(p for p in exact if "triton" in p) == sorted(f"{op}-triton-fp32-odd-trained" for op in ops)
    loops = [p for function, p in found if function == "test_the_loops_equal_the_steps"]
    assert [p for p in loops if "triton" in p] == ["triton-odd-True"] and len(loops) == 13


@pytest.mark.parametrize("form", ["persistent", "cluster"])
def test_the_loops_of_one_launch_are_tested_apart(collected, form):
    found = collected({"persistent": gpu_tools.PERSISTENT, "cluster": gpu_tools.CLUSTER}[form])
    assert len(found) == 17 and all(parameters.startswith(form) for _, parameters in found)
