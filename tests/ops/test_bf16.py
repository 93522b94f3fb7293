"""Products of factors rounded to bfloat16."""

import pytest
import torch

from aligndraw import ops
from aligndraw.backends import ISAS, best_isa, missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("product", "cpp", "cpu")), reason="no C++ ops here")


def product(left, right, isa):
    if ISAS.index(isa) > ISAS.index(best_isa()):
        pytest.skip(f"no {isa} here")
    return ops.product(left, right, True, isa)


@pytest.mark.parametrize("isa", ISAS)
def test_rounding_is_to_the_nearest_and_what_is_not_a_number_stays_so(isa):
    steps = torch.arange(2**16, dtype=torch.int64) * 65521 + 0x3F000000  # all kinds of last bits
    values = (steps % 0x7F000000).to(torch.int32).view(torch.float32)
    values = torch.cat([values, -values, torch.tensor([float("inf"), -float("inf"), float("nan"), 1 + 2**-8])])
    values = values[(values == 0) | ~(values.abs() < 2e-38)]  # tiles take subnormal numbers for 0
    rounded = product(values[:, None], torch.ones(1, 1), isa)[:, 0]
    assert torch.equal(rounded.nan_to_num(7), values.bfloat16().float().nan_to_num(7))
    assert rounded.isnan().sum() == 1
