"""The update rule for matrices in C++."""

import pytest
import torch

from aligndraw import ops
from aligndraw.backends import ISAS, best_isa, missing_reason
from aligndraw.ops import orthogonal

pytestmark = pytest.mark.skipif(bool(missing_reason("muon_", "cpp", "cpu")), reason="no C++ ops here")

SHAPES = [(40, 30), (30, 40), (1, 5), (5, 1), (1, 1), (64, 64), (65, 33), (100, 257), (0, 3)]


def muon_(parameters, momenta, gradients, steps, isa="portable"):
    if ISAS.index(isa) > ISAS.index(best_isa()):
        pytest.skip(f"no {isa} here")
    torch.ops.aligndraw.muon_(parameters, momenta, gradients, 0.95, steps, ISAS.index(isa))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_step(isa, shape):
    """It errs no more than twice as much as PyTorch's products in bfloat16; the momentum is exact to rounding.

    The sum of ten draws: PyTorch may be exact by luck.
    """
    ours = theirs = 0.0
    for seed in range(10):
        torch.manual_seed(seed)
        p, m, g = torch.randn(3, *shape).unbind()
        before, momentum = p.clone(), m.double().lerp(g.double(), 0.05)
        ahead = g.double().lerp(momentum, 0.95)
        muon_([p], [m], [g], [0.5], isa)
        assert torch.allclose(m.double(), momentum, rtol=1e-6, atol=1e-6)
        truth, half = orthogonal(ahead), orthogonal(ahead.float(), torch.bfloat16).double()
        ours += (2 * (before - p).double() - truth).norm().item()
        theirs += (half - truth).norm().item()
    assert ours <= 2 * theirs + 40 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("isa", ISAS)
def test_several_in_the_same_bits_by_any_number_of_threads(isa):
    torch.manual_seed(0)
    shapes = [(70, 40), (40, 200), (3, 2)]
    starts = [[torch.randn(shape) for shape in shapes] for _ in range(3)]
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            parameters, momenta, gradients = ([t.clone() for t in tensors] for tensors in starts)
            muon_(parameters, momenta, gradients, [0.1, 0.2, 0.3], isa)
            results.append(parameters + momenta)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))
    alone = [t[0].clone() for t in starts]
    muon_([alone[0]], [alone[1]], [alone[2]], [0.1], isa)
    assert torch.equal(alone[0], results[0][0])


@pytest.mark.skipif(best_isa() == "portable", reason="PyTorch's products are faster here")
@pytest.mark.parametrize("shape", [(37, 90), (130, 66)], ids=str)
def test_a_step_in_float32_has_the_same_bits_by_any_number_of_threads(shape):
    """With PyTorch's products it has not, on some processors. It errs no more than twice as much as with them."""
    torch.manual_seed(0)
    p, m, g = torch.randn(3, *shape).unbind()
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            changed, momentum = p.clone(), m.clone()
            ops.muon_([changed], [momentum], [g], 0.95, [1.0])
            results.append(changed)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    ahead = torch.lerp(g, momentum, 0.95)
    truth = orthogonal(ahead.double())
    ours, theirs = ((t.double() - truth).abs().max().item() for t in (p - results[0], orthogonal(ahead)))
    assert ours <= 2 * theirs + 8 * torch.finfo(torch.float32).eps * p.abs().max().item()


def test_no_gradient_no_step():
    p, m = torch.randn(9, 4), torch.zeros(9, 4)
    before = p.clone()
    muon_([p], [m], [torch.zeros(9, 4)], [1.0])
    assert torch.equal(p, before) and not m.any()


@pytest.mark.parametrize("skipped", [True, False])
def test_found_inf_skips_it(skipped):
    p, m, g = torch.randn(9, 4), torch.randn(9, 4), torch.randn(9, 4)
    before = p.clone(), m.clone()
    if skipped:
        g[3, 2] = torch.nan
    ops.muon_([p], [m], [g], 0.95, [0.1], torch.bfloat16, torch.tensor(float(skipped)))
    assert [torch.equal(p, before[0]), torch.equal(m, before[1])] == [skipped] * 2


def test_refuses():
    good = torch.zeros(3, 2)
    for arguments, message in (
        (([good], [good], [], [1.0]), "momenta, gradients and steps must number 1 like parameters, got 1, 0 and 1"),
        (([good], [good], [good], []), "momenta, gradients and steps must number 1 like parameters, got 1, 1 and 0"),
        (([good[0]], [good], [good], [1.0]), r"parameters must have shape \[rows, columns\], got \[2\]"),
        (([good], [good.mT], [good], [1.0]), r"momenta must have shape \[rows, columns\] = \[3, 2\], got \[2, 3\]"),
        (([good], [good], [good.double()], [1.0]), "gradients must be contiguous float32 tensors on the CPU"),
        (([torch.zeros(2, 3).mT], [good], [good], [1.0]), "parameters must be contiguous float32 tensors on the CPU"),
    ):
        with pytest.raises(RuntimeError, match="muon_: " + message):
            muon_(*arguments)
    with pytest.raises(RuntimeError, match=r"muon_: isa must be in 0 \.\.\. "):
        torch.ops.aligndraw.muon_([good], [good.clone()], [good], 0.95, [1.0], 7)
