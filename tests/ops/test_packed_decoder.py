"""Weights that stay packed between calls: the bits of `unroll_prior`, and no change of a weight goes unnoticed."""

import copy
import pickle

import pytest
import torch
from loop_cases import SHAPES, make, prior_args
from torch._subclasses.fake_tensor import FakeTensorMode

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("unroll_prior", "cpp", "cpu")), reason="no C++ ops here")


class Calls:
    """`unroll_prior` of some arguments, by one PackedDecoder and anew."""

    def __init__(self, shape="wide", align=True, dtype=torch.float32, **sizes):
        args = prior_args(make(shape, align, dtype=dtype, **sizes))
        self.weights = type(args[5])(*(None if t is None else t.detach() for t in args[5]))
        self.args = [t.detach() if isinstance(t, torch.Tensor) else t for t in args]
        self.args[5] = self.weights
        self.sources = [t for t in self.weights if t is not None]
        self.packed = ops.PackedDecoder()
        self.made = 0

    def kept(self):
        def decoder():
            self.made += 1
            return self.weights._replace(heads=self.weights.heads.clone())  # as a model's, which joins its heads

        *before, _, size, tints, opacity = self.args
        return self.packed.unroll_prior(*before, self.sources, decoder, size, tints, opacity)

    def anew(self):
        return ops.unroll_prior(*self.args)


def assert_same_bits(found, truth):
    for a, b in zip(found, truth, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_as_packed_in_the_call(shape, align, dtype):
    calls = Calls(shape, align, dtype)
    for _ in range(2):
        assert_same_bits(calls.kept(), calls.anew())
    assert calls.made == 1


def test_same_bits_on_other_numbers_of_threads_than_it_was_packed_for():
    """The layout depends on the number of threads."""
    calls, before = Calls(n=90), torch.get_num_threads()
    truth = calls.anew()
    try:
        for threads in (1, 3, 2, 1):
            torch.set_num_threads(threads)
            assert_same_bits(calls.kept(), truth)
    finally:
        torch.set_num_threads(before)


def by_data(tensor):
    tensor.data.view(-1)[-1] += 1


def by_numpy(tensor):
    tensor.numpy().reshape(-1)[0] += 1


def by_exchange(tensor):
    flat = tensor.view(-1)
    flat[[0, -1]] = flat[[-1, 0]].clone()


def by_sign(tensor):
    tensor.neg_()


@pytest.mark.parametrize("change", [by_data, by_numpy, by_exchange, by_sign])
def test_every_change_of_every_weight_is_noticed(change):
    calls = Calls()
    calls.kept()
    for i, source in enumerate(calls.sources):
        change(source)
        assert_same_bits(calls.kept(), calls.anew())
        assert calls.made == 2 + i


def fingerprint(*tensors):
    return torch.ops.aligndraw.fingerprint(list(tensors))


@pytest.mark.parametrize("size", [1, 7, 64, 4096, 8192 * 2 + 13, 8192 * 5])
def test_each_bit_counts(size):
    """In whole blocks, in the rest behind them, and in half a word at the end."""
    numbers = torch.randn(size)
    before, seen = numbers.clone(), {fingerprint(numbers)}
    bits = numbers.view(torch.int32)
    places = sorted({0, size // 2, size - 1, *range(0, size, 1009)})
    for place in places:
        for bit in (1, 1 << 23, -(1 << 31)):
            bits[place] ^= bit
            seen.add(fingerprint(numbers))
            bits[place] ^= bit
    assert len(seen) == 1 + 3 * len(places)
    assert torch.equal(numbers, before) and fingerprint(numbers) in seen


def test_changes_that_undo_each_other_count():
    """The same bit of two numbers, wherever they are; numbers that change places; tensors of other sizes."""
    numbers = torch.rand(20000) + 1
    seen = {fingerprint(numbers)}
    for apart in (1, 2, 32, 64, 128, 8192, 16384):
        for change in (lambda t: -t, lambda t: t * 2, lambda t: t.flip(0)):
            changed = numbers.clone()
            changed[[5, 5 + apart]] = change(changed[[5, 5 + apart]])
            seen.add(fingerprint(changed))
    seen |= {fingerprint(numbers[:k], numbers[k:]) for k in (2, 64, 8192)} | {fingerprint(-numbers)}
    assert len(seen) == 1 + 7 * 3 + 3 + 1


def test_the_fingerprint_does_not_depend_on_threads_or_strides():
    numbers, before = torch.randn(300, 500), torch.get_num_threads()
    try:
        found = set()
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found |= {fingerprint(numbers), fingerprint(numbers.mT.contiguous().mT)}
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_gradients_are_those_of_unroll_prior():
    calls = Calls(dtype=torch.float64)
    calls.kept()
    for t in calls.sources:
        t.requires_grad_()
    ours, theirs = (torch.autograd.grad(f().canvas.sum(), calls.sources[:3]) for f in (calls.kept, calls.anew))
    assert all(torch.equal(a, b) and b.abs().max() > 0 for a, b in zip(ours, theirs, strict=True))


def test_other_backends_modes_and_transforms_get_the_weights():
    calls = Calls()
    calls.kept()
    with aligndraw.use_backend("reference"):
        assert_same_bits(calls.kept(), calls.anew())
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert calls.kept().canvas.shape == calls.args[0].expand(9, -1, -1, -1).shape
    noise = calls.args[4]
    calls.args[4] = noise.expand(2, *noise.shape)

    def draw(noise):
        calls.args[4] = noise
        return calls.kept().canvas

    mapped = torch.func.vmap(draw)(calls.args[4])
    calls.args[4] = noise
    assert torch.equal(mapped[1], calls.anew().canvas)
    assert calls.made == 4


def test_a_copy_starts_empty():
    calls = Calls()
    calls.kept()
    for other in (copy.deepcopy(calls.packed), pickle.loads(pickle.dumps(calls.packed))):
        assert other._kept is None
        calls.packed = other
        assert_same_bits(calls.kept(), calls.anew())
