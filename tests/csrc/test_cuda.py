"""The CUDA ops, run on CPU tensors in a stand-in for the CUDA runtime that watches for races (tests/emulation)."""

import os
import re
import shutil
import subprocess
import sys

import cuda_cases
import emulated_cuda
import pytest
import torch
from exactness import converted

from aligndraw import ops

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(emulated_cuda.compiler()) is None, reason="g++ on Linux is not here"
)

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CASES = [
    pytest.param(op, shape, window, id=f"{op}-{shape}-{window}")
    for op in ops.OPS
    for shape in cuda_cases.shapes(op)
    for window in (cuda_cases.WINDOWS if op in ("read", "write") else ("none",))
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "shape", "window"), CASES)
def test_as_exact_as_the_reference(emulation, op, shape, window, dtype):
    args = cuda_cases.arguments(op, shape, dtype, window)
    cuda_cases.check(op, args)
    if op == "read":
        cuda_cases.check(op, args[:3])


@pytest.mark.parametrize("op", ops.OPS)
def test_the_same_bits_in_any_order_of_threads(emulation, op):
    for shape in cuda_cases.shapes(op):
        args = cuda_cases.arguments(op, shape, torch.float32)
        first = cuda_cases.of_kernel(op, args)
        for order in (-1, 1, 2, 3):
            emulation.order(order)
            for a, b in zip(cuda_cases.of_kernel(op, args), first, strict=True):
                assert torch.equal(a, b)
        emulation.order(0)


@pytest.mark.parametrize("op", ops.OPS)
def test_mixed_dtypes(emulation, op):
    """Each argument in another precision, the result in that of the contract."""
    kinds = (torch.bfloat16, torch.float32, torch.float16)
    for first in range(3):
        args = list(cuda_cases.arguments(op, "odd", torch.float32))
        floating = [i for i, a in enumerate(args) if cuda_cases.is_floating(a)]
        for number, i in enumerate(floating):
            args[i] = args[i].to(kinds[(first + number) % 3])
        cuda_cases.check(op, args)


@pytest.mark.parametrize("op", ops.OPS)
def test_strides_do_not_matter(emulation, op):
    args = cuda_cases.arguments(op, "odd")
    strided = [a.mT.contiguous().mT if cuda_cases.is_floating(a) and a.dim() > 1 else a for a in args]
    assert not strided[0].is_contiguous()
    for a, b in zip(cuda_cases.of_kernel(op, args), cuda_cases.of_kernel(op, strided), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("op", ["read", "write"])
def test_filters_of_one_pixel_each(emulation, op):
    """1 minus the sum of a filter, 1e-4 here, was what a subtraction left: a window's gradient was 1e-4 off."""
    torch.manual_seed(0)
    window = torch.tensor([[2**-14, -(2**-14), -16.0, 0.0, 0.0]])
    image, patch = torch.rand(1, 1, 7, 7), torch.rand(1, 1, 3, 3)
    args = (image, window, 3) if op == "read" else (patch, window, image)
    ours, truth = cuda_cases.of_kernel(op, args)[2], cuda_cases.of_reference(op, converted(args, torch.float64))[2]
    assert (ours / truth - 1).abs().max() < 1e-5


def test_lengths_outside_a_caption_are_clamped(emulation):
    query, keys, score, values, _ = cuda_cases.arguments("attend", "odd")
    wild, clamped = torch.tensor([-3, 0, 99]), torch.tensor([1, 1, 5])
    found = [cuda_cases.of_kernel("attend", (query, keys, score, values, n)) for n in (wild, clamped)]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    weights = found[0][1]
    assert (weights[:2, 1:] == 0).all() and (weights[2] > 0).all()


def test_words_beyond_a_caption_cannot_show(emulation):
    query, keys, score, values, _ = cuda_cases.arguments("attend", "odd")
    keys[:, 2:], values[:, 2:] = torch.nan, torch.nan
    for result in cuda_cases.of_kernel("attend", (query, keys, score, values, torch.tensor([2, 1, 2]))):
        assert result.isfinite().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("op", ops.OPS)
def test_what_is_not_finite_shows_as_in_the_reference(emulation, op, value):
    args = list(cuda_cases.arguments(op, "odd", torch.float32, "off_image"))
    if op == "attend":  # the reference's weights of words that are not there are not 0 then
        args[-1] = torch.full_like(args[-1], args[1].shape[1])
    for index, argument in enumerate(args):
        if not cuda_cases.is_floating(argument):
            continue
        broken = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
        broken[index].view(-1)[0] = value
        outputs = len(cuda_cases.as_tuple(getattr(ops, f"{op}_reference")(*args)))
        ours, theirs = (f(op, broken)[:outputs] for f in (cuda_cases.of_kernel, cuda_cases.of_reference))
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.isinf(), b.isinf()), index


def test_only_the_gradients_that_are_wanted(emulation):
    image, window, size, _ = cuda_cases.arguments("read", "odd")
    grad = torch.ones(3, 2, 4, 4, dtype=torch.float64)
    found = cuda_cases.emulated("read_backward")(grad, image, window, size, None, False)
    assert [g.numel() for g in found] == [0, 15, 0]


@pytest.mark.parametrize("op", ops.OPS)
def test_arguments_are_checked(emulation, op):
    args = list(cuda_cases.arguments(op, "odd"))
    args[0] = args[0][:2]
    with pytest.raises(RuntimeError) as theirs:
        getattr(ops, op)(*args)
    with pytest.raises(RuntimeError, match=f"^{re.escape(str(theirs.value))}$"):
        cuda_cases.emulated(op)(*args)


@pytest.mark.parametrize(
    ("op", "of", "shapes"),
    [
        ("read", "the pixels of an image", [(1, 1, 2**15, 2**15 + 1), (1, 5)]),
        ("write", "the pixels of an image", [(1, 1, 2, 2), (1, 5), (1, 1, 2**15, 2**15 + 1)]),
        ("write", "the numbers of a patch", [(1, 1, 2**15, 2**15), (1, 5), (1, 1, 2, 2)]),
        ("write", "the channels of all glimpses", [(2**15, 2**15, 1, 1), (2**15, 5), (2**15, 2**15, 1, 1)]),
        ("attend", "the keys of a caption", [(1, 2**16), (1, 2**15, 2**16), (2**16,), (1, 2**15, 1)]),
        ("attend", "the values of a caption", [(1, 1), (1, 2**15, 1), (1,), (1, 2**15, 2**16)]),
    ],
)
def test_items_that_32_bits_cannot_number_are_named(emulation, op, of, shapes):
    args = [torch.zeros(()).expand(shape) for shape in shapes]
    args += {"read": [3, None], "write": [], "attend": [torch.ones(1, dtype=torch.int64)]}[op]
    with pytest.raises(RuntimeError, match=rf"^{op}: on a GPU {of} must be at most 2\*\*30, got \d+$"):
        cuda_cases.emulated(op)(*args)


@pytest.mark.parametrize(("file", "line"), emulated_cuda.barriers(of_loops=False))
def test_no_barrier_can_be_left_out(emulation, file, line):
    emulation.leave_out(f"/{file}", line)
    with pytest.raises(RuntimeError, match="CUDA: (race|uninitialised shared memory)"):
        for op, args in cuda_cases.every_case(["odd", "many", "long"], [torch.float32]):
            cuda_cases.of_kernel(op, args)


def test_addresses_and_undefined_behaviour():
    """The same under those sanitizers. (They must be there when a process starts.)"""
    emulated_cuda.library("asan")
    script = emulated_cuda.HERE / "run_sanitized.py"
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, **emulated_cuda.preloads(), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d{3} cases\n", done.stdout)
