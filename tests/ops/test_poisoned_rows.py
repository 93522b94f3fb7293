"""One example that is not finite touches no other: all other rows keep their bits, in results and in gradients.

Gradients of what all examples share, such as weights, are sums over the batch, and are left out.
"""

import itertools

import loop_cases
import pytest
import torch

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason

BACKENDS = ["reference", *(b for b in ("cpp", "triton") if any(not missing_reason(o, b, "cpu") for o in ops.OPS))]
BAD = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
SHARED = {"attend": {2}}  # the positions of arguments without rows
ROW = 1  # the example that is spoilt


def others(tensor, batch):
    """All rows but the spoilt one."""
    at = tensor.shape.index(batch)
    return torch.cat([tensor.narrow(at, 0, ROW), tensor.narrow(at, ROW + 1, batch - ROW - 1)], at)


def spoilt(tensor, bad, batch):
    """A copy in which one number of one row is bad."""
    copy = tensor.detach().clone()
    row = copy.select(copy.shape.index(batch), ROW)
    row[(0,) * row.ndim] = bad
    return copy.requires_grad_(tensor.requires_grad)


def assert_untouched(found, clean, batch):
    touched = False
    for ours, theirs in zip(found, clean, strict=True):
        assert torch.equal(others(ours, batch), others(theirs, batch))
        touched |= not torch.equal(ours, theirs)
    assert touched, "nothing was spoilt"


def own_rows(op, args):
    """Positions of the floating arguments that have a row per example."""
    floating = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point()]
    return [i for i in floating if i not in SHARED.get(op, ())]


def of_an_op(op, backend, args):
    """Results, and the gradients of all arguments with rows."""
    own = [args[i] for i in own_rows(op, args)]
    with aligndraw.use_backend(backend):
        results = getattr(ops, op)(*args)
        results = results if isinstance(results, tuple) else (results,)
        grads = [torch.arange(1, r.numel() + 1).cos().reshape(r.shape).to(r) for r in results]
        return [r.detach() for r in results] + list(torch.autograd.grad(results, own, grads))


CASES = [
    (op, backend, dtype)
    for op, backend in itertools.product(ops.OPS, BACKENDS)
    for dtype in (torch.float32, torch.float64, torch.bfloat16)
    if backend == "reference" or not missing_reason(op, backend, "cpu")
]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("op", "backend", "dtype"), CASES, ids=str)
def test_of_an_op(op, backend, dtype, bad, make, asking):
    args = make(op, "odd", dtype)
    asking(args)
    batch = len(args[0])
    clean = of_an_op(op, backend, args)
    for i in own_rows(op, args):
        changed = [*args[:i], spoilt(args[i], bad, batch), *args[i + 1 :]]
        assert_untouched(of_an_op(op, backend, changed), clean, batch)


def of_unroll(backend, args):
    """Results of both loops of drawing, and the gradients of image, words, keys and noise."""
    own = [args[i] for i in (0, 2, 3, 5) if args[i] is not None]
    with aligndraw.use_backend(backend):
        results = [r for r in ops.unroll(*args) if r is not None]
        grads = [torch.arange(1, r.numel() + 1).cos().reshape(r.shape).to(r) for r in results]
        found = [r.detach() for r in results] + list(torch.autograd.grad(results, own, grads))
        with torch.no_grad():
            return [*found, *(r for r in ops.unroll_prior(*loop_cases.prior_args(args)) if r is not None)]


FORMS = [(torch.float64, False), (torch.float32, False), (torch.float32, True)]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("dtype", "bf16"), FORMS, ids=["float64", "torch.float32", "bf16"])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_of_the_loops_of_drawing(backend, align, dtype, bf16, bad):
    """With few captions, whose products the threads share, and with enough for rows of each thread's own."""
    batches, sizes = (9, 33), dict(H=20, W=17, T=2, n=19, e=23, z=17)
    if backend == "triton":  # its interpreter is slow
        batches, sizes = (3,), dict(H=5, W=4, T=2, p=2)
    for batch in batches:
        args = loop_cases.make("odd", align, dtype, bf16=bf16, B=batch, **sizes)
        clean = of_unroll(backend, args)
        for i in (0, 2, 3, 5) if align else (0, 2, 5):
            changed = [*args[:i], spoilt(args[i], bad, batch), *args[i + 1 :]]
            assert_untouched(of_unroll(backend, changed), clean, batch)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_of_the_language_model(backend, reverse, dtype, bad):
    for batch in (3,) if backend == "triton" else (5, 33):
        inputs, weight, h0, lengths = loop_cases.make_sequence(batch, 4, dtype=dtype)

        def run(inputs, batch=batch, rest=(weight, h0, lengths)):
            with aligndraw.use_backend(backend):
                states, last = ops.lstm_sequence(inputs, *rest, reverse)
                inside = (torch.arange(states.shape[1]) < rest[2][:, None])[..., None]
                results = torch.where(inside, states, 0), last
                grads = [torch.arange(1, r.numel() + 1).cos().reshape(r.shape).to(r) for r in results]
                return [*(r.detach() for r in results), *torch.autograd.grad(results, [inputs], grads)]

        assert_untouched(run(spoilt(inputs, bad, batch)), run(inputs), batch)
