"""The loops: one op against the reference's step-by-step arithmetic."""

import importlib

import pytest
import torch
from loop_cases import ONE_UNIT, SHAPES, double, error, flat, leaves, make, prior_args, rounding, rows_of

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason
from aligndraw.ops import _unroll_composed

# The package's attribute of this name is the function.
prior_loop = importlib.import_module("aligndraw.ops.unroll_prior")
pytestmark = pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++ ops here")

# Of the patches.
OPTIONS = {
    "plain": {},
    "tints": {"tints": 2},
    "opacity": {"opacity": True},
    "tints and opacity": {"tints": 1, "opacity": True},
}


def results_and_grads(backend, args):
    with aligndraw.use_backend(backend):
        results = [r for r in ops.unroll(*args) if r is not None]
        torch.manual_seed(1)
        grads = [torch.randn(r.shape, dtype=torch.float64).to(r.dtype) for r in results]
        return [r.detach() for r in results] + list(torch.autograd.grad(results, leaves(args), grads))


def prior_results(backend, args):
    with aligndraw.use_backend(backend), torch.no_grad():
        return [r for r in ops.unroll_prior(*prior_args(args)) if r is not None]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("run", [results_and_grads, prior_results])
def test_equals_the_steps_in_double_precision(shape, align, run, options):
    args = make(shape, align, **OPTIONS[options])
    for ours, truth in zip(run("cpp", args), run("reference", args), strict=True):
        assert ours.shape == truth.shape and error(ours, truth) < 1e-11


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("run", [results_and_grads, prior_results])
@pytest.mark.parametrize("shape", ["odd", "wide"])
def test_is_as_exact_as_the_steps_in_single_precision(shape, run, options):
    """The geometric mean of thirty draws: over a loop, what one rounding grows to is a matter of luck."""
    errors = []
    for seed in range(30):
        args = make(shape, dtype=torch.float32, seed=seed, **OPTIONS[options])
        truth = run("reference", double(args))
        pairs = [run(backend, args) for backend in ("cpp", "reference")]
        errors.append([[error(r, t) for r, t in zip(results, truth, strict=True)] for results in pairs])
    ours, reference = torch.tensor(errors).clamp(min=torch.finfo(torch.float32).eps / 2).log().mean(0).exp()
    assert (ours <= 2 * reference).all()


@pytest.mark.parametrize("run", [results_and_grads, prior_results])
@pytest.mark.parametrize("ones", ONE_UNIT)
def test_one_unit_over_many_steps(ones, run):
    """Weights that are laid out once for many products: with one unit the products were wrong, and read past them."""
    for align in (True, False):
        args = make("steps", align, dtype=torch.float32, ones=ones)
        truth = run("reference", double(args))
        for ours, exact in zip(run("cpp", args), truth, strict=True):
            assert error(ours, exact) < 1e-5


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("shape", ["odd", "wide", "none"])
def test_a_loop_of_rounded_products_is_as_exact_as_the_reference(shape, align):
    """The mean of ten draws, for results and gradients each; and it does round."""
    errors, moved = [], []
    for seed in range(10):
        args = make(shape, align, dtype=torch.float32, seed=seed)
        truth = results_and_grads("reference", double(args))
        low = [results_and_grads(backend, rounding(args)) for backend in ("cpp", "reference")]
        errors.append([[error(r, t) for r, t in zip(results, truth, strict=True)] for results in low])
        full = results_and_grads("cpp", args)
        moved.append(error(low[0][1], full[1]))  # the KLs
    ours, reference = torch.tensor(errors).mean(0)
    assert (ours <= 2 * reference + 4 * torch.finfo(torch.float32).eps).all()
    assert shape == "none" or 1e-4 < sum(moved) / len(moved) < 0.05


def test_double_precision_is_never_rounded():
    args = make("odd")
    pairs = zip(results_and_grads("cpp", rounding(args)), results_and_grads("cpp", args), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("ones", [(), ONE_UNIT[-1]])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("align", [True, False])
def test_made_of_the_other_ops_it_is_the_same(align, bf16, ones, options):
    """What serves devices without C++: results, tape and gradients equal those of the C++ loop."""
    args = make("odd", align, bf16=bf16, ones=ones, **OPTIONS[options])
    args = tuple(t.detach() if isinstance(t, torch.Tensor) else t for t in flat(args))
    results = torch.ops.aligndraw.unroll(*args)
    same = _unroll_composed.forward("aligndraw", *args)
    assert max(error(a, b) for a, b in zip(same, results, strict=True)) < 1e-12
    grads = [torch.randn_like(r) for r in results[:5]]
    arguments = (*grads, *args, results[4], *results[5:], True)
    ours = torch.ops.aligndraw.unroll_backward(*arguments)
    composed = _unroll_composed.backward("aligndraw", *arguments)
    assert max(error(a, b) for a, b in zip(composed, ours, strict=True)) < 1e-11


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", ["odd", "one", "none"])
@pytest.mark.parametrize("align", [True, False])
def test_sampling_made_of_the_other_ops_is_the_same(shape, align, options):
    args = [
        t.detach() if isinstance(t, torch.Tensor) else t
        for t in flat(prior_args(make(shape, align, **OPTIONS[options])))
    ]
    pairs = zip(prior_loop._forward("aligndraw", *args), torch.ops.aligndraw.unroll_prior(*args), strict=True)
    assert max(error(a, b) for a, b in pairs) < 1e-12


@pytest.mark.parametrize("options", OPTIONS)
def test_gradcheck(options):
    args = make("one", **OPTIONS[options], q=1 + ("opacity" in options))
    assert torch.autograd.gradcheck(lambda *a: torch.ops.aligndraw.unroll(*a)[:5], flat(args))


@pytest.mark.parametrize("shape", ["odd", "none"])
@pytest.mark.parametrize("align", [True, False])
def test_opcheck(shape, align):
    args = flat(make(shape, align))
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.aligndraw.unroll.default, args, test_utils=checks)
    detached = [t.detach() if isinstance(t, torch.Tensor) else t for t in flat(prior_args(make(shape, align)))]
    torch.library.opcheck(torch.ops.aligndraw.unroll_prior.default, tuple(detached))


def test_strides_do_not_matter():
    args = make()
    turned = [a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 1 else a for a in args]
    turned[6], turned[7] = (type(w)(*(t.mT.contiguous().mT if t.dim() > 1 else t for t in w)) for w in args[6:8])
    assert not turned[0].is_contiguous() and not turned[6].encoder_ih.is_contiguous()
    with torch.no_grad(), aligndraw.use_backend("cpp"):
        for ours, truth in zip(ops.unroll(*turned), ops.unroll(*args), strict=True):
            assert torch.equal(ours, truth)


BAD = {
    "image": (0, lambda t: t[0]),
    "canvas": (1, lambda t: t[0]),
    "words": (2, lambda t: t[:2]),
    "no words": (2, lambda t: t[:, :0]),
    "keys": (3, lambda t: t[..., :2]),
    "lengths": (4, lambda t: t.float()),
    "noise": (5, lambda t: t[:, :0]),
    "dtype": (5, lambda t: t.float()),
    "encoder": (6, lambda w: w._replace(encoder_hh=w.encoder_hh[:3])),
    "decoder": (7, lambda w: w._replace(heads=w.heads[:-1])),
    "score": (7, lambda w: w._replace(score=None)),
    "read_size": (8, lambda p: 0),
    "write_size": (9, lambda p: p + 1),
    "tints": (11, lambda count: count + 1),
    "negative tints": (11, lambda count: -1),
    "opacity": (12, lambda opacity: True),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_get_one_message_on_every_backend(what):
    args = make()
    index, change = BAD[what]
    args[index] = change(args[index])
    calls = {"unroll": lambda: ops.unroll(*args), "unroll_prior": lambda: ops.unroll_prior(*prior_args(args))}
    for name, call in calls.items():
        if name == "unroll_prior" and what in ("image", "encoder", "read_size"):
            continue
        messages = set()
        for backend in ("reference", "cpp"):
            with aligndraw.use_backend(backend), torch.no_grad(), pytest.raises(RuntimeError) as caught:
                call()
            messages.add(str(caught.value))
        assert len(messages) == 1
        assert messages.pop().startswith(f"{name}: ")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("run", [results_and_grads, prior_results])
def test_the_same_bits_on_any_number_of_threads(run, bf16, options):
    """With few rows, whose products the threads share, and with enough for each thread to take rows of its own."""
    before = torch.get_num_threads()
    for batch in (2, 25):
        args = make("wide", dtype=torch.float32, B=batch, bf16=bf16, **OPTIONS[options])
        found = []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(run("cpp", args))
        finally:
            torch.set_num_threads(before)
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("bf16", [False, True])
def test_the_bits_of_a_row_do_not_depend_on_its_batch(bf16):
    """All results, and the gradients of what each row has of its own."""
    args = make("wide", dtype=torch.float32, B=25, bf16=bf16, tints=2)
    with aligndraw.use_backend("cpp"), torch.no_grad():
        whole = [*torch.ops.aligndraw.unroll(*flat(args)), *prior_results("cpp", args)]
    for rows in (slice(0, 1), slice(20, 22)):
        part = rows_of(args, rows)
        with aligndraw.use_backend("cpp"), torch.no_grad():
            results = [*torch.ops.aligndraw.unroll(*flat(part)), *prior_results("cpp", part)]
        for ours, all_rows in zip(results, whole, strict=True):
            at = next(i for i, (a, b) in enumerate(zip(ours.shape, all_rows.shape)) if a != b)
            assert torch.equal(ours, all_rows.movedim(at, 0)[rows].movedim(0, at))
