"""The plain PyTorch of docs/ops.md equals the ops on odd shapes, in values and in gradients."""

import pytest
import torch
from pages import run

from aligndraw import ops


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return run("docs/ops.md")


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def weights(shapes):
    return [normal(*shape) / 3 for shape in shapes]


def loop_arguments(attention, tints=0, opacity=False):
    """Those of `unroll`: sizes that all differ."""
    B, C, H, W, T, N, d, m, z, e, n, p, q = 3, 2, 7, 11, 4, 5, 6, 8, 9, 10, 12, 3, 4
    units = m if attention else 0
    rows = units + 2 * z + (C + opacity) * p**2 + tints * (p**2 + C) + 10
    encoder = weights([(4 * e, 2 * C * q**2 + n), (4 * e, e), (4 * e,), (e,), (2 * z, e), (2 * z,)])
    decoder = weights([(4 * n, z + d), (4 * n, n), (4 * n,), (n,), (rows, n), (rows,)])
    decoder = ops.DecoderWeights(*decoder, normal(m) if attention else None)
    words = normal(B, N if attention else 1, d)
    keys = normal(B, N, m) if attention else None
    lengths = torch.tensor([5, 1, 3])
    pictures = normal(B, C, H, W), normal(C, H, W)
    return *pictures, words, keys, lengths, normal(B, T, z), ops.EncoderWeights(*encoder), decoder, q, p


def arguments(op):
    """Positional arguments of an op: H ≠ W, all kinds of lengths, windows on, off and beyond the image."""
    torch.manual_seed(1)
    window = torch.cat([normal(2, 5) / 4, torch.tensor([[4.0, -6, -2, -1, 0.3], [9, -9, 17, -17, 20]]).double()])
    match op:
        case "read":
            return normal(4, 2, 7, 11), window, 5, normal(4, 2, 7, 11)
        case "read without a canvas":
            return normal(4, 2, 7, 11), window, 1
        case "write":
            return normal(4, 2, 5, 5), window, normal(4, 2, 7, 11)
        case "cover":
            return torch.cat([normal(4, 2, 5, 5), normal(4, 1, 5, 5).sigmoid()], 1), window, normal(4, 2, 7, 11)
        case "attend":
            return normal(4, 6), normal(4, 5, 6), normal(6), normal(4, 5, 3), torch.tensor([5, 1, 0, 9])
        case "attend to all words":
            return normal(4, 6), normal(4, 5, 6), normal(6), normal(4, 5, 3)
        case "attend with a mask":
            mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0] * 5, [1] * 5]).bool()
            return normal(4, 6), normal(4, 5, 6), normal(6), normal(4, 5, 3), None, mask
        case "lstm_gates":
            return normal(3, 20), normal(3, 5)
        case "lstm_cell":
            return normal(3, 7), (normal(3, 5), normal(3, 5)), normal(20, 7), normal(20, 5), normal(20)
        case "latent":
            return tuple(normal(3, 5) for _ in range(5))
        case "lstm_sequence" | "lstm_sequence in reverse":
            lengths = torch.tensor([6, 6, 6])  # a state beyond a caption's length is undefined
            return normal(3, 6, 20), normal(20, 5) / 3, normal(5), lengths, "reverse" in op
        case "unroll" | "unroll without attention" | "unroll with tints" | "unroll with opacity":
            return loop_arguments("without" not in op, **options(op))
        case (
            "unroll_prior" | "unroll_prior without attention" | "unroll_prior with tints" | "unroll_prior with opacity"
        ):
            _, *before, _, decoder, _, size = loop_arguments("without" not in op, **options(op))
            return *before, decoder, size
    raise ValueError(op)


def options(case):
    """Arguments by name."""
    return {"tints": 2} if "tints" in case else {"opacity": True} if "opacity" in case else {}


CASES = [
    "read", "read without a canvas", "write", "cover", "attend", "attend to all words", "attend with a mask",
    "lstm_gates", "lstm_cell", "latent", "lstm_sequence", "lstm_sequence in reverse", "unroll",
    "unroll without attention", "unroll with tints", "unroll with opacity", "unroll_prior",
    "unroll_prior without attention", "unroll_prior with tints", "unroll_prior with opacity",
]  # fmt: skip


def flat(values):
    """Returns the tensors of nested tuples, in order."""
    if isinstance(values, torch.Tensor):
        return [values]
    return [t for v in values for t in flat(v)] if isinstance(values, (tuple, list)) else []


def values_and_gradients(function, args, **options):
    inputs = [t.requires_grad_() for t in flat(args) if t.is_floating_point()]
    outputs = flat(function(*args, **options))
    random = torch.Generator().manual_seed(2)
    loss = sum((torch.randn(o.shape, dtype=torch.float64, generator=random) * o).sum() for o in outputs)
    return outputs, torch.autograd.grad(loss, inputs, allow_unused=True)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_op(case, plain):
    name = case.split()[0]
    found, found_gradients = values_and_gradients(getattr(ops, name), arguments(case), **options(case))
    wanted, wanted_gradients = values_and_gradients(plain[f"plain_{name}"], arguments(case), **options(case))
    assert len(found) == len(wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    for one, other in zip(found_gradients, wanted_gradients):
        one, other = (torch.zeros(()).double() if g is None else g for g in (one, other))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_every_differentiable_op_has_its_case():
    assert {case.split()[0] for case in CASES} == {*ops.OPS, *ops.LOOPS, "cover", "lstm_cell"}


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_sequence_of_captions_of_different_lengths(reverse, plain):
    inputs, weight_hh, h0, _, _ = arguments("lstm_sequence")
    lengths = torch.tensor([6, 1, 4])
    states, last = ops.lstm_sequence(inputs, weight_hh, h0, lengths, reverse)
    wanted, wanted_last = plain["plain_lstm_sequence"](inputs, weight_hh, h0, lengths, reverse)
    torch.testing.assert_close(last, wanted_last, rtol=1e-9, atol=1e-9)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(states[row, :length], wanted[row, :length], rtol=1e-9, atol=1e-9)
