"""The loops that are made of Triton's kernels, against the reference: `test_triton.py` runs this where Triton's
interpreter serves CPU tensors."""

import loop_cases
import pytest
import torch

import aligndraw
from aligndraw import ops


def weighed(function, args):
    """Results, and the gradients of those for numbers that depend on their shapes alone."""
    results = [r for r in function(*args) if r is not None]
    grads = [torch.arange(1, r.numel() + 1).cos().reshape(r.shape).to(r) for r in results]
    return [*results, *torch.autograd.grad(results, loop_cases.leaves(args), grads)]


def drawn_by(backend, args, rounds=False):
    """Of `unroll` and of `unroll_prior`, under autocast where it `rounds`."""
    with aligndraw.use_backend(backend):
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            found = weighed(ops.unroll, args)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            return [*found, *(r for r in ops.unroll_prior(*loop_cases.prior_args(args)) if r is not None)]


def assert_near(found, truth, bound):
    for ours, theirs in zip(found, truth, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert loop_cases.error(ours, theirs) < bound


@pytest.mark.parametrize("options", [{}, {"tints": 2}, {"tints": 1, "opacity": True}])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("shape", ["odd", "one", "none"])
def test_equals_the_steps(shape, align, options):
    args = loop_cases.make(shape, align, **options)
    assert_near(drawn_by("triton", args), drawn_by("reference", args), 1e-11)


def test_autocast_does_not_reach_into_a_loop():
    args = loop_cases.make("one", dtype=torch.float32)
    assert_near(drawn_by("triton", args, rounds=True), drawn_by("triton", args), 1e-30)


def test_rounded_products_are_those_of_the_reference():
    args = loop_cases.make("one", dtype=torch.float32, bf16=True)
    found, truth = drawn_by("triton", args), drawn_by("reference", args)
    assert_near(found, truth, 0.05)
    assert (
        loop_cases.error(found[1], drawn_by("triton", loop_cases.rounding(args, False))[1]) > 1e-4
    )  # the KLs: they are rounded


@pytest.mark.parametrize("reverse", [True, False])
def test_reads_captions_as_the_reference(reverse):
    args = [*loop_cases.make_sequence(), reverse]
    found = {}
    for backend in ("triton", "reference"):
        with aligndraw.use_backend(backend):
            states, last = ops.lstm_sequence(*args)
            inside = (torch.arange(states.shape[1]) < args[3][:, None])[..., None]
            found[backend] = weighed(lambda *_: (states * inside, last), args)  # noqa: B023
    assert_near(found["triton"], found["reference"], 1e-11)
