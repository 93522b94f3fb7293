"""lstm_sequence: captions of different lengths, both directions, against the reference's loop and torch's LSTM."""

import importlib

import pytest
import torch
from loop_cases import error
from loop_cases import make_sequence as make

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason

module = importlib.import_module("aligndraw.ops.lstm_sequence")  # the attribute of that name is the function
pytestmark = pytest.mark.skipif(bool(missing_reason("lstm_sequence", "cpp", "cpu")), reason="no C++ ops here")


def results_and_grads(call, args):
    results = call(*args)[:2]
    torch.manual_seed(1)
    grads = [torch.randn(r.shape, dtype=torch.float64).to(r.dtype) for r in results]
    return [r.detach() for r in results] + list(torch.autograd.grad(results, args[:3], grads))


def forced(backend, reverse):
    def call(*args):
        with aligndraw.use_backend(backend):
            return ops.lstm_sequence(*args, reverse)

    return call


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [(5, 6, 7), (1, 1, 1), (0, 3, 4), (13, 2, 20)])
def test_equals_the_reference(sizes, reverse):
    args = make(*sizes)
    ours, truth = (results_and_grads(forced(backend, reverse), args) for backend in ("cpp", "reference"))
    assert max(error(o, t) for o, t in zip(ours, truth, strict=True)) < 1e-12


@pytest.mark.parametrize("reverse", [False, True])
def test_is_as_exact_as_the_reference_in_single_precision(reverse):
    errors = []
    for seed in range(5):
        args = make(dtype=torch.float32, seed=seed)
        exact = tuple(a.detach().double().requires_grad_() for a in args[:3]) + args[3:]
        truth = results_and_grads(forced("reference", reverse), exact)
        found = [results_and_grads(forced(backend, reverse), args) for backend in ("cpp", "reference")]
        errors.append([[error(r, t) for r, t in zip(f, truth, strict=True)] for f in found])
    ours, reference = torch.tensor(errors).mean(0)
    assert (ours <= 2 * reference + 4 * torch.finfo(torch.float32).eps).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_one_unit_over_many_words(reverse):
    """Weights that are laid out once for many products: with one unit the products were wrong, and read past them."""
    args = make(9, 12, 1, dtype=torch.float32)
    exact = tuple(a.detach().double().requires_grad_() for a in args[:3]) + args[3:]
    ours, truth = (results_and_grads(forced(b, reverse), a) for b, a in (("cpp", args), ("reference", exact)))
    assert max(error(o, t) for o, t in zip(ours, truth, strict=True)) < 1e-5


def test_equals_the_lstm_of_torch():
    inputs, weight, h0, _ = make()
    theirs = torch.nn.LSTM(28, 7, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.eye(28))
        theirs.weight_hh_l0.copy_(weight)
        theirs.bias_ih_l0.zero_()
        theirs.bias_hh_l0.zero_()
        first = h0.expand(1, 5, -1).contiguous()
        states, (last, _) = theirs(inputs, (first, torch.zeros_like(first)))
    ours = ops.lstm_sequence(inputs, weight, h0, torch.full((5,), 6))
    assert error(ours[0], states) < 1e-12 and error(ours[1], last[0]) < 1e-12


@pytest.mark.parametrize("reverse", [False, True])
def test_a_caption_does_not_depend_on_what_follows_it(reverse):
    inputs, weight, h0, lengths = make()
    _, last = ops.lstm_sequence(inputs, weight, h0, lengths, reverse)
    for b, length in enumerate(lengths.tolist()):
        alone = ops.lstm_sequence(inputs[b : b + 1, :length], weight, h0, lengths[b : b + 1], reverse)
        assert error(alone[1][0], last[b]) < 1e-12


@pytest.mark.parametrize("reverse", [False, True])
def test_made_of_the_other_ops_it_is_the_same(reverse):
    args = (*(a.detach() for a in make()), reverse)
    results = torch.ops.aligndraw.lstm_sequence(*args)
    same = module._forward("aligndraw", *args)
    assert max(error(a, b) for a, b in zip(same, results, strict=True)) < 1e-12
    grads = [torch.randn_like(r) for r in results[:2]]
    ours = torch.ops.aligndraw.lstm_sequence_backward(*grads, *args, *results[2:])
    composed = module._backward("aligndraw", *grads, *args, *results[2:])
    assert max(error(a, b) for a, b in zip(composed, ours, strict=True)) < 1e-12


def test_gradcheck_and_opcheck():
    args = make(2, 3, 2)
    assert torch.autograd.gradcheck(lambda *a: torch.ops.aligndraw.lstm_sequence(*a, True)[:2], args)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.aligndraw.lstm_sequence.default, (*args, True), test_utils=checks)


def test_half_precision_is_storage():
    args = tuple(a.detach() for a in make())
    half = [a.bfloat16() if a.is_floating_point() else a for a in args]
    exact = ops.lstm_sequence(*(a.float() if a.is_floating_point() else a for a in half))
    for ours, truth in zip(ops.lstm_sequence(*half), exact, strict=True):
        assert ours.dtype == torch.bfloat16 and torch.equal(ours, truth.bfloat16())


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, lambda t: t[..., :-1]),
        (0, lambda t: t[:, :0]),
        (0, lambda t: t.float()),
        (1, lambda t: t[:3]),
        (2, lambda t: t[None]),
        (3, lambda t: t.float()),
        (3, lambda t: t[:2]),
    ],
)
def test_bad_arguments_get_one_message_on_every_backend(index, change):
    args = [a.detach() for a in make()]
    args[index] = change(args[index])
    messages = set()
    for backend in ("reference", "cpp"):
        with pytest.raises(RuntimeError) as caught:
            forced(backend, False)(*args)
        messages.add(str(caught.value))
    assert len(messages) == 1 and messages.pop().startswith("lstm_sequence: ")


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_padding_is_not_read(backend, reverse, value):
    """Values, gradients and second derivatives are those of zeros behind the words."""
    inputs, weight_hh, h0, lengths = (a.detach() for a in make())
    padding = torch.arange(inputs.shape[1]) >= lengths[:, None]
    assert padding.any()
    found = []
    for filler in (0.0, value):
        filled = inputs.masked_fill(padding[:, :, None], filler)
        args = [a.clone().requires_grad_() for a in (filled, weight_hh, h0)]
        states, last = forced(backend, reverse)(*args, lengths)
        first = torch.autograd.grad(states.square().sum() + last.square().sum(), args, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), args)
        found.append([states, last, *first, *second])
    for clean, dirty in zip(*found, strict=True):
        assert dirty.isfinite().all() and torch.equal(clean, dirty)
