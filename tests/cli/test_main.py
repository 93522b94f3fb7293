"""aligndraw itself: help, version, and the page of information."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import aligndraw
from aligndraw import backends, info
from aligndraw.ops import LOOPS, OPS

PACKAGE = Path(aligndraw.__file__).parent


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help(command, arguments):
    try:
        status, out, err = command(*arguments)
    except SystemExit as end:
        status = end.code
    assert (status, err) == (0, "")
    for name in ("sample", "train", "eval", "info"):
        assert re.search(rf"^ +{name} +\w", out, re.MULTILINE)


def test_version(command):
    assert command("--version") == (0, f"aligndraw {aligndraw.__version__}\n", "")


@pytest.mark.parametrize("module", ["aligndraw.info", "aligndraw info"])
def test_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", *module.split()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"aligndraw  {aligndraw.__version__} in ")


def table(text):
    """The rows of the table of ops, and the notes below it."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("op "))
    rows = [re.split(r"  +", line) for line in lines[start : start + 1 + len(OPS) + len(LOOPS)]]
    notes = dict(re.findall(r"^\[(\d+)\] (.*)$", text, re.MULTILINE))
    return [dict(zip(rows[0], row)) for row in rows[1:]], notes


def test_facts(command):
    _, out, _ = command("info")
    for version in (torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability()):
        assert version in out
    assert f"{torch.get_num_threads()} threads" in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_every_op_and_backend(command):
    """`yes` exactly where the backend runs, a reason anywhere else, and what a call takes."""
    rows, notes = table(command("info")[1])
    assert [row["op"] for row in rows] == [*OPS, *LOOPS]
    for row in rows:
        assert row["reference"] == "yes"
        assert row["chosen on cpu"] == backends.backend_for(row["op"], "cpu")
        for backend in backends.BACKENDS:
            devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
            reasons = [backends.missing_reason(row["op"], backend, device) for device in devices]
            if "" in reasons:
                assert row[backend] == "yes"
            else:
                reason = notes[re.fullmatch(r"no \[(\d+)\]", row[backend])[1]]
                assert reason.startswith(f"{backend}: ") and len(reason) > len(backend) + 2


def test_the_reason_of_an_absence(monkeypatch):
    monkeypatch.setattr(backends, "_library_reason", "the library was eaten by mice")
    monkeypatch.setattr(backends, "_choices", {})
    rows, notes = table(info.page())
    for row in rows:
        assert notes[row["cpp"][4:-1]] == "cpp: the library was eaten by mice"
        assert row["chosen on cpu"] == "reference"
    assert len(notes) == len(set(notes.values()))


def test_cuda_ops_without_a_gpu(monkeypatch):
    monkeypatch.setattr(info, "missing_reason", lambda op, backend, device: "")
    monkeypatch.setattr(info, "no_cuda_reason", lambda: "no GPU in sight")
    rows, notes = table(info.page())
    assert all(notes[row["cuda"][4:-1]] == "cuda: no GPU in sight" for row in rows)
    assert {row[backend] for row in rows for backend in ("reference", "cpp", "triton")} == {"yes"}


def test_a_forced_backend(monkeypatch):
    with aligndraw.use_backend("reference"):
        rows, _ = table(info.page())
        assert {row["chosen on cpu"] for row in rows} == {"reference"}
    with aligndraw.use_backend("cuda"):
        rows, notes = table(info.page())
        for row in rows:
            reason = notes[re.fullmatch(r"none \[(\d+)\]", row["chosen on cpu"])[1]]
            assert reason.startswith(f"{row['op']}: backend 'cuda' was asked for and cannot run on cpu")


def test_environment(monkeypatch):
    monkeypatch.setenv("ALIGNDRAW_CUDA_ARCHS", "90")
    monkeypatch.setenv("ALIGNDRAW_BAKEND", "cpp")
    lines = [re.split(r"  +", line) for line in info.page().splitlines()]
    variables = {line[0]: line[1:] for line in lines if line[0].startswith("ALIGNDRAW_")}
    assert variables["ALIGNDRAW_CUDA_ARCHS"][0] == "90"
    assert variables["ALIGNDRAW_BAKEND"] == ["cpp", "means nothing to aligndraw"]
    assert set(variables) == {*info.ENVIRONMENT, "ALIGNDRAW_BAKEND"}
    assert variables["ALIGNDRAW_BUILD_CPP"][0] == os.environ.get("ALIGNDRAW_BUILD_CPP", "not set")


def test_every_variable_that_is_read_is_on_the_page():
    root = Path(__file__).parents[2]
    sources = [
        *PACKAGE.rglob("*.py"),
        *(root / "build_backend").glob("*.py"),
        *(root / "kernels").glob("*.py"),
    ]
    found = {name for path in sources for name in re.findall(r"\bALIGNDRAW_[A-Z_]*[A-Z]\b", path.read_text())}
    defined = {"ALIGNDRAW_CUDA", "ALIGNDRAW_BUILD"}  # a macro of the C++ compiler; the start of two variables
    assert found - defined == set(info.ENVIRONMENT)
