"""attend, against Eq. 6 and 7 evaluated one number at a time."""

import math

import pytest
import torch

from aligndraw import ops


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
