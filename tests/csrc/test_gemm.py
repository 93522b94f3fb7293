"""The kernels of csrc/cpu/gemm_kernels.h, each ISA's that this machine has: every size, and every bit.

Each array ends where a page begins that nobody may touch, which no sanitizer would notice for a vector's masked lanes.
"""

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import native  # of build_backend: the library's own compiler flags
import numpy as np
import pytest
import torch
from guarded import strided
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aligndraw.backends import ISAS, best_isa, missing_reason

pytestmark = [
    pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="the C++ ops are not built"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
]
CSRC = Path(__file__).parents[2] / "csrc"
STRIP = 16
KERNELS = [("float64", isa) for isa in ISAS[:1]] + [("float32", isa) for isa in ISAS[:3]] + [("bf16", "avx512_bf16")]
kernels = pytest.mark.parametrize("number, isa", KERNELS)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemm")
    flags = [*native.CXX_FLAGS, *native.MATH_FLAGS, native.STABLE_ABI, "-fvisibility=default"]
    include = ["-I", CSRC, "-isystem", Path(torch.__file__).parent / "include"]
    sources = [Path(__file__).with_name("gemm.cpp"), *sorted(CSRC.glob("cpu/*_gemm.cpp"))]
    objects = [folder / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as jobs:
        commands = [["g++", *flags, *include, "-c", source, "-o", to] for source, to in zip(sources, objects)]
        list(jobs.map(partial(subprocess.run, check=True), commands))
    subprocess.run(["g++", "-shared", *objects, "-o", folder / "gemm.so"], check=True)
    return ctypes.CDLL(str(folder / "gemm.so"))


def most_strips(library, number, isa):
    if ISAS.index(isa) > ISAS.index(best_isa()):
        pytest.skip(f"no {isa} here")
    return library[f"panel_{number}_strips"](ctypes.c_int64(ISAS.index(isa)))


def bfloat16_bits(numbers):
    """Of numbers that are bfloat16 already."""
    return (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint32)


def multiply(library, number, isa, left, right, begin=None, padding=0, turned=False):
    """left rightᵀ, [m, k] and [n, k] with n in one panel; with `turned` the left factor stands by columns."""
    (m, k), n = left.shape, len(right)
    strips = -(-n // STRIP)
    dtype = np.dtype("float64" if number == "float64" else "float32")
    if number == "bf16":
        left, right = (np.pad(a, [(0, 0), (0, k % 2)]) for a in (left, right))
        pairs = (bfloat16_bits(a[:, ::2]) | bfloat16_bits(a[:, 1::2]) << 16 for a in (left, right))
        left, right = (a.view(np.float32) for a in pairs)
    depth = left.shape[1]
    panel = np.zeros((depth, strips * STRIP), dtype)
    panel[:, :n] = right.T
    strides = (1, m + padding) if turned else (depth + padding, 1)
    left_memory, _ = strided((m, depth), strides, dtype, left)
    panel_memory, _ = strided(panel.shape, (strips * STRIP, 1), dtype, panel)
    result_memory, result = strided((m, n), (n + padding, 1), dtype, begin)
    integers = [ctypes.c_int64(i) for i in (ISAS.index(isa), strips)]
    library[f"panel_{number}"](
        *integers, left_memory.pointer, *map(ctypes.c_int64, strides), ctypes.c_int64(m), panel_memory.pointer,
        ctypes.c_int64(depth), result_memory.pointer, ctypes.c_int64(n + padding), ctypes.c_int64(n),
        ctypes.c_bool(begin is not None),
    )  # fmt: skip
    between = np.isnan(result_memory.array).sum() - np.isnan(result).sum()
    assert between == (m - 1) * padding  # nothing is written between the rows
    return result


@kernels
@settings(deadline=None, max_examples=120)
@given(
    rows=st.integers(1, 40), depth=st.integers(0, 40), columns=st.integers(1, 64), padding=st.sampled_from([0, 3]),
    accumulate=st.booleans(), turned=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@example(rows=13, depth=3, columns=64, padding=0, accumulate=False, turned=False, seed=0)
@example(rows=17, depth=5, columns=47, padding=3, accumulate=True, turned=True, seed=0)
def test_whole_numbers(library, number, isa, rows, depth, columns, padding, accumulate, turned, seed):
    """Small ones, so that every order of a sum gives the same."""
    columns = min(columns, STRIP * most_strips(library, number, isa))
    numbers = np.random.default_rng(seed)
    left, right, begin = (
        numbers.integers(-8, 9, shape).astype(np.float64)
        for shape in ((rows, depth), (columns, depth), (rows, columns))
    )
    expected = left @ right.T + accumulate * begin
    result = multiply(library, number, isa, left, right, begin if accumulate else None, padding, turned)
    np.testing.assert_array_equal(result, expected)


def fused(a, b, c):
    """a b + c, rounded once."""
    libm = ctypes.CDLL("libm.so.6")
    libm.fmaf.restype, libm.fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    return np.vectorize(libm.fmaf, otypes=[np.float32])(a, b, c)


@pytest.mark.parametrize("number, isa", [("float32", "avx2"), ("float32", "avx512"), ("bf16", "avx512_bf16")])
def test_every_element_is_one_chain_of_fused_multiply_adds(library, number, isa):
    """In the order of k; of pairs rounded to bfloat16, the second number first."""
    most = most_strips(library, number, isa)
    numbers = np.random.default_rng(0)
    left, right = (numbers.standard_normal((n, 30)).astype(np.float32) for n in (7, STRIP * most - 3))
    order = range(30)
    if number == "bf16":
        left, right = (torch.from_numpy(a).bfloat16().float().numpy() for a in (left, right))
        order = [k ^ 1 for k in order]
    expected = np.zeros((len(left), len(right)), np.float32)
    for k in order:
        expected = fused(left[:, k : k + 1], right[:, k], expected)
    assert multiply(library, number, isa, left, right).tobytes() == expected.tobytes()


@kernels
@pytest.mark.parametrize("special", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_row(library, number, isa, special):
    most_strips(library, number, isa)
    left, right = np.ones((5, 7)), np.full((11, 7), 2.0)
    left[3, 6] = special
    expected = np.full((5, 11), 14.0)
    expected[3] = special
    np.testing.assert_array_equal(multiply(library, number, isa, left, right), expected)
