"""Products of factors rounded to bfloat16."""

import pytest
import torch

from aligndraw.backends import missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++ ops here")

UNITS = ["portable", "avx2", "avx512", "avx512_bf16", "amx"]
SIZES = [(100, 130, 70), (33, 17, 65), (64, 32, 2100), (1, 1, 1), (5, 7, 3), (0, 3, 2), (3, 0, 2), (3, 2, 0)]


def error(result, truth):
    return 0.0 if truth.numel() == 0 else ((result - truth).abs().max() / truth.abs().max()).item()


def product(left, right, unit):
    if UNITS.index(unit) > torch.ops.aligndraw.best_isa():
        pytest.skip(f"no {unit} here")
    return torch.ops.aligndraw.product(left, right, True, UNITS.index(unit))


@pytest.mark.parametrize("strides", ["rows", "left by columns", "right by columns", "every other"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("unit", UNITS)
def test_product(unit, size, strides):
    """As exact as sums in float32 are: of equally many terms, PyTorch's own product sets the measure."""
    torch.manual_seed(0)
    m, n, k = size
    left, right = torch.randn(m, 2 * k), torch.randn(n, 2 * k)
    left, right = (t[:, ::2] if strides == "every other" else t[:, :k].contiguous() for t in (left, right))
    if strides == "left by columns":
        left = left.mT.contiguous().mT
    if strides == "right by columns":
        right = right.mT.contiguous().mT
    left_rounded, right_rounded = left.bfloat16(), right.bfloat16()
    truth = left_rounded.double() @ right_rounded.double().mT
    single = left_rounded.float() @ right_rounded.float().mT
    result = product(left, right, unit)
    assert result.dtype == torch.float32 and result.shape == truth.shape
    if k == 0:
        assert not result.any()
    else:
        assert error(result, truth) <= 2 * error(single, truth) + 4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("unit", UNITS)
def test_rounding_is_to_the_nearest_and_what_is_not_a_number_stays_so(unit):
    steps = torch.arange(2**16, dtype=torch.int64) * 65521 + 0x3F000000  # all kinds of last bits
    values = (steps % 0x7F000000).to(torch.int32).view(torch.float32)
    values = torch.cat([values, -values, torch.tensor([float("inf"), -float("inf"), float("nan"), 1 + 2**-8])])
    values = values[(values == 0) | ~(values.abs() < 2e-38)]  # tiles take subnormal numbers for 0
    rounded = product(values[:, None], torch.ones(1, 1), unit)[:, 0]
    assert torch.equal(rounded.nan_to_num(7), values.bfloat16().float().nan_to_num(7))
    assert rounded.isnan().sum() == 1


def test_refuses():
    with pytest.raises(RuntimeError, match=r"right must have shape \[n, k\] = \[n, 3\], got \[2, 4\]"):
        torch.ops.aligndraw.product(torch.ones(2, 3), torch.ones(2, 4), True, 0)
    with pytest.raises(RuntimeError, match="left must be float32, got float64"):
        torch.ops.aligndraw.product(torch.ones(2, 3).double(), torch.ones(2, 3).double(), True, 0)
    with pytest.raises(RuntimeError, match="isa must be in 0"):
        torch.ops.aligndraw.product(torch.ones(2, 3), torch.ones(2, 3), True, 7)
