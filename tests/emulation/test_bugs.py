"""The stand-in for the CUDA runtime finds what it is there to find: kernels with one bug each."""

import os
import re
import shutil
import subprocess
import sys

import emulated_cuda
import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(emulated_cuda.compiler()) is None, reason="g++ on Linux is not here"
)

GOOD = ("no_bug", "grid_good", "atomic_good", "clusters_good", "tile_good")
# Which build finds each, and by what.
BUGS = {
    "static_too_far": ("asan", "global-buffer-overflow|insufficient space"),
    "dynamic_too_far": ("asan", "AddressSanitizer: use-after-poison"),
    "global_too_far": ("asan", "AddressSanitizer: heap-buffer-overflow"),
    "misaligned": ("asan", "misaligned address"),
    "too_little_asked": ("race", "the kernel takes .* bytes, the launch asked for"),
    "not_initialised": ("race", "uninitialised shared memory"),
    "no_barrier": ("race", "race in shared memory|uninitialised"),
    "no_second_barrier": ("race", "race in shared memory"),
    "no_syncwarp": ("race", "race in shared memory|uninitialised"),
    "leave_early": ("race", "the kernel is stuck"),
    "two_barriers": ("race", "the kernel is stuck"),
    "lane_not_in_mask": ("race", "is not in the mask"),
    "lane_missing": ("race", "the kernel is stuck"),
    "no_grid_sync": ("race", "race in global memory"),
    "not_cooperative": ("race", "was not launched cooperatively"),
    "same_word": ("race", "race in global memory"),
    "clusters_not_started": ("race", "is used before a barrier of the cluster"),
    "clusters_no_barrier": ("race", "race in shared memory|uninitialised"),
    "clusters_left": ("race", "is used after its last barrier of the cluster"),
    "cluster_too_large": ("race", "invalid cluster size"),
    "tile_of_half_a_warp": ("race", "needs all 32 lanes"),
    "polling": ("race", "the kernel is stuck"),
}


@pytest.fixture(scope="module")
def said():
    """said("asan", "no_bug"): what the program prints, "ok" where it sees nothing wrong."""
    programs = {kind: emulated_cuda.link(kind, [emulated_cuda.HERE / "bugs.cu"]) for kind in ("asan", "race")}

    def said(kind, bug, order="forward"):
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "CUDA_ON_CPU_ORDER": order}
        done = subprocess.run(
            [programs[kind], bug], env=environment, capture_output=True, text=True, errors="replace", timeout=60
        )
        return (done.stdout + done.stderr).strip()

    return said


@pytest.mark.parametrize("kind", ["asan", "race"])
@pytest.mark.parametrize("name", GOOD)
def test_no_false_alarm(said, kind, name):
    for order in ("forward", "reverse", "1", "2"):
        assert said(kind, name, order) == "ok"


@pytest.mark.parametrize("bug", BUGS)
def test_bug_is_found(said, bug):
    kind, message = BUGS[bug]
    assert re.search(message, said(kind, bug))
    assert said(kind, bug) != "ok"
