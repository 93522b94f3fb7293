"""The C++ CPU ops where they have cases of their own: parts of vectors, boxes of pixels, sums over threads."""

import math

import pytest
import torch
from guarded import at_the_end_of_a_page
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason

OPS = ("read", "write", "attend", "latent")

pytestmark = pytest.mark.skipif(any(missing_reason(op, "cpp", "cpu") for op in OPS), reason="the C++ ops are not built")


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def leaves(args):
    return [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]


def run(call, args, seed=0):
    """Results and gradients, for gradients of the results that a seed draws."""
    args = [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]
    for leaf in leaves(args):
        leaf.requires_grad_()
    outputs = as_tuple(call(*args))
    torch.manual_seed(seed)
    grads = [torch.randn(o.shape, dtype=torch.float64).to(o.dtype) for o in outputs]
    return [o.detach() for o in outputs] + list(torch.autograd.grad(outputs, leaves(args), grads))


def both(op, args):
    """Of the C++ op and of the reference."""
    with aligndraw.use_backend("cpp"):
        ours = run(getattr(ops, op), args)
    return ours, run(getattr(ops, f"{op}_reference"), args)


def assert_equal_in_float64(op, args):
    ours, theirs = both(op, args)
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        scale = b.abs().max().item() if b.numel() else 0.0
        # Relative to the largest: what cancels within a result is as inexact in the reference.
        error = (a - b).abs().max().item() if b.numel() else 0.0
        assert error <= 1e-9 * scale + 1e-30, (op, index)


def float64(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# Windows that cover the image, touch an edge of it or miss it, with filters of a thousandth of a pixel up, and
# parameters on their limits, where the gradient still passes, and beyond.
windows = st.tuples(
    st.sampled_from([-9.0, -8.0, -1.1, -0.4, 0.0, 0.7, 1.3, 8.0]),
    st.sampled_from([-8.5, -8.0, -0.9, 0.1, 1.0, 8.0]),
    st.sampled_from([-17.0, -16.0, -6.0, -1.0, 0.5, 3.0, 16.0]),
    st.sampled_from([-16.0, -2.0, -0.5, 0.0, 2.0, 17.0]),
    st.sampled_from([-2.0, 0.0, 0.3, 16.0]),
)
side = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 33, 60])


@settings(max_examples=150, deadline=None)
@given(windows, side, side, st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17]), st.integers(1, 3), st.booleans())
@example((0.3, -0.4, -1.0, -2.0, 0.3), 60, 33, 9, 2, True)
@example((1.3, 0.1, -1.0, -2.0, 0.3), 60, 33, 1, 2, True)  # no tap is above e^-50, and the nearest one makes the result
def test_read_and_write_in_every_shape(window, height, width, size, channels, with_canvas):
    torch.manual_seed(1)
    parameters = torch.tensor([window, (0.1, -0.1, 0.2, -0.3, 0.1)], dtype=torch.float64)
    canvas = float64(2, channels, height, width)
    image = torch.rand_like(canvas)
    assert_equal_in_float64("read", (image, parameters, size, *([canvas] if with_canvas else [])))
    assert_equal_in_float64("write", (float64(2, channels, size, size), parameters, canvas))


# Rows, columns and filters that fill a vector and that leave one, two or nearly all of its lanes.
@pytest.mark.parametrize("height, width, size", [(60, 60, 8), (32, 32, 9), (5, 17, 3), (31, 15, 11), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", ["read", "write"])
def test_nothing_behind_the_arrays_is_read(op, dtype, height, width, size):
    torch.manual_seed(1)
    window = torch.tensor([(0.0, 0.0, 1.0, 0.0, 0.2), (0.9, 0.9, -1.0, -1.0, 0.2)], dtype=dtype)
    canvas = torch.randn(2, 2, height, width, dtype=dtype)
    patch = torch.randn(2, 4 if op == "read" else 2, size, size, dtype=dtype)
    kernels = torch.ops.aligndraw
    if op == "read":
        image = torch.rand_like(canvas)
        calls = [(kernels.read, (image, window, size, canvas))]
        calls.append((kernels.read_backward, (patch, image, window, size, canvas, True)))
    else:
        calls = [(kernels.write, (patch, window, canvas)), (kernels.write_backward, (canvas, patch, window))]
    for call, args in calls:
        guarded = as_tuple(call(*map(at_the_end_of_a_page, args)))
        for found, expected in zip(guarded, as_tuple(call(*args)), strict=True):
            assert torch.equal(found, expected) and not found.isnan().any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 4), st.integers(1, 20), st.integers(0, 70), st.integers(0, 40))
def test_attend_and_latent_in_every_shape(batch, words, units, width):
    torch.manual_seed(1)
    lengths = torch.randint(-1, words + 3, (batch,))
    attend = float64(batch, units), float64(batch, words, units), float64(units), float64(batch, words, width)
    assert_equal_in_float64("attend", (*attend, lengths))
    assert_equal_in_float64("latent", tuple(float64(batch, units) for _ in range(5)))


# On an 8 x 9 image these filters underflow to 0 in most pixels, in all of them, and nowhere.
SHARP = (-0.5, 0.5, -4.0, -1.5, 0.2)
MISSING = (6.0, 0.0, -4.0, -1.5, 0.2)
BROAD = (0.0, 0.0, 3.0, 0.0, 0.2)


@pytest.mark.parametrize("window", [SHARP, MISSING, BROAD])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("op", ["read", "write"])
def test_what_is_not_finite_shows_wherever_it_stands(op, value, window):
    """0 times it is not a number: the pixels that a window does not touch cannot be left out then."""
    torch.manual_seed(1)
    parameters = torch.tensor([window], dtype=torch.float32)
    canvas, patch = torch.randn(1, 1, 8, 9), torch.randn(1, 1, 3, 3)
    args = (torch.rand_like(canvas), parameters, 3, canvas) if op == "read" else (patch, parameters, canvas)
    for argument in (0, 1, 3) if op == "read" else (0, 1, 2):
        for place in (0, -1):
            broken = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
            broken[argument].view(-1)[place] = value
            for ours, theirs in zip(*both(op, broken), strict=True):
                assert torch.equal(ours.isfinite(), theirs.isfinite()), (argument, place)


@pytest.mark.parametrize("place", ["image", "patch"])
def test_gradients_that_are_not_finite_show_too(place):
    torch.manual_seed(1)
    window = torch.tensor([SHARP]).requires_grad_()
    image = torch.rand(1, 1, 8, 9, requires_grad=True)
    patch = torch.rand(1, 1, 3, 3, requires_grad=True)
    found = []
    for read, write in [(ops.read, ops.write), (ops.read_reference, ops.write_reference)]:
        result = read(image, window, 3) if place == "patch" else write(patch, window, image)
        grad = torch.ones_like(result)
        grad[0, 0, 0, 0] = math.nan
        found.append(torch.autograd.grad(result, (image if place == "patch" else patch, window), grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours.isnan(), theirs.isnan()) and ours.isnan().any()


def test_words_beyond_a_caption_cannot_show():
    query, keys, score, values = torch.randn(2, 5), torch.randn(2, 4, 5), torch.randn(5), torch.randn(2, 4, 3)
    keys[:, 2:], values[:, 2:] = math.nan, math.nan
    for result in run(ops.attend, (query, keys, score, values, torch.tensor([2, 1])))[:2]:
        assert result.isfinite().all()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def large(op):
    torch.manual_seed(2)
    batch = 37
    if op == "attend":
        keys = torch.randn(batch, 6, 64)
        return keys[:, 0], keys, torch.randn(64), torch.randn(batch, 6, 16), torch.randint(1, 7, (batch,))
    if op == "latent":
        return tuple(torch.randn(batch, 150) for _ in range(5))
    window, canvas = torch.randn(batch, 5) * 0.5, torch.randn(batch, 2, 28, 30)
    if op == "read":
        return torch.rand_like(canvas), window, 5, canvas
    return torch.randn(batch, 2, 5, 5), window, canvas


@pytest.mark.parametrize("op", OPS)
def test_the_same_bits_every_time_on_any_number_of_threads(op, threads):
    args = large(op)
    with aligndraw.use_backend("cpp"):
        first = run(getattr(ops, op), args)
        for count in [1, 2, 3, *[4] * 97]:
            threads(count)
            for a, b in zip(run(getattr(ops, op), args), first, strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("op", OPS)
def test_mixed_dtypes(op):
    """Each argument in another precision: the arithmetic is float32, gradients have their arguments' dtypes."""
    kinds = (torch.bfloat16, torch.float16, torch.float32)
    args = list(large(op))
    floating = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point()]
    for number, i in enumerate(floating):
        args[i] = args[i].to(kinds[number % 3])
    ours, theirs = both(op, args)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2 * torch.finfo(a.dtype).eps, atol=1e-4 * b.abs().max().item())


def test_only_the_gradients_that_are_wanted():
    image, window = torch.rand(2, 1, 6, 7), torch.zeros(2, 5)
    grad = torch.ones(2, 1, 3, 3)
    found = torch.ops.aligndraw.read_backward(grad, image, window, 3, None, False)
    assert [g.numel() for g in found] == [0, 10, 0]


def test_subnormal_numbers_are_only_flushed_inside(threads):
    threads(1)
    ops.write(torch.ones(1, 1, 2, 2), torch.zeros(1, 5), torch.zeros(1, 1, 4, 4))
    assert (torch.tensor([1e-40]) * 0.5).item() > 0


@pytest.mark.parametrize(
    ("op", "change", "message"),
    [
        ("read", lambda g, *a: (g[:, :1], *a, 5), r"read_backward: grad must have shape \[B, 2C, p, p\] = .* got"),
        ("write", lambda g, *a: (g[:, 1:], *a), r"write_backward: patch must have shape .* got \[37, 2, 5, 5\]"),
        ("latent", lambda g, *a: (g[:, 1:], *a), r"latent_backward: grad_z must have shape .* got \[37, 149\]"),
        ("attend", lambda g, *a: (g.double(), *a), r"attend_backward: .* float64"),
    ],
)
def test_errors_of_the_gradients(op, change, message):
    args = large(op)
    outputs = as_tuple(getattr(ops, op)(*args))
    extra = {"read": [True], "attend": [outputs[-1]]}.get(op, [])
    given_args = args[:2] if op == "write" else args
    first, *rest = (*outputs, *given_args, *extra)
    backward = getattr(torch.ops.aligndraw, f"{op}_backward")
    with pytest.raises(RuntimeError, match=message):
        backward(*change(first, *rest)[: len(rest) + 1])
