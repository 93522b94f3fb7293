"""attend, against Eq. 6 and 7 evaluated one number at a time."""

import math

import pytest
import torch

from aligndraw import ops, use_backend
from aligndraw.backends import missing_reason

BACKENDS = [b for b in ("reference", "cpp", "triton") if not missing_reason("attend", b, "cpu")]


@pytest.mark.parametrize("shape", ["odd", "one"])
def test_equation(shape, make):
    query, keys, score, values, lengths = make("attend", shape)
    context, weights = ops.attend(query, keys, score, values, lengths)
    for b, length in enumerate(lengths.tolist()):
        energies = [
            math.exp(
                sum(v * math.tanh(k + q) for v, k, q in zip(score.tolist(), keys[b, n].tolist(), query[b].tolist()))
            )
            for n in range(length)
        ]
        alphas = [e / sum(energies) for e in energies]
        assert weights[b, :length].tolist() == pytest.approx(alphas, rel=1e-12)
        assert (weights[b, length:] == 0).all()
        for d in range(values.shape[2]):
            wanted = sum(a * values[b, n, d].item() for n, a in enumerate(alphas))
            assert context[b, d].item() == pytest.approx(wanted, rel=1e-12)


def test_padded_words_do_not_matter(make):
    query, keys, score, values, lengths = make("attend")
    beyond = torch.arange(keys.shape[1]) >= lengths[:, None]
    context, weights = ops.attend(query, keys, score, values, lengths)
    keys, values = keys.clone(), values.clone()
    keys[beyond], values[beyond] = 1e4, -1e4
    other_context, other_weights = ops.attend(query, keys, score, values, lengths)
    assert torch.equal(weights, other_weights)
    assert torch.equal(context, other_context)


def test_lengths_are_clamped(make):
    query, keys, score, values, _ = make("attend")
    wild, tame = torch.tensor([-3, 0, 99]), torch.tensor([1, 1, 5])
    for a, b in zip(ops.attend(query, keys, score, values, wild), ops.attend(query, keys, score, values, tame)):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda q, k, v, h, n: (q[:, :2], k, v, h, n),
            r"attend: query must have shape \[B, l\] = \[3, 6\], got \[3, 2\]",
        ),
        (lambda q, k, v, h, n: (q, k[0], v, h, n), r"attend: keys must have shape \[B, N, l\], got \[5, 6\]"),
        (
            lambda q, k, v, h, n: (q, k[:, :0], v, h[:, :0], n),
            r"attend: keys must have at least one word, got \[3, 0, 6\]",
        ),
        (
            lambda q, k, v, h, n: (q, k, v[:3], h, n),
            r"attend: score must have shape \[l\] = \[6\], got \[3\]",
        ),
        (lambda q, k, v, h, n: (q, k, v, h[:, :4], n), r"attend: values must have shape .* got \[3, 4, 3\]"),
        (
            lambda q, k, v, h, n: (q, k, v, h, n[:2]),
            r"attend: lengths must have shape \[B\] = \[3\], got \[2\]",
        ),
        (lambda q, k, v, h, n: (q, k, v, h, n.int()), r"attend: lengths must be int64, got int32"),
        (
            lambda q, k, v, h, n: (q, k.float(), v, h, n),
            r"attend: keys must be float64 like query, got float32",
        ),
    ],
)
def test_errors(change, message, make):
    with pytest.raises(RuntimeError, match=message):
        ops.attend(*change(*make("attend")))


MASK = torch.tensor([[True, False, True, True, False], [False] * 4 + [True], [True, True, False, False, False]])


def masked_equation(query, keys, score, values, mask):
    """The definition, for float64 arguments, with -inf at the other words."""
    energy = torch.tanh(keys + query[:, None]) @ score
    weights = energy.masked_fill(~mask, -torch.inf).softmax(1)
    return (weights[:, :, None] * values).sum(1), weights


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask(make, backend):
    """In any places; values, gradients and second derivatives."""
    args = [a.requires_grad_() for a in make("attend")[:4]]
    with use_backend(backend):
        torch.testing.assert_close(ops.attend(*args, mask=MASK), masked_equation(*args, MASK), rtol=1e-12, atol=1e-14)
        assert (ops.attend(*args, mask=MASK)[1][~MASK] == 0).all()
        assert torch.autograd.gradcheck(lambda *a: ops.attend(*a, mask=MASK), args)
        assert torch.autograd.gradgradcheck(lambda *a: ops.attend(*a, mask=MASK), args)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_is_a_caption_of_its_words(make, dtype):
    """To the bit."""
    query, keys, score, values = (a.to(dtype) for a in make("attend")[:4])
    context, weights = ops.attend(query, keys, score, values, mask=MASK)
    for b, mask in enumerate(MASK):
        there = mask.nonzero()[:, 0]
        row = (query[b : b + 1], keys[b : b + 1, there], score, values[b : b + 1, there])
        alone, its_weights = ops.attend(*row)
        assert torch.equal(context[b : b + 1], alone) and torch.equal(weights[b : b + 1, there], its_weights)
        lengths = torch.tensor([len(there)])
        assert torch.equal(alone, ops.attend(*row, lengths)[0])


def test_a_mask_of_the_first_words_and_of_none(make):
    query, keys, score, values, lengths = make("attend")
    mask = torch.arange(keys.shape[1]) < lengths[:, None]
    for a, b in zip(ops.attend(query, keys, score, values, mask=mask), ops.attend(query, keys, score, values, lengths)):
        assert torch.equal(a, b)
    none = ops.attend(query, keys, score, values, mask=torch.zeros_like(mask))
    for a, b in zip(none, ops.attend(query, keys, score, values, torch.zeros_like(lengths))):
        assert torch.equal(a, b)


def test_a_mask_under_the_compiler_and_transforms(make):
    query, keys, score, values = (a.float() for a in make("attend")[:4])

    def loss(query, mask):
        context, weights = ops.attend(query, keys, score, values, mask=mask)
        return context.square().sum() + weights.square().sum()

    wanted, gradient = loss(query, MASK), torch.func.grad(loss)(query, MASK)
    compiled = torch.compile(torch.func.grad_and_value(loss), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(query, MASK), (gradient, wanted))
    masks = torch.stack([MASK, MASK.flip(0)])
    torch.testing.assert_close(torch.vmap(loss, (None, 0))(query, masks), torch.stack([wanted, loss(query, masks[1])]))
    _, tangent = torch.func.jvp(lambda q: loss(q, MASK), (query,), (query,))
    torch.testing.assert_close(tangent, (gradient * query).sum())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, h, n: ((q, k, v, h, n), MASK), "attend: lengths must be left out beside a mask"),
        (lambda q, k, v, h, n: ((q, k, v, h), MASK[:, :4]), r"mask must have shape \[B, N\] = \[3, 5\], got \[3, 4\]"),
        (lambda q, k, v, h, n: ((q, k, v, h), MASK.long()), "attend: mask must be bool, got int64"),
        (lambda q, k, v, h, n: ((q, k, v, h[:, :4]), MASK), r"values must have shape .* got \[3, 4, 3\]"),
        (lambda q, k, v, h, n: ((q, k[0], v, h), None), r"attend: keys must have shape \[B, N, l\], got \[5, 6\]"),
        (lambda q, k, v, h, n: ((q[:, :2], k, v, h), None), r"query must have shape \[B, l\] = \[3, 6\], got \[3, 2\]"),
    ],
)
def test_errors_of_masks(change, message, make):
    args, mask = change(*make("attend"))
    with pytest.raises(RuntimeError, match=message):
        ops.attend(*args, mask=mask)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("masked", [False, True])
def test_padding_is_not_read(make, backend, value, masked):
    """Values, gradients and second derivatives are those of zeros beyond the words; the first gradients there are 0."""
    query, keys, score, values, lengths = make("attend")
    there = MASK if masked else torch.arange(keys.shape[1]) < lengths[:, None]
    chosen = {"mask": MASK} if masked else {"lengths": lengths}
    results = []
    for filler in (0.0, value):
        filled = [t.masked_fill(~there[:, :, None], filler) for t in (keys, values)]
        args = [t.clone().requires_grad_() for t in (query, filled[0], score, filled[1])]
        with use_backend(backend):
            context, weights = ops.attend(*args, **chosen)
            total = context.square().sum() + weights.square().sum()
            gradients = torch.autograd.grad(total, args, create_graph=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in gradients), args)
        results.append([context, weights, *gradients, *second])
    for clean, dirty in zip(*results):
        assert dirty.isfinite().all() and torch.equal(clean, dirty)
    for gradient in (results[1][3], results[1][5]):
        assert (gradient[~there] == 0).all() and gradient[there].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, h: ((q, k, v, h), {"mask": MASK.tolist()}), "attend: mask must be a tensor, got list"),
        (lambda q, k, v, h: ((q, k, v, h), {"mask": MASK.numpy()}), "attend: mask must be a tensor, got ndarray"),
        (lambda q, k, v, h: ((q, k.numpy(), v, h), {}), "attend: keys must be a tensor, got ndarray"),
        (lambda q, k, v, h: ((q, k, v, h), {"lengths": [1, 2, 3]}), "attend: lengths must be a tensor, got list"),
    ],
)
def test_only_tensors(make, change, message):
    args, options = change(*make("attend")[:4])
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        ops.attend(*args, **options)
