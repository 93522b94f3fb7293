"""What holds for every op: PyTorch's own checks, gradients, and backends that agree with the reference."""

import importlib
import itertools

import pytest
import torch

import aligndraw
from aligndraw import ops
from aligndraw.backends import NAMESPACES, missing_reason, use_backend

KERNELS = [b for b in ("cpp", "triton") if any(not missing_reason(o, b, "cpu") for o in ops.OPS)]


def function(op):
    return getattr(ops, op)


def reference(op):
    return getattr(ops, f"{op}_reference")


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("shape", ["odd", "one"])
def test_gradcheck_of_the_reference(op, shape, make, asking):
    args = make(op, shape)
    asking(args)
    assert torch.autograd.gradcheck(lambda *a: reference(op)(*a), args)


@pytest.mark.parametrize("shape", ["odd", "one"])
def test_gradcheck_of_the_op(op, shape, make, asking):
    args = make(op, shape)
    asking(args)
    assert torch.autograd.gradcheck(getattr(torch.ops.aligndraw, op).default, args)
    assert torch.autograd.gradcheck(function(op), args)


@pytest.mark.parametrize("shape", ["odd", "one", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(op, shape, dtype, make, asking):
    args = make(op, shape, dtype)
    torch.library.opcheck(getattr(torch.ops.aligndraw, op).default, args)
    asking(args)
    torch.library.opcheck(getattr(torch.ops.aligndraw, op).default, args)


def plain_arguments(op):
    torch.manual_seed(0)
    p, m, g = torch.rand(3, 5, 4).unbind()
    return {
        "muon_": ([p], [m], [g], 0.95, [0.1], 0),
        "product": (p, m, True, 0),
        "rmsprop_": ([p], [m], [g], torch.ones(1), 0.1, 0.9, 1e-6),
    }[op]


@pytest.mark.parametrize("op", ops.PLAIN_OPS)
def test_opcheck_of_ops_without_derivatives(op):
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.aligndraw, op).default, plain_arguments(op), test_utils=checks)


@pytest.mark.parametrize("op", ops.PLAIN_OPS)
def test_ops_without_derivatives_equal_their_references(op):
    if reason := missing_reason(op, "cpp", "cpu"):
        pytest.skip(reason)
    reference = importlib.import_module(f"aligndraw.ops.{op.rstrip('_')}")._op.reference
    ours, theirs = plain_arguments(op), plain_arguments(op)
    results = getattr(torch.ops.aligndraw, op)(*ours), reference(*theirs)
    bound = {"rtol": 2e-2, "atol": 2e-3} if op == "muon_" else {"rtol": 1e-5, "atol": 1e-6}  # its products are bfloat16
    torch.testing.assert_close([results[0], ours], [results[1], theirs], **bound)


def served(backends):
    return [(op, b) for op in ops.OPS for b in backends if not missing_reason(op, b, "cpu")]


@pytest.mark.parametrize(("op", "backend"), served(["reference", *KERNELS]))
def test_autocast_does_not_reach_into_an_op(op, backend, make, asking):
    """The products of the reference were rounded to bfloat16."""
    args = make(op, dtype=torch.float32)
    leaves = asking(args)
    found = []
    for rounds in (False, True):
        with aligndraw.use_backend(backend), torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            results = as_tuple(function(op)(*args))
        found.append([*results, *torch.autograd.grad([r.sum() for r in results], leaves)])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def kinds(op):
    """Shape, window and dtype of each case of an op."""
    windows = ("initial", "trained", "off_image", "clamped") if op in ("read", "write") else ("none",)
    small = itertools.product(
        ("odd", "one", "none"), windows, (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    )
    return [*small, *itertools.product(("large",), ("trained",), (torch.float32, torch.float64))]


CASES = [
    (op, backend, *kind)
    for op in ops.OPS
    for backend in KERNELS
    if not missing_reason(op, backend, "cpu")
    for kind in kinds(op)
]


@pytest.mark.parametrize(("op", "backend", "shape", "window", "dtype"), CASES)
def test_backend_is_as_exact_as_the_reference(op, backend, shape, window, dtype, make, as_exact):
    as_exact(op, backend, make(op, shape, dtype, window))


@pytest.mark.parametrize(("op", "backend"), served(["reference", *KERNELS]))
def test_strides_do_not_matter(op, backend, make, evaluate):
    args = make(op)
    strided = tuple(a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 1 else a for a in args)
    assert not strided[0].is_contiguous()
    with aligndraw.use_backend(backend):
        plain, other = (evaluate(function(op), x) for x in (args, strided))
    for a, b in zip(plain, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", [b for o, b in served(KERNELS) if o == "read"])
def test_read_alone(backend, make):
    """Without a canvas, and without a gradient of the image."""
    image, window, size, _ = make("read")
    found = {}
    for name in ("reference", backend):
        leaf = window.clone().requires_grad_()
        with aligndraw.use_backend(name):
            glimpse = ops.read(image, leaf, size)
        found[name] = glimpse.detach(), *torch.autograd.grad(glimpse.square().sum(), leaf)
    for a, b in zip(*found.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", [b for o, b in served(KERNELS) if o == "read"])
@pytest.mark.parametrize("op", ["read", "write"])
def test_filters_on_pixels(op, backend, make, as_exact):
    """Filters that were half an ulp beside their pixels, with the smallest σ: a window's gradient was 1e-3 off."""
    args = list(make(op, dtype=torch.float32))
    args[1] = torch.tensor([[0.0, 0.5, -17.0, 0.0, 0.0]]).expand(3, 5)
    as_exact(op, backend, args)


@pytest.mark.parametrize("backend", [b for o, b in served(KERNELS) if o == "read"])
@pytest.mark.parametrize("op", ["read", "write"])
def test_filters_of_one_pixel_each(op, backend, evaluate):
    """1 minus the sum of a filter, 1e-4 here, was what a subtraction left: a window's gradient was 1e-3 off.

    The reference's, which PyTorch forms, still is.
    """
    torch.manual_seed(0)
    window = torch.tensor([[2**-14, -(2**-14), -16.0, 0.0, 0.0]])
    image, patch = torch.rand(1, 1, 7, 7), torch.rand(1, 1, 3, 3)
    args = (image, window, 3, None) if op == "read" else (patch, window, image)
    with aligndraw.use_backend(backend):
        ours = evaluate(function(op), args)[2]
    truth = evaluate(reference(op), tuple(a.double() if isinstance(a, torch.Tensor) else a for a in args))[2]
    assert (ours / truth - 1).abs().max() < 1e-5


def test_compiles_whole(op, make, asking):
    args = make(op)
    asking(args)
    compiled = torch.compile(function(op), fullgraph=True, backend="aot_eager")
    for a, b in zip(as_tuple(compiled(*args)), as_tuple(function(op)(*args)), strict=True):
        torch.testing.assert_close(a, b)
        a.sum().backward(retain_graph=True)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_arrays_and_lists_are_no_tensors(op, make, backend):
    args = make(op, dtype=torch.float32)
    name = str(getattr(torch.ops.aligndraw, op).default._schema.arguments[0].name)
    with use_backend(backend):
        for wrong, kind in ((args[0].numpy(), "ndarray"), (args[0].tolist(), "list"), (None, "NoneType")):
            with pytest.raises(RuntimeError, match=f"^{op}: {name} must be a tensor, got {kind}$"):
                getattr(ops, op)(wrong, *args[1:])
            with pytest.raises(RuntimeError, match=f"^product: left must be a tensor, got {kind}$"):
                ops.product(wrong, torch.ones(2, 2))


def test_no_gradient_means_no_graph(op, make):
    assert not any(o.requires_grad for o in as_tuple(function(op)(*make(op))))


def test_every_op_is_registered_in_every_namespace(op):
    for namespace in set(NAMESPACES.values()):
        assert hasattr(getattr(torch.ops, namespace), op)
        assert hasattr(getattr(torch.ops, namespace), f"{op}_backward")


def test_new_memory_is_poisoned():
    """The fixture that all tests run under does what it says, for the allocations of C++ kernels too."""
    assert torch.empty(7).isnan().all() and torch.empty_like(torch.ones(3)).isnan().all()
