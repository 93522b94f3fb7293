"""The C++ products of matrices, by each ISA that this machine has."""

import os
import subprocess
import sys

import pytest
import torch

from aligndraw import ops
from aligndraw.backends import ISAS, best_isa, missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("product", "cpp", "cpu")), reason="no C++ ops here")

SIZES = [(100, 130, 70), (33, 17, 65), (64, 32, 2100), (300, 20, 31), (1, 1, 1), (5, 7, 3), (0, 3, 2), (3, 0, 2),
         (3, 2, 0)]  # fmt: skip
PRECISIONS = ["float32", "bf16", "float64"]
by_isa = pytest.mark.parametrize("isa", ISAS)
in_precision = pytest.mark.parametrize("precision", PRECISIONS)


def product(left, right, isa, bf16=False):
    if ISAS.index(isa) > ISAS.index(best_isa()):
        pytest.skip(f"no {isa} here")
    return ops.product(left, right, bf16, isa)


def error(result, truth):
    return 0.0 if truth.numel() == 0 else ((result - truth).abs().max() / truth.abs().max()).item()


def factors(m, n, k, precision):
    torch.manual_seed(0)
    dtype = torch.float64 if precision == "float64" else torch.float32
    return torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@by_isa
@in_precision
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("strides", ["rows", "left by columns", "right by columns", "every other"])
def test_errs_as_pytorch_does(isa, precision, size, strides):
    """Of as many terms in the same precision, PyTorch's own product sets the measure."""
    m, n, k = size
    left, right = factors(m, n, k, precision)
    if strides == "left by columns":
        left = left.mT.contiguous().mT
    if strides == "right by columns":
        right = right.mT.contiguous().mT
    if strides == "every other":
        left, right = (torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0] for t in (left, right))
    rounded = [t.bfloat16().to(t.dtype) if precision == "bf16" else t for t in (left, right)]
    truth = rounded[0].double() @ rounded[1].double().mT
    if precision == "float64":
        measure = 1e-15 * k
    else:
        measure = 2 * error(rounded[0] @ rounded[1].mT, truth) + 4 * torch.finfo(torch.float32).eps
    result = product(left, right, isa, precision == "bf16")
    assert result.dtype == left.dtype and result.shape == truth.shape
    if k == 0:
        assert not result.any()
    else:
        assert error(result, truth) <= measure


@by_isa
@in_precision
def test_bits_depend_neither_on_threads_nor_on_other_rows(isa, precision, threads):
    """From one row up, in sums of several blocks."""
    left, right = factors(301, 190, 1300, precision)
    bf16, found = precision == "bf16", []
    for count in (1, 2, 3):
        threads(count)
        found.append(product(left, right, isa, bf16))
        for first, rows in ((0, 1), (17, 1), (40, 2), (299, 2), (100, 5), (3, 100), (150, 129)):
            part = product(left[first : first + rows], right, isa, bf16)
            assert torch.equal(part, found[0][first : first + rows])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_fused_multiply_adds_give_the_same_bits_by_every_isa():
    left, right = factors(37, 90, 700, "float32")
    found = [product(left, right, isa) for isa in ISAS[1 : ISAS.index(best_isa()) + 1]]
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_refuses():
    ones, op = torch.ones(2, 3), torch.ops.aligndraw.product
    for arguments, message in (
        ((ones, torch.ones(2, 4), True, 0), r"right must have shape \[n, k\] = \[n, 3\], got \[2, 4\]"),
        ((ones.double(), ones.double(), True, 0), "left must be float32, got float64"),
        ((ones.half(), ones.half(), False, 0), "left must be float32 or float64, got float16"),
        ((ones, ones.double(), False, 0), "right must be float32 like left, got float64"),
        ((ones, ones, False, 7), r"isa must be in 0 \.\.\. "),
        ((ones, ones, False, 0, 0), "times must be at least 1, got 0"),
    ):
        with pytest.raises(RuntimeError, match="product: " + message):
            op(*arguments)


def in_process(folder, isa, code):
    """Runs code outside the checkout, whose folder of the package has no compiled library."""
    environment = {**os.environ, "ALIGNDRAW_ISA": isa}
    command = [sys.executable, "-c", f"import torch, aligndraw.ops\n{code}"]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_the_environment_forces_an_isa(tmp_path):
    done = in_process(tmp_path, "portable", "print(aligndraw.backends.served_isa(), aligndraw.ops.rounds_fast('cpu'))")
    assert done.stdout.split() == ["portable", "False"], done.stderr


def test_the_environment_cannot_force_what_is_not_there(tmp_path):
    best = ISAS.index(best_isa())
    missing = ISAS[best + 1] if best + 1 < len(ISAS) else "sse9"
    says = "must be portable, avx2, avx512, avx512_bf16 or amx, got sse9"
    if missing != "sse9":
        says = f"is {missing}, which this machine lacks: it has {ISAS[best]}, unset ALIGNDRAW_ISA to use it"
    done = in_process(tmp_path, missing, "aligndraw.backends.served_isa()")
    assert done.stderr.splitlines()[-1] == f"RuntimeError: ALIGNDRAW_ISA {says}"


def test_linear_has_all_derivatives():
    """First and second ones are products too; forward mode, transforms and autocast get PyTorch's."""
    torch.manual_seed(0)
    inputs, weight = (torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((2, 3, 5), (4, 5)))
    assert torch.equal(ops.linear(inputs[:0], weight), torch.empty(0, 3, 4, dtype=torch.float64))
    torch.testing.assert_close(ops.linear(inputs, weight), inputs @ weight.mT, rtol=1e-14, atol=1e-14)
    assert torch.autograd.gradcheck(ops.linear, (inputs, weight), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ops.linear, (inputs, weight))
    stacked = torch.func.vmap(ops.linear, (0, None))(inputs, weight)
    torch.testing.assert_close(stacked, inputs @ weight.mT, rtol=1e-14, atol=1e-14)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.linear(inputs.float(), weight.float()).dtype == torch.bfloat16


def test_linear_and_its_gradients_have_the_same_bits_on_any_number_of_threads():
    torch.manual_seed(0)
    inputs, weight, grad = (torch.randn(s) for s in ((130, 12, 70), (90, 70), (130, 12, 90)))
    inputs.requires_grad_(), weight.requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result = ops.linear(inputs, weight)
            found.append([result, *torch.autograd.grad(result, (inputs, weight), grad)])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert torch.equal(ops.linear(inputs[7:8], weight), found[0][0][7:8])


@by_isa
@in_precision
@pytest.mark.parametrize("count", [1, 2])
def test_zeros_at_the_ends_of_a_factor_are_left_out(isa, precision, count, threads):
    """Blocks of zeros cost nothing and change nothing. The tiles of AMX multiply them."""
    threads(count)
    left, right = factors(37, 190, 1300, precision)
    right[:64, 300:], right[64:128, :700], right[128:160] = 0, 0, 0
    right[:, :5], right[:, 1001:] = 0, 0  # in the middle of a pair of bfloat16
    bf16 = precision == "bf16"
    result = product(left, right, isa, bf16)
    rounded = [t.bfloat16().double() if bf16 else t.double() for t in (left, right)]
    assert error(result, rounded[0] @ rounded[1].mT) <= (1e-13 if precision == "float64" else 1e-6)
    assert (result[:, 128:160] == 0).all()
    if bf16 and isa == "amx":
        return
    left[:, :4], left[:, 1002:] = torch.inf, torch.nan
    assert torch.equal(product(left, right, isa, bf16), result)
