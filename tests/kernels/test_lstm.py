"""The Triton kernels of lstm_gates: their numbers in Triton's interpreter, their code for GPUs.

The interpreter must be chosen before Triton is imported, and code for GPUs cannot be compiled under
it: each test runs this file as a program of its own.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def run(function: str, **environment: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON", "ALIGNDRAW"))}
    command = [sys.executable, __file__, function]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_in_the_interpreter():
    run("check_in_the_interpreter", TRITON_INTERPRET="1")


def test_compiles_ahead_of_time_without_spills():
    run("check_ahead_of_time")


# ---- what runs in the other process ----


def check_in_the_interpreter():
    check_numbers()
    check_tanh()


def with_gradients(gates, c, grad_h, grad_c, dtype):
    """h, c', grad_gates, grad_c_prev of the reference, calculated in `dtype`."""
    from aligndraw.ops.lstm import lstm_gates_reference

    gates, c = (t.to(dtype or t.dtype, copy=True).requires_grad_() for t in (gates, c))
    h, c_next = lstm_gates_reference(gates, c)
    torch.autograd.backward([h, c_next], [grad_h.to(h.dtype), grad_c.to(c_next.dtype)])
    return h.detach(), c_next.detach(), gates.grad, c.grad


def check_numbers():
    """Within twice the error that the reference makes in the same dtypes, against float64."""
    from aligndraw.kernels import lstm

    torch.manual_seed(0)
    for gates_dtype, c_dtype in [(F32, F32), (F64, F64), (BF16, F32), (F16, F16)]:
        for batch, units in [(3, 5), (2, 300), (0, 4), (3, 0), (1, 1)]:
            gates = (4 * torch.randn(4 * units, batch)).to(gates_dtype).t()  # not contiguous
            c = torch.randn(batch, units).to(c_dtype)
            grad_h, grad_c = (
                torch.randn(batch, units).to(gates_dtype),
                torch.randn(batch, units).to(c_dtype),
            )
            got = (*lstm.lstm_gates(gates, c), *lstm.lstm_gates_backward(grad_h, grad_c, gates, c))
            true = with_gradients(gates, c, grad_h, grad_c, F64)
            reference = with_gradients(gates, c, grad_h, grad_c, None)
            for x, y, z in zip(got, true, reference, strict=True):
                assert x.shape == y.shape and x.dtype == z.dtype
                if x.numel():
                    error, reference_error = ((t.double() - y).abs().max() for t in (x, z))
                    assert error <= 2 * reference_error + torch.finfo(x.dtype).eps * max(
                        1, y.abs().max()
                    ), (x.dtype, error)


def check_tanh():
    """With c = 0 and the input gate open, c' is tanh g: of relative accuracy for tiny g too."""
    from aligndraw.kernels import lstm

    def tanh(g):
        zero = torch.zeros(1, len(g))
        return lstm.lstm_gates(torch.cat([zero + 100, zero, g[None], zero], 1), zero)[1][0]

    g = torch.logspace(-37, 2, 2048, base=10.0)
    g = torch.cat([g, -g])
    true = g.double().tanh()
    assert ((tanh(g) - true) / true).abs().max() < 4 * torch.finfo(F32).eps
    infinity = float("inf")
    assert tanh(torch.tensor([0.0, infinity, -infinity])).tolist() == [0.0, 1.0, -1.0]
    assert tanh(torch.tensor([float("nan")])).isnan().all()


def check_ahead_of_time():
    import triton
    from aligndraw.kernels import lstm
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    for arch in (80, 90):
        for gates, c in [
            ("*fp32", "*fp32"),
            ("*bf16", "*fp32"),
            ("*fp16", "*fp16"),
            ("*fp64", "*fp64"),
        ]:
            forward = dict(gates=gates, c=c, h=gates, c_next=c)
            backward = dict(
                grad_h=gates, grad_c=c, gates=gates, c=c, grad_gates=gates, grad_c_prev=c
            )
            for kernel, pointers in [
                (lstm.forward_kernel, forward),
                (lstm.backward_kernel, backward),
            ]:
                source = ASTSource(
                    fn=kernel,
                    signature={**pointers, "n": "i32", "BLOCK": "constexpr"},
                    constexprs={"BLOCK": lstm.BLOCK},
                    attrs={(k,): [["tt.divisibility", 16]] for k in range(len(pointers) + 1)},
                )
                compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32))
                with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
                    cubin.write(compiled.asm["cubin"])
                    cubin.flush()
                    usage = subprocess.run(
                        [cuobjdump, "--dump-resource-usage", cubin.name],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout
                stack, local, registers = (
                    int(re.findall(rf"{k}:(\d+)", usage)[0]) for k in ("STACK", "LOCAL", "REG")
                )
                assert stack == local == 0, f"{kernel.__name__} spills on sm_{arch}: {usage}"
                assert registers <= 64, (
                    f"{kernel.__name__} takes {registers} registers on sm_{arch}"
                )
                if gates == "*fp32":
                    assert "ld.global.v2" in compiled.asm["ptx"], (
                        f"{kernel.__name__} loads one number at a time"
                    )


if __name__ == "__main__":
    globals()[sys.argv[1]]()
