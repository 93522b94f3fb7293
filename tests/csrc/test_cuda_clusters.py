"""The loops in clusters of blocks, in the stand-in for CUDA; test_cuda_loops.py has what all forms share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulated_cuda
import loop_cases
import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(emulated_cuda.compiler()) is None, reason="g++ on Linux is not here"
)

CALLS = {"unroll": loop_cases.drawn, "unroll_prior": loop_cases.sampled}


@pytest.fixture(autouse=True)
def in_clusters(emulation, monkeypatch):
    """Where one block with float64 fits a multiprocessor, 8 of them have one cluster of 8, and 16 one of 16."""
    monkeypatch.setenv("ALIGNDRAW_LOOP", "cluster")
    emulation.multiprocessors(16)


def check(run, args):
    for ours, truth in zip(run(args), run(args, "reference"), strict=True):
        assert ours.shape == truth.shape and loop_cases.error(ours, truth) < 1e-11


@pytest.mark.parametrize("batch", [1, 13, 16, 17, 100])
@pytest.mark.parametrize("op", CALLS)
def test_captions_are_divided_among_clusters(op, batch):
    """Of up to 16 captions each."""
    check(CALLS[op], loop_cases.make("odd", B=batch, T=2))


@pytest.mark.parametrize("multiprocessors", [8, 16, 64])
@pytest.mark.parametrize("op", CALLS)
def test_clusters_of_8_and_of_16(emulation, op, multiprocessors):
    """64 multiprocessors have more clusters at once than the captions need."""
    emulation.multiprocessors(multiprocessors)
    check(CALLS[op], loop_cases.make("wide", n=70, e=66, z=33))


def test_a_block_has_more_tiles_than_warps(emulation):
    """5 × 8 blocks hold the 41 tiles of a state of 322 units unevenly; a warp takes more than one."""
    emulation.multiprocessors(8)
    check(loop_cases.sampled, loop_cases.make("one", n=530, z=2))


@pytest.fixture
def reasons(monkeypatch):
    """reasons(): by op, why the form cannot be; the gradient is asked after a forward of another form."""

    def reasons():
        found = {}
        for op, run in CALLS.items():
            with pytest.raises(RuntimeError) as error:
                run(loop_cases.make("odd", n=900))
            found[op] = str(error.value)
        monkeypatch.setenv("ALIGNDRAW_LOOP", "launches")
        with pytest.raises(RuntimeError) as error:
            loop_cases.drawn(loop_cases.make("odd"), between=lambda: monkeypatch.setenv("ALIGNDRAW_LOOP", "cluster"))
        return {**found, "unroll_backward": str(error.value)}

    return reasons


def test_a_gpu_without_clusters_is_told_in_one_line(emulation, reasons):
    emulation.capability(8)
    reason = "the device has no clusters, which begin with compute capability 9.0"
    assert reasons() == {op: f"{op}: ALIGNDRAW_LOOP=cluster cannot be: {reason}" for op in (*CALLS, "unroll_backward")}


def test_where_the_states_or_a_cluster_do_not_fit(emulation, reasons):
    emulation.multiprocessors(3)
    found = reasons()
    for op in CALLS:
        assert found[op] == (
            f"{op}: ALIGNDRAW_LOOP=cluster cannot be: the states are larger than the device's shared memory"
        )
    reason = "no cluster of 8 blocks fits the device"
    assert found["unroll_backward"] == f"unroll_backward: ALIGNDRAW_LOOP=cluster cannot be: {reason}"


@pytest.mark.parametrize("order", ["forward", "reverse", "7"])
def test_products_on_tensor_cores_in_each_type(order):
    """In any order of threads."""
    program = emulated_cuda.link("race", [Path(__file__).with_name("tiles.cu")])
    environment = {**os.environ, "CUDA_ON_CPU_ORDER": order}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout + done.stderr).strip() == "ok" and done.returncode == 0
