"""Products of factors rounded to bfloat16."""

import pytest
import torch
from exactness import allowed, error_of, reference_errors

from aligndraw.backends import missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++ ops here")

UNITS = ["any processor", "AMX"]
SIZES = [(100, 130, 70), (33, 17, 65), (64, 32, 2100), (1, 1, 1), (5, 7, 3), (0, 3, 2), (3, 0, 2), (3, 2, 0)]


def product(left, right, unit):
    if UNITS.index(unit) > torch.ops.aligndraw.bf16_unit():
        pytest.skip(f"no {unit} here")
    return torch.ops.aligndraw.bf16_product(left, right, UNITS.index(unit))


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
    rounded = left.bfloat16().float(), right.bfloat16().float()
    truth = rounded[0].double() @ rounded[1].double().mT
    (single,) = reference_errors(lambda factors, jitter: [factors[0] @ factors[1].mT], rounded)
    result = product(left, right, unit)
    assert result.dtype == torch.float32 and result.shape == truth.shape
    if k == 0:
        assert not result.any()
    else:
        assert error_of(result, truth) <= allowed(single, torch.float32)


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
        torch.ops.aligndraw.bf16_product(torch.ones(2, 3), torch.ones(2, 4), 0)
    with pytest.raises(RuntimeError, match="left must be float32, got float64"):
        torch.ops.aligndraw.bf16_product(torch.ones(2, 3).double(), torch.ones(2, 3), 0)
    with pytest.raises(RuntimeError, match="unit must be in 0"):
        torch.ops.aligndraw.bf16_product(torch.ones(2, 3), torch.ones(2, 3), 7)
