"""Several processes share a training: 1, 2 and 4 of them follow one curve."""

from pathlib import Path

import pytest
import torch
from shared_trainings import CASES, print_threads_left, result_of, save_results
from torch_processes import run_together

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}  # relative to the norm


@pytest.fixture(scope="module", params=[2, 4])
def shared(request, tmp_path_factory):
    """A function that returns a case's results in each process."""
    folder = tmp_path_factory.mktemp("shared")
    ended = run_together(request.param, save_results, folder, folder=folder / "printed")
    assert ended == [(0, "", "")] * request.param
    return lambda name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_curves_are_those_of_one_process(shared, name):
    expected, results = result_of(name), shared(name)
    for result in results[1:]:  # every process holds the same, to the bit
        assert result.keys() == results[0].keys()
        assert all(torch.equal(result[key], results[0][key]) for key in result)
    assert results[0].keys() == expected.keys()
    tolerance = TOLERANCE[CASES[name]]
    for kind in {key.partition("/")[0] for key in expected}:
        names = [key for key in expected if key.startswith(kind)]
        ours, theirs = (torch.cat([r[key].double().flatten() for key in names]) for r in (results[0], expected))
        assert theirs.norm() > 0, kind
        assert (ours - theirs).norm() <= tolerance * theirs.norm(), kind
    if tolerance < 1e-6:
        for key in (key for key in expected if key.startswith("gradient/")):
            assert (results[0][key] - expected[key]).norm() <= tolerance * expected[key].norm(), key


def test_the_cases_are_what_they_say():
    """The table of words has a sparse gradient in one of them, and each case moves the parameters."""
    result = result_of("sparse")
    assert any(key.endswith("words/late") for key in result)
    assert not any(key.endswith("words/late") for key in result_of("global-clip"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the names of threads are read in /proc")
def test_no_thread_outlives_the_training(tmp_path):
    """One that does may meet an interpreter that is ending, and aborts a process that has done all its work."""
    for status, out, err in run_together(2, print_threads_left, folder=tmp_path):
        during, after = out.splitlines()
        assert (status, err, after) == (0, "", "[]") and "gloo_tcp_loop" in during
