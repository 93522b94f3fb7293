"""The Triton kernels of lstm_gates in Triton's interpreter, and the functions that all kernels share.

The interpreter must be chosen before Triton is imported: the test runs this file as a program of its own.
"""

import os
import subprocess
import sys

import torch

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def test_in_the_interpreter(triton_interpreter):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON", "ALIGNDRAW"))}
    command, environment = [sys.executable, __file__], {**clean, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- what runs in the other process ----


def with_gradients(gates, c, grad_h, grad_c, dtype):
    """h, c', grad_gates, grad_c_prev of the reference, calculated in `dtype`."""
    from aligndraw.ops.lstm import lstm_gates_reference

    gates, c = (t.to(dtype or t.dtype, copy=True).requires_grad_() for t in (gates, c))
    h, c_next = lstm_gates_reference(gates, c)
    torch.autograd.backward([h, c_next], [grad_h.to(h.dtype), grad_c.to(c_next.dtype)])
    return h.detach(), c_next.detach(), gates.grad, c.grad


def check_numbers():
    """Within twice the largest error that the reference makes in the same dtypes, against float64."""
    from aligndraw.kernels import lstm

    torch.manual_seed(0)
    for gates_dtype, c_dtype in [(F32, F32), (F64, F64), (BF16, F32), (F16, F16)]:
        errors = [[], [], [], []]  # of each result, by case: ours and the reference's
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
            for found, x, y, z in zip(errors, got, true, reference, strict=True):
                assert x.shape == y.shape and x.dtype == z.dtype
                if x.numel():
                    scale = max(1.0, y.abs().max().item())
                    found.append([((t.double() - y).abs().max() / scale).item() for t in (x, z)])
        for found, dtype in zip(errors, (gates_dtype, c_dtype, gates_dtype, c_dtype), strict=True):
            ours, theirs = (max(each) for each in zip(*found))
            assert ours <= 2 * theirs + torch.finfo(dtype).eps, (dtype, ours, theirs)


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


def check_exp():
    """latent's z is e^x of log_sigma_q for mu_q = 0 and noise = 1."""
    from aligndraw.kernels import latent

    def exp(x):
        zero = torch.zeros(1, len(x))
        return latent.latent(zero, x[None], zero, zero, zero + 1)[0][0]

    x = torch.cat([torch.linspace(-86, 88.7, 4096), torch.tensor([0.0, 1e-20, -1e-20])])
    true = x.double().exp()
    assert ((exp(x) - true) / true).abs().max() < 2 * torch.finfo(F32).eps
    infinity = float("inf")
    assert exp(torch.tensor([0.0, -infinity, -1e4, infinity, 89.0])).tolist() == [1.0, 0.0, 0.0, infinity, infinity]
    assert exp(torch.tensor([float("nan")])).isnan().all()


if __name__ == "__main__":
    check_numbers()
    check_tanh()
    check_exp()
