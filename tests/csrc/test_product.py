"""product() of csrc/cpu/product.h: every size and layout, by each ISA that this machine has.

Numbers are small and whole, so that every order of a sum gives the same. Each array ends where a page begins that
nobody may touch, which no sanitizer would notice for a vector's masked lanes.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import native  # of build_backend: the library's own compiler flags
import numpy as np
import pytest
import torch
from guarded import strided
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aligndraw.backends import ISAS, missing_reason

pytestmark = [
    pytest.mark.skipif(bool(missing_reason("read", "cpp", "cpu")), reason="the C++ ops are not built"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
]
CSRC = Path(__file__).parents[2] / "csrc"


@pytest.fixture(scope="module", params=ISAS[:3])
def library(request, tmp_path_factory):
    """product_float32 and product_float64 in the vectors of one ISA."""
    if ISAS.index(request.param) > torch.ops.aligndraw.best_isa():
        pytest.skip(f"no {request.param} here")
    path = tmp_path_factory.mktemp("product") / "product.so"
    flags = [*native.CXX_FLAGS, *native.MATH_FLAGS, "-fvisibility=default", f'-DSIMD="cpu/{request.param}_simd.h"']
    source = Path(__file__).with_name("product.cpp")
    subprocess.run(["g++", *flags, "-I", CSRC, "-shared", source, "-o", path], check=True)
    return ctypes.CDLL(str(path))


sizes = st.integers(1, 40)
layouts = st.sampled_from(["rows", "columns", "apart"])
starts = st.sampled_from(["none", "another", "the result"])


@settings(deadline=None, max_examples=300)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    rows=sizes,
    depth=st.integers(0, 40),
    width=st.one_of(sizes, st.sampled_from([8, 16, 24, 32])),
    layout=layouts,
    padding=st.sampled_from([0, 0, 3]),
    start=starts,
    seed=st.integers(0, 99),
)
# The products of a glimpse of 8x8 and of 9x9.
@example("float32", 60, 60, 8, "rows", 0, "the result", 0)
@example("float32", 60, 8, 8, "columns", 0, "the result", 0)
@example("float32", 8, 60, 60, "columns", 0, "none", 0)
@example("float32", 9, 32, 32, "columns", 7, "none", 0)
@example("float32", 32, 32, 16, "rows", 0, "the result", 0)
def test_product(library, dtype, rows, depth, width, layout, padding, start, seed):
    numbers = np.random.default_rng(seed)

    def whole(*shape):
        return numbers.integers(-8, 9, shape)

    stride = width + padding
    row, column = {
        "rows": (depth + padding, 1),
        "columns": (1, rows + padding),
        "apart": (2 * depth + padding, 2),
    }[layout]
    a_memory, a = strided((rows, depth), (row, column), dtype, whole(rows, depth))
    b_memory, b = strided((depth, width), (stride, 1), dtype, whole(depth, width))
    begin = None if start == "none" else whole(rows, width)
    in_place = start == "the result" and width % 8 == 0
    result_memory, result = strided((rows, width), (stride, 1), dtype, begin if in_place else None)
    start_memory, _ = (result_memory, None) if in_place else strided((rows, width), (stride, 1), dtype, begin)
    expected = a.astype(np.int64) @ b.astype(np.int64) + (0 if begin is None else begin)

    integers = [ctypes.c_int64(n) for n in (row, column, stride, rows, depth, width)]
    library[f"product_{dtype}"](
        a_memory.pointer, *integers[:2], b_memory.pointer, integers[2], result_memory.pointer, integers[2],
        *integers[3:], None if begin is None else start_memory.pointer,
    )  # fmt: skip
    np.testing.assert_array_equal(result, expected)
    assert np.isnan(result_memory.array).sum() == (rows - 1) * padding


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("special", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_row(library, layout, special):
    """For an odd number of terms too, where a pair of them is half empty."""
    shape, depth = (5, 7), 7
    row, column = (7, 1) if layout == "rows" else (1, 5)
    a_memory, a = strided(shape, (row, column), "float32", 1)
    b_memory, _ = strided((depth, 8), (8, 1), "float32", 2)
    result_memory, result = strided((5, 8), (8, 1), "float32", None)
    a[3, 6] = special
    integers = [ctypes.c_int64(n) for n in (row, column, 8, 8, 5, depth, 8)]
    library.product_float32(
        a_memory.pointer, *integers[:2], b_memory.pointer, integers[2], result_memory.pointer, *integers[3:], None
    )
    expected = np.full((5, 8), 14.0)
    expected[3] = special
    np.testing.assert_array_equal(result, expected)
