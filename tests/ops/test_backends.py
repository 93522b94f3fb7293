"""Which backend serves an op, and what happens when one is forced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import aligndraw
from aligndraw import backends, ops
from aligndraw.ops._autograd import plain


def test_reference_serves_everything(op):
    for device in ("cpu", "cuda", "mps"):
        assert backends.missing_reason(op, "reference", device) == ""
    assert backends.backend_for(op, "mps") == "reference"


def test_every_absence_has_a_reason(op):
    for backend in backends.BACKENDS:
        for device in ("cpu", "cuda"):
            reason = backends.missing_reason(op, backend, device)
            if not reason:
                with aligndraw.use_backend(backend):
                    assert backends.backend_for(op, device) == backend
            else:
                with (
                    aligndraw.use_backend(backend),
                    pytest.raises(RuntimeError, match="was asked for") as told,
                ):
                    backends.backend_for(op, device)
                assert reason in str(told.value)


def has_kernel(namespace, name, key):
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"{namespace}::{name}", key)


def test_every_op_has_every_form(op):
    """Forward and backward: a reference, C++, CUDA and Triton."""
    registered = (Path(__file__).parents[2] / "csrc/register.cpp").read_text()
    assert callable(getattr(ops, f"{op}_reference"))
    for name in (op, f"{op}_backward"):
        for device in ("cpu", "cuda"):
            assert f'ops.impl("{name}", TORCH_BOX(&{device}::{name}));' in registered
        assert has_kernel("aligndraw_triton", name, "CUDA")


@pytest.mark.parametrize("loop", ops.LOOPS)
def test_every_loop_has_a_form_for_every_backend(loop):
    """C++ for the CPU; on a GPU, the loop made of the other ops' kernels."""
    registered = (Path(__file__).parents[2] / "csrc/register.cpp").read_text()
    for name in (loop, f"{loop}_backward")[: 1 if loop == "unroll_prior" else 2]:
        assert f'ops.impl("{name}", TORCH_BOX(&cpu::{name}));' in registered
        assert has_kernel("aligndraw", name, "CUDA") and has_kernel("aligndraw_triton", name, "CUDA")


def test_what_a_loop_is_made_of_knows_no_autocast(monkeypatch):
    """Its own argument says what is rounded."""
    seen = []
    monkeypatch.setattr(torch, "addmm", lambda *args: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        plain(lambda *args: torch.addmm(*args), *torch.ones(3, 1, 1))
    assert seen == [False]


def test_the_context_ends(make):
    with aligndraw.use_backend("reference"):
        with aligndraw.use_backend("cuda"):
            with pytest.raises(RuntimeError, match="lstm_gates: backend 'cuda' was asked for and cannot run on cpu"):
                ops.lstm_gates(*make("lstm_gates"))
        assert backends.backend_for("lstm_gates", "cpu") == "reference"
    ops.lstm_gates(*make("lstm_gates"))


def test_unknown_backend():
    with pytest.raises(ValueError, match="no backend 'fast'; there are reference, cpp, cuda, triton"):
        with aligndraw.use_backend("fast"):
            pass


def chosen_with(value, folder):
    code = "from aligndraw import backends, ops; print(backends.backend_for('lstm_gates', 'cpu'))"
    environment = {**os.environ, "ALIGNDRAW_BACKEND": value}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=folder)


def test_environment_variable(tmp_path):
    assert chosen_with("reference", tmp_path).stdout.strip() == "reference"
    wrong = chosen_with("fast", tmp_path).stderr.strip().splitlines()[-1]
    assert wrong.endswith("ALIGNDRAW_BACKEND must be one of reference, cpp, cuda, triton, got 'fast'")


def test_compiled_code_follows_the_context(make):
    """The choice is made anew when the forced backend changes, not frozen at the first compilation."""
    args = make("write")
    compiled = torch.compile(ops.write, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*args), ops.write(*args))
    with aligndraw.use_backend("cuda"), pytest.raises(RuntimeError, match="backend 'cuda' was asked for"):
        compiled(*args)
    with aligndraw.use_backend("reference"):
        torch.testing.assert_close(compiled(*args), ops.write(*args))
