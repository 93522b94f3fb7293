"""Numbers that are not finite in one of two processes: both stop, or skip the batch, by one decision."""

import json
import re

import pytest
import torch
from shared_trainings import CASES, made, state_of
from spoiled_trainings import BAD, PARAMETER, SPOILED, fit_spoiled
from torch_processes import run_together

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}  # relative to the norm


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    ended = run_together(2, fit_spoiled, folder, folder=folder / "printed")
    assert ended == [(0, "", "")] * 2
    return folder


def loaded(folder, name, skips):
    return [torch.load(folder / f"{name}-{skips}-{rank}.pt") for rank in range(2)]


def results(folder, name, skips):
    found = loaded(folder, name, skips)
    first, second = (each["state"] for each in found)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    return found


def assert_same(state, expected, dtype):
    assert state.keys() == expected.keys()
    for kind in {key.partition("/")[0] for key in expected}:
        ours, theirs = (torch.cat([s[k].double().flatten() for k in expected if k.startswith(kind)])
                        for s in (state, expected))  # fmt: skip
        assert (ours - theirs).norm() <= TOLERANCE[dtype] * theirs.norm(), kind


def message(name, batch):
    what = "loss" if name in ("noise", "sharpener-loss") else "gradient( of the discriminator)?"
    fault = rf"the {what} of update {BAD + 1} is not finite \([^()]+\) on {batch}, in process 1"
    return f"{fault}: lower (learning|discriminator)_rate"


@pytest.mark.parametrize("name", SPOILED)
def test_both_stop_with_the_same_line(fitted, name):
    """It names the process. Both keep the parameters of the update before."""
    training, _, batch = SPOILED[name]
    first, second = results(fitted, name, 0)
    place = re.escape(str(fitted / f"{name}-0" / "checkpoints" / f"update-{BAD:08d}"))
    assert re.fullmatch(f"{message(name, batch)}; the last good checkpoint is {place}", first["error"]), first["error"]
    assert second["error"] == first["error"] and first["index"] == second["index"] == BAD
    wanted = made(training)
    while wanted.index < BAD:
        wanted.update()
    assert_same(first["state"], state_of(wanted), CASES[training])


@pytest.mark.parametrize("name", SPOILED)
def test_both_skip_the_batch(fitted, name):
    """They end as one process that has never heard of the batch; the first alone tells."""
    training, _, batch = SPOILED[name]
    first, second = results(fitted, name, 1)
    assert first["error"] == second["error"] == ""
    (skipped,) = first["skipped"]
    assert re.fullmatch(message(name, batch), skipped) and second["skipped"] == []
    wanted = made(training)
    while wanted.index < wanted.total:
        if wanted.index == BAD:
            wanted.index, wanted._next_batch = BAD + 1, None
        wanted.update()
    assert first["index"] == second["index"] == wanted.total
    assert_same(first["state"], state_of(wanted), CASES[training])
    lines = [json.loads(line) for line in (fitted / f"{name}-1" / "metrics.jsonl").open()]
    assert [line["update"] for line in lines] == list(range(1, wanted.total + 1))
    assert [line for line in lines if "skipped" in line] == [{"update": BAD + 1, "skipped": 1}]


@pytest.mark.parametrize("skips", [0, 1])
def test_a_parameter_of_one_process_ends_both(fitted, skips):
    """Before a checkpoint keeps it."""
    place = fitted / f"{PARAMETER}-{skips}" / "checkpoints" / f"update-{BAD:08d}"
    line = f"a parameter is not finite after update {BAD + 1}: lower learning_rate; the last good checkpoint is {place}"
    assert [found["error"] for found in loaded(fitted, PARAMETER, skips)] == [line] * 2
    assert list(place.parent.iterdir()) == [place]
