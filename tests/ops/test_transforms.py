"""Derivatives of every op in every way that PyTorch takes them: torch.func, forward mode, and second ones.

The truth is always the reference's plain gradient, or the gradient of its gradient.
"""

import loop_cases
import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils import _pytree as pytree

import aligndraw
from aligndraw import ops
from aligndraw.backends import NAMESPACES, missing_reason
from aligndraw.ops import _autograd
from aligndraw.ops._op import Op

EVERY = (*ops.OPS, *ops.LOOPS)
BACKENDS = [b for b in ("reference", "cpp", "triton") if not missing_reason("read", b, "cpu")]
WAYS = [(b, False) for b in BACKENDS] + [("cpp", True)] * ("cpp" in BACKENDS)
RESULTS = {"unroll": 5, "lstm_sequence": 2}  # the rest is a tape


@pytest.fixture(params=EVERY)
def name(request):
    return request.param


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{'overload' if way[1] else 'call'}")
def way(request):
    """A backend, and whether its op is called by the dispatcher's name."""
    return request.param


class Case:
    """An op as a function of its floating arguments, at one point `x` and in one direction `v`."""

    def __init__(self, name, make, way=("reference", False)):
        if name == "lstm_sequence":
            args = [*loop_cases.make_sequence(batch=3, count=3, units=2), True]
        elif name in ops.LOOPS:
            args = loop_cases.make("odd", n=2, e=3, z=2, l=2, d=2)
            args = loop_cases.prior_args(args) if name == "unroll_prior" else args
        else:
            args = make(name)
        self.name, (self.backend, self.overload) = name, way
        self.leaves, self.spec = pytree.tree_flatten(list(args))
        self.at = [i for i, a in enumerate(self.leaves) if isinstance(a, torch.Tensor) and a.is_floating_point()]
        self.x = tuple(self.leaves[i].detach() for i in self.at)
        random = torch.Generator().manual_seed(1)
        self.v = tuple(torch.randn(x.shape, generator=random, dtype=x.dtype) for x in self.x)
        self.smallest = min(range(len(self.x)), key=lambda i: self.x[i].numel())

    def results(self, *floats):
        filled = list(self.leaves)
        for i, value in zip(self.at, floats, strict=True):
            filled[i] = value
        with aligndraw.use_backend(self.backend):
            if self.overload:
                found = getattr(getattr(torch.ops, NAMESPACES[self.backend]), self.name)(*filled)
            else:
                found = getattr(ops, self.name)(*pytree.tree_unflatten(filled, self.spec))
        found = found if isinstance(found, tuple) else (found,)
        found = [r for r in found[: RESULTS.get(self.name)] if isinstance(r, torch.Tensor)]
        if self.overload and self.name in ("unroll", "unroll_prior"):  # results with the time first
            found[1:] = (r.transpose(0, 1) for r in found[1:])
        return found

    def loss(self, *floats):
        """A scalar with second derivatives that are not 0."""
        weighed = (r * torch.arange(1, r.numel() + 1).cos().reshape(r.shape) for r in self.results(*floats))
        return torch.stack([(w + w.square()).sum() for w in weighed]).sum()

    def leaf(self):
        return tuple(x.clone().requires_grad_() for x in self.x)

    def gradient(self, create_graph=False):
        leaves = self.leaf()
        loss = self.loss(*leaves)
        return leaves, torch.autograd.grad(loss, leaves, create_graph=create_graph, materialize_grads=True)

    def curvature(self):
        """H v, where H has the second derivatives of the loss."""
        leaves, first = self.gradient(create_graph=True)
        return torch.autograd.grad(dot(first, self.v), leaves, materialize_grads=True)


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


def assert_equal(found, truth):
    found, truth = pytree.tree_leaves(found), pytree.tree_leaves(truth)
    assert len(found) == len(truth)
    for a, b in zip(found, truth):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.fixture
def case(name, make, way):
    if way[0] == "triton" and name not in ("lstm_gates", "attend"):
        pytest.skip("one of each kind: the interpreter is slow")
    return Case(name, make, way)


@pytest.fixture
def reference(name, make):
    return Case(name, make)


def every(case):
    return tuple(range(len(case.x)))


def along(case, function):
    """The derivative of a function of the floating arguments in the direction `v`, by dual numbers."""
    with forward_ad.dual_level():
        found = function(*(forward_ad.make_dual(x, v) for x, v in zip(case.x, case.v, strict=True)))
        return pytree.tree_map(lambda r: forward_ad.unpack_dual(r).tangent, found)


def test_first_derivatives_of_a_scalar(case, reference):
    truth = reference.gradient()[1]
    assert_equal(grad(case.loss, every(case))(*case.x), truth)
    _, pull = vjp(case.loss, *case.x)
    assert_equal(pull(torch.ones((), dtype=torch.float64)), truth)
    assert_equal(jvp(case.loss, case.x, case.v), (reference.loss(*case.x), dot(truth, case.v)))
    assert_equal(along(case, case.loss), dot(truth, case.v))
    with torch.no_grad():
        assert_equal(along(case, case.loss), dot(truth, case.v))


@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians(jacobian, case, reference):
    at = case.smallest
    leaves = reference.leaf()
    found = jacobian(lambda *x: case.results(*x)[-1], at)(*case.x)
    output = reference.results(*leaves)[-1]
    rows = torch.eye(output.numel(), dtype=output.dtype).reshape(-1, *output.shape)
    (truth,) = torch.autograd.grad(output, leaves[at], rows, is_grads_batched=True, materialize_grads=True)
    assert_equal(found.flatten(0, output.dim() - 1), truth)


def examples(case):
    """Three points, stacked."""
    return tuple(torch.stack([x, x + 0.1 * v, x - 0.1 * v]) for x, v in zip(case.x, case.v, strict=True))


def test_vmap(case, reference):
    several = examples(case)
    truth = [torch.stack(rows) for rows in zip(*(reference.results(*x) for x in zip(*several)))]
    assert_equal(vmap(case.results)(*several), truth)
    aside = tuple(x.movedim(0, -1) for x in several)
    assert_equal(vmap(case.results, in_dims=-1, out_dims=1)(*aside), [t.transpose(0, 1) for t in truth])


def test_vmap_over_one_argument(case, reference):
    several = examples(case)[case.smallest]

    def calls(case):
        return lambda one: case.results(*case.x[: case.smallest], one, *case.x[case.smallest + 1 :])

    truth = [torch.stack(rows) for rows in zip(*map(calls(reference), several))]
    assert_equal(vmap(calls(case))(several), truth)
    assert_equal(vmap(vmap(calls(case)))(several[None])[0], [t[None] for t in truth][0])


def test_gradient_of_each_example(case, reference):
    several = examples(case)
    truth = []
    for x in zip(*several):
        leaves = tuple(t.clone().requires_grad_() for t in x)
        truth.append(torch.autograd.grad(reference.loss(*leaves), leaves, materialize_grads=True))
    truth = [torch.stack(rows) for rows in zip(*truth)]
    assert_equal(vmap(grad(case.loss, every(case)))(*several), truth)
    assert_equal(grad(lambda *x: vmap(case.loss)(*x).sum(), every(case))(*several), truth)


def test_many_gradients_at_once(case, reference):
    """What `torch.autograd.functional.jacobian(vectorize=True)` asks for."""
    found = []
    for one in (case, reference):
        leaves = one.leaf()
        loss = one.loss(*leaves)
        weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
        if one is case:
            found.append(torch.autograd.grad(loss, leaves, weights, is_grads_batched=True, materialize_grads=True))
        else:
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
            found.append([torch.stack([g, 2 * g]) for g in grads])
    assert_equal(*found)


def test_second_derivatives(case, reference):
    truth = reference.curvature()
    assert_equal(case.curvature(), truth)
    first = grad(case.loss, every(case))
    assert_equal(grad(lambda *x: dot(first(*x), case.v), every(case))(*case.x), truth)
    assert_equal(jvp(first, case.x, case.v)[1], truth)
    assert_equal(grad(lambda *x: jvp(case.loss, x, case.v)[1], every(case))(*case.x), truth)
    assert_equal(jvp(lambda *x: jvp(case.loss, x, case.v)[1], case.x, case.v)[1], dot(truth, case.v))


def test_second_derivatives_in_other_ways(case, reference):
    truth = reference.curvature()
    leaves = case.leaf()
    outer = dot(grad(case.loss, every(case))(*leaves), case.v)
    assert_equal(torch.autograd.grad(outer, leaves, materialize_grads=True), truth)

    def backward(*x):
        x = tuple(t.requires_grad_() for t in x)
        return torch.autograd.grad(case.loss(*x), x, materialize_grads=True)

    assert_equal(along(case, backward), truth)
    if case.name in ("attend", "unroll", "unroll_prior"):
        return  # in the way that follows PyTorch refuses the softmax itself
    leaves = case.leaf()
    with forward_ad.dual_level():
        found = case.loss(*(forward_ad.make_dual(x, v) for x, v in zip(leaves, case.v, strict=True)))
        slope = forward_ad.unpack_dual(found).tangent
    assert_equal(torch.autograd.grad(slope, leaves, materialize_grads=True), truth)


def test_hessian(case, reference):
    leaves = reference.leaf()
    at = case.smallest
    (first,) = torch.autograd.grad(reference.loss(*leaves), leaves[at], create_graph=True)
    rows = [torch.autograd.grad(g, leaves[at], retain_graph=True, materialize_grads=True)[0] for g in first.flatten()]
    truth = torch.stack(rows).reshape(*first.shape, *first.shape)
    assert_equal(hessian(case.loss, at)(*case.x), truth)
    assert_equal(jacrev(jacrev(case.loss, at), at)(*case.x), truth)


def test_third_derivatives(case, reference):
    def third(case):
        leaves, first = case.gradient(create_graph=True)
        second = torch.autograd.grad(dot(first, case.v), leaves, create_graph=True, materialize_grads=True)
        return torch.autograd.grad(dot(second, case.v), leaves, materialize_grads=True)

    truth = third(reference)
    assert_equal(third(case), truth)
    first = grad(case.loss, every(case))
    assert_equal(jvp(lambda *x: jvp(first, x, case.v)[1], case.x, case.v)[1], truth)


def test_functionalize(case):
    assert_equal(torch.func.functionalize(case.results)(*case.x), case.results(*case.x))


def grad_of_each(function):
    return vmap(grad(function))


@pytest.mark.parametrize("transform", [hessian, grad_of_each])
def test_compiled(transform, make):
    reference = Case("lstm_gates", make)
    case = Case("lstm_gates", make, ("cpp", False)) if "cpp" in BACKENDS else reference
    x = examples(case) if transform is grad_of_each else case.x
    found = torch.compile(transform(case.loss), backend="aot_eager", fullgraph=True)(*x)
    assert_equal(found, transform(reference.loss)(*x))


def test_no_example():
    """vmap over a dimension of size 0."""
    states, last = vmap(ops.lstm_sequence)(*(torch.zeros(0, *shape) for shape in ((2, 3, 8), (8, 2), (2,))), NO_LENGTHS)
    assert states.shape == (0, 2, 3, 2) and last.shape == (0, 2, 2)
    h, c = vmap(ops.lstm_gates)(torch.zeros(0, 2, 8), torch.zeros(0, 2, 2, dtype=torch.bfloat16))
    assert h.shape == c.shape == (0, 2, 2) and c.dtype == torch.bfloat16


NO_LENGTHS = torch.zeros(0, 2, dtype=torch.int64)


@pytest.mark.skipif("cpp" not in BACKENDS, reason="no C++ ops here")
@pytest.mark.parametrize("rounds", [False, True])
def test_first_derivatives_are_those_of_the_kernel(rounds):
    """To the same bits, in single precision, which the reference would round otherwise."""
    args = loop_cases.make("odd", dtype=torch.float32, bf16=rounds)
    leaves, spec = pytree.tree_flatten(args)
    at = [i for i, a in enumerate(leaves) if isinstance(a, torch.Tensor) and a.is_floating_point()]

    def loss(*floats):
        filled = list(leaves)
        for i, value in zip(at, floats, strict=True):
            filled[i] = value
        return sum(r.sum() for r in ops.unroll(*pytree.tree_unflatten(filled, spec)) if r is not None)

    x = [leaves[i] for i in at]
    truth = torch.autograd.grad(loss(*x), x)
    found = grad(loss, tuple(range(len(x))))(*(t.detach() for t in x))
    each = vmap(grad(loss, tuple(range(len(x)))))(*(t.detach()[None] for t in x))
    for a, b, c in zip(found, each, truth, strict=True):
        assert torch.equal(a, c) and torch.equal(b[0], c)


def test_where_a_device_has_no_kernel():
    """The op by its name is its reference, all derivatives included."""

    def cube(x):
        return x.pow(3)

    def check(x):
        if x.dim() != 1:
            raise RuntimeError("cube: x must have shape [n]")

    Op(
        "cube",
        schema="(Tensor x) -> Tensor",
        backward_schema="(Tensor grad, Tensor x) -> Tensor",
        reference=cube,
        backward_reference=lambda grad, x: _autograd.vjp(cube, (x,), (grad,))[0],
        check=check,
        fake=torch.empty_like,
        backward_fake=torch.empty_like,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
        backward=lambda op, ctx, grad: op(grad, *ctx.saved_tensors),
    )
    op, x = torch.ops.aligndraw.cube, torch.tensor([1.0, -2.0, 3.0])
    leaf = x.clone().requires_grad_()
    assert_equal(torch.autograd.grad(op(leaf).sum(), leaf)[0], 3 * x**2)
    assert_equal(jacfwd(op)(x).diagonal(), 3 * x**2)
    assert_equal(hessian(lambda x: op(x).sum())(x).diagonal(), 6 * x)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="shape"):
        op(x[None])


HELPERS = {
    "product": lambda x: torch.ops.aligndraw.product(x[None], torch.ones(1, 3), True, 0),
    "rmsprop_": lambda x: torch.ops.aligndraw.rmsprop_([x * 0], [x * 0], [x], torch.ones(1), 0.1, 0.9, 1e-6),
    "muon_": lambda x: torch.ops.aligndraw.muon_([x[None] * 0], [x[None] * 0], [x[None]], 0.95, [0.1], 0),
}


@pytest.mark.skipif("cpp" not in BACKENDS, reason="no C++ ops here")
@pytest.mark.parametrize("helper", HELPERS)
def test_ops_without_derivatives_refuse(helper):
    """They gave 0, or nothing."""
    call, x = HELPERS[helper], torch.ones(3)
    for derivative in (
        lambda: call(x.clone().requires_grad_()),
        lambda: grad(lambda x: (x.sum(), call(x))[0])(x),
        lambda: jvp(lambda x: (x.sum(), call(x))[0], (x,), (x,)),
    ):
        with pytest.raises(RuntimeError, match=f"{helper}: it has no derivatives: call it inside"):
            derivative()
    with torch.no_grad():
        call(x.clone().requires_grad_())


@pytest.mark.skipif("cpp" not in BACKENDS, reason="no C++ ops here")
def test_ops_that_change_tensors_count_as_changes():
    p, m = torch.ones(2, 2), torch.zeros(2, 2)
    torch.ops.aligndraw.rmsprop_([p], [m], [p.clone()], torch.ones(1), 0.1, 0.9, 1e-6)
    torch.ops.aligndraw.muon_([p], [m], [p.clone()], 0.95, [0.1], 0)
    assert p._version == m._version == 2
