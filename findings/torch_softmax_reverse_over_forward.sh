#!/usr/bin/env bash
# torch.autograd.grad refuses the tangent of softmax, log_softmax and logsumexp of a dual tensor; torch.func differentiates it.
#
# Guess: reverse over forward gives the same second derivative by forward_ad with autograd.grad as by torch.func.grad of jvp.
# Behaviour of torch 2.13.0: for these three functions autograd.grad raises "modified by an inplace operation", although
# the caller changed nothing in place. torch.func gives the derivative. tanh works both ways.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
import torch.autograd.forward_ad as forward_ad
from torch.func import grad, jvp

torch.manual_seed(0)
x, tangent = torch.randn(2, 3, 4, dtype=torch.float64)
functions = {
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "tanh": torch.tanh,
}


def by_func(function):
    return grad(lambda x: jvp(function, (x,), (tangent,))[1].square().sum())(x)


def by_dual(function):
    primal = x.clone().requires_grad_()
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(function(forward_ad.make_dual(primal, tangent))).tangent
        return torch.autograd.grad(out.square().sum(), primal)[0]


def by_differences(function, step=1e-6):
    wanted = torch.zeros_like(x)
    for i in range(x.numel()):
        move = torch.zeros_like(x)
        move.view(-1)[i] = step
        ahead, behind = (jvp(function, (x + m,), (tangent,))[1].square().sum() for m in (move, -move))
        wanted.view(-1)[i] = (ahead - behind) / (2 * step)
    return wanted


print("torch", torch.__version__)
for name, function in functions.items():
    torch.testing.assert_close(by_func(function), by_differences(function), rtol=1e-6, atol=1e-8)
    try:
        torch.testing.assert_close(by_dual(function), by_func(function))
        outcome = "the same derivative"
    except RuntimeError as error:
        outcome = f"RuntimeError: {error}"
    print(f"{name}: torch.func is right; dual tensors give {outcome}")
    raised = "modified by an inplace operation" in outcome
    assert raised == (name != "tanh"), f"{name} changed"
PY
