"""Tensors without data: on the meta device, and PyTorch's fake ones. Ops give shapes, never numbers of nothing."""

import contextlib
import itertools

import loop_cases
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from aligndraw import ops, use_backend
from aligndraw.backends import missing_reason


def changed(op):
    """An op that changes its first argument in place, as one that returns it."""

    def call(parameters, *others):
        op(parameters, *others)
        return parameters

    return call


def cells(x, h, c, *weights):
    return ops.lstm_cell(x, (h, c), *weights)


IN_PLACE = ("muon_", "rmsprop_")
DIFFERENTIABLE = [*ops.OPS, *ops.LOOPS, "linear", "lstm_cell"]
NAMES = [*DIFFERENTIABLE, *ops.PLAIN_OPS]


@pytest.fixture
def case(name, make):
    """An op, and a function that gives its arguments, the same each time."""
    if name in ops.OPS:
        return getattr(ops, name), lambda: mapped(torch.detach, make(name, dtype=torch.float32))
    torch.manual_seed(0)
    unroll = loop_cases.make(dtype=torch.float32)
    rows, matrix, state = torch.rand(3, 4), torch.rand(5, 4), torch.rand(3, 5)
    matrices = [[matrix, matrix] for _ in range(3)]
    call, args = {
        "unroll": (ops.unroll, unroll),
        "unroll_prior": (ops.unroll_prior, loop_cases.prior_args(unroll)),
        "lstm_sequence": (ops.lstm_sequence, loop_cases.make_sequence(dtype=torch.float32)),
        "product": (ops.product, (rows, matrix)),
        "muon_": (changed(ops.muon_), (*matrices, 0.95, [0.1, 0.1])),
        "rmsprop_": (changed(ops.rmsprop_), (*matrices, torch.ones(2), 0.1, 0.9, 1e-8)),
        "linear": (ops.linear, (rows, matrix)),
        "lstm_cell": (cells, (rows, state, state, torch.rand(20, 4), torch.rand(20, 5), torch.rand(20))),
    }[name]
    return call, lambda: mapped(lambda t: t.detach().clone(), args)


def mapped(change, value):
    """The value with `change` of each tensor in it."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if not isinstance(value, (tuple, list)):
        return value
    parts = [mapped(change, part) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def tensors(value):
    """The tensors of a value."""
    found = []
    mapped(found.append, value)
    return found


def shapes(value):
    return [(t.shape, t.dtype) for t in tensors(value)]


def grads_of(call, args):
    """Gradients of all floating arguments."""
    args = mapped(lambda t: t.requires_grad_() if t.is_floating_point() else t, args)
    results = [t for t in tensors(call(*args)) if t.requires_grad]
    return torch.autograd.grad([t.sum() for t in results], [t for t in tensors(args) if t.requires_grad])


def bare(tensor):
    return tensor.to("meta")


@pytest.mark.parametrize("name", NAMES)
def test_shapes_on_the_meta_device(case):
    """PyTorch's message of an unknown device for autocast came instead."""
    call, args = case
    found = call(*mapped(bare, args()))
    assert shapes(found) == shapes(call(*args())) and all(t.is_meta for t in tensors(found))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_on_the_meta_device(case):
    call, args = case
    found = grads_of(call, mapped(bare, args()))
    assert shapes(found) == shapes(grads_of(call, args())) and all(t.is_meta for t in found)


@pytest.mark.parametrize("name", NAMES)
def test_fake_tensors(name, case):
    call, args = case
    wanted = shapes(call(*args()))
    gradients = shapes(grads_of(call, args())) if name in DIFFERENTIABLE else []
    given = args()
    with FakeTensorMode() as mode:
        found = call(*mapped(mode.from_tensor, given))
        assert shapes(found) == wanted and all(t.device.type == "cpu" for t in tensors(found))
        if gradients:
            assert shapes(grads_of(call, mapped(lambda t: mode.from_tensor(t).detach(), given))) == gradients


@pytest.mark.parametrize("name", [*ops.OPS, *ops.LOOPS])
def test_a_forced_backend_says_that_it_cannot(name, case):
    if missing_reason(name, "cpp", "cpu"):
        pytest.skip("no C++ ops here")
    call, args = case
    message = f"^{name}: backend 'cpp' was asked for and cannot run on meta: cpp runs on CPU tensors only$"
    with use_backend("cpp"), pytest.raises(RuntimeError, match=message):
        call(*mapped(bare, args()))


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_one_tensor_without_data_among_others(case, backend):
    """`product`, `linear` and `muon_` gave memory that nobody had written."""
    call, args = case
    for at in range(len(tensors(args()))):
        count = itertools.count()
        mixed = mapped(lambda t: bare(t) if next(count) == at else t, args())  # noqa: B023
        with (
            use_backend(backend) if backend else contextlib.nullcontext(),
            pytest.raises(RuntimeError, match=r"^\w+: \w+ must be on (cpu|meta) like \w+, got (cpu|meta)$"),
        ):
            call(*mixed)


@pytest.mark.parametrize("name", IN_PLACE)
def test_parameters_alone_have_data(name, case):
    """Parameters became numbers of memory that nobody had written."""
    call, args = case
    given = args()
    without = mapped(bare, given[1:])
    with pytest.raises(RuntimeError, match=f"^{name}: (momenta|squares) must be on cpu like parameters, got meta$"):
        call(given[0], *without)
    assert all(map(torch.equal, given[0], args()[0]))
