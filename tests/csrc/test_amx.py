"""The products of AMX, on any x86-64: the instructions are those of amx/stand_in.cpp.

Each array ends where a page begins that nobody may touch.
"""

import ctypes
import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulated_cuda
import native  # of build_backend: the library's own compiler flags
import numpy as np
import pytest
import torch
from guarded import strided
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aligndraw.backends import ISAS, missing_reason

pytestmark = [
    pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="the C++ ops are not built"),
    pytest.mark.skipif(shutil.which(emulated_cuda.compiler()) is None, reason="g++ is not here"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is of x86-64"),
]
HERE, CSRC = Path(__file__).parent, emulated_cuda.CSRC
AMX, BF16 = ISAS.index("amx"), ISAS.index("avx512_bf16")
KERNEL = CSRC / "cpu/amx_gemm.cpp"
NAMES = "tiles multiply_tiles portable_block round loop pool isa gemm packed left_block".split()
SOURCES = [*(CSRC / f"cpu/{name}.cpp" for name in NAMES), *CSRC.glob("cpu/*_gemm.cpp")]
TORCH = Path(torch.__file__).parent


def compiled(source, optimised="-O1"):
    headers = [*CSRC.glob("*.h"), *CSRC.glob("cpu/*.h"), *CSRC.glob("math/*.h"), *HERE.glob("amx/*.h")]
    command = [emulated_cuda.compiler(), "-std=c++20", optimised, "-fPIC", "-fvisibility=hidden", "-fopenmp-simd", "-w"]
    command += ["-include", str(HERE / "amx/stand_in.h"), "-I", str(CSRC), "-I", str(CSRC / "cpu")]
    command += [native.STABLE_ABI, "-isystem", str(TORCH / "include"), "-c", str(source)]
    return emulated_cuda.made(command, [source, *headers], f"amx-{source.stem}")


def linked(objects):
    libraries = [f"-L{TORCH / 'lib'}", "-ltorch", "-ltorch_cpu"]
    return emulated_cuda.made(
        [emulated_cuda.compiler(), "-shared", *map(str, objects), *libraries], objects, "amx-linked"
    )


@pytest.fixture(scope="module")
def objects():
    """By source."""
    sources = [*SOURCES, HERE / "amx/amx.cpp"]
    with ThreadPoolExecutor(os.cpu_count()) as jobs:
        found = dict(zip(sources, jobs.map(compiled, sources)))
    return {**found, "stand-in": compiled(HERE / "amx/stand_in.cpp", "-O2")}


def loaded(path):
    library = ctypes.CDLL(str(path))
    library.tiles_product.restype = library.exact_then_rounded.restype = ctypes.c_char_p
    return library


@pytest.fixture(scope="module")
def library(objects):
    library = loaded(linked(list(objects.values())))
    library.amx_permit()
    return library


def of_k(values):
    """Pointer and sizes as C takes them."""
    return [ctypes.c_int64(value) for value in values]


def product(library, left, right, isa=AMX, begin=None, padding=0, turned=False, split=0):
    """left rightᵀ of factors rounded to bfloat16, float32 [m, k] and [n, k]; raises what C++ threw."""
    (m, k), n = left.shape, len(right)
    strides = (1, m + padding) if turned else (k + padding, 1)
    left_memory, _ = strided((m, k), strides, "float32", left)
    right_memory, _ = strided((n, k), (k, 1), "float32", right)
    result_memory, result = strided((m, n), (n + padding, 1), "float32", begin)
    error = library.tiles_product(
        *of_k([isa]), result_memory.pointer, *of_k([n + padding]), left_memory.pointer, *of_k(strides),
        right_memory.pointer, *of_k([m, n, k]), ctypes.c_bool(begin is not None), *of_k([split]),
    )  # fmt: skip
    if error:
        raise RuntimeError(error.decode())
    between = np.isnan(result_memory.array).sum() - np.isnan(result).sum()
    assert between == (m - 1) * padding  # nothing is written between the rows
    return result


def whole(seed, *shapes):
    """Small whole numbers, so that every order of a sum gives the same."""
    numbers = np.random.default_rng(seed)
    return [numbers.integers(-8, 9, shape).astype(np.float32) for shape in shapes]


sizes = st.integers(1, 70)


@settings(deadline=None, max_examples=80)
@given(m=sizes, n=sizes, k=sizes, padding=st.sampled_from([0, 3]), accumulate=st.booleans(), turned=st.booleans(),
       two_terms=st.booleans(), seed=st.integers(0, 99))  # fmt: skip
@example(m=1, n=1, k=1, padding=0, accumulate=False, turned=False, two_terms=False, seed=0)
@example(m=16, n=16, k=32, padding=0, accumulate=True, turned=False, two_terms=False, seed=0)
@example(m=17, n=33, k=65, padding=3, accumulate=True, turned=True, two_terms=True, seed=0)
@example(m=64, n=32, k=1030, padding=0, accumulate=False, turned=True, two_terms=True, seed=0)
@example(m=33, n=31, k=2050, padding=1, accumulate=True, turned=False, two_terms=False, seed=0)
def test_whole_numbers(library, m, n, k, padding, accumulate, turned, two_terms, seed):
    left, right, begin = whole(seed, (m, k), (n, k), (m, n))
    result = product(
        library, left, right, AMX, begin if accumulate else None, padding, turned, k // 2 if two_terms else 0
    )
    np.testing.assert_array_equal(result, left @ right.T + accumulate * begin)
    assert library.amx_configured_threads() == 0


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 31), (16, 33, 64), (37, 90, 700), (100, 40, 2100)], ids=str)
def test_errs_as_others_do(library, size):
    """By no more than twice the error of a float32 product, of the portable kernel, and of VDPBF16PS."""
    m, n, k = size
    torch.manual_seed(0)
    left, right = torch.randn(m, k), torch.randn(n, k)
    rounded = [t.bfloat16() for t in (left, right)]
    truth = rounded[0].double() @ rounded[1].double().mT

    def error(result):
        return ((torch.as_tensor(result) - truth).abs().max() / truth.abs().max()).item()

    allowed = 2 * error(rounded[0].float() @ rounded[1].float().mT) + 4 * torch.finfo(torch.float32).eps
    isas = [0, AMX] + [BF16] * (torch.ops.aligndraw.best_isa() >= BF16)
    for isa in isas:
        assert error(product(library, left.numpy(), right.numpy(), isa)) <= allowed, ISAS[isa]


def test_bits_depend_neither_on_threads_nor_on_other_rows(library):
    torch.manual_seed(0)
    left, right = torch.randn(101, 1300).numpy(), torch.randn(70, 1300).numpy()
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(product(library, left, right).tobytes())
            assert library.amx_configured_threads() == 0
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1
    all_rows = np.frombuffer(found[0], np.float32).reshape(101, 70)
    for first, count in ((0, 1), (17, 1), (40, 2), (3, 33), (60, 41)):
        assert (
            product(library, left[first : first + count], right).tobytes() == all_rows[first : first + count].tobytes()
        )


def test_subnormal_numbers_count_as_0(library):
    """Among the factors, and as products and sums."""
    for left, right, expected in (
        ([4.0, 4.0], [2**-127, 2**-126], 2**-124),
        ([2**-70, 2**-60], [2**-70, 2**-60], 2**-120),
        ([2**-63, 0.0], [1.5 * 2**-64, 0.0], 0.0),
    ):
        result = product(library, np.float32([left]), np.float32([right]))
        assert result[0, 0] == expected


@pytest.mark.parametrize("special", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_row(library, special):
    left, right = np.ones((5, 7), np.float32), np.full((11, 7), 2, np.float32)
    left[3, 6] = special
    expected = np.full((5, 11), 14.0)
    expected[3] = special
    np.testing.assert_array_equal(product(library, left, right), expected)


def test_products_are_formed_in_their_order(library):
    """Of exact and of rounded factors in one list: those by tiles went first, and the others overwrote them."""
    left, right = whole(1, (5, 7), (9, 7))
    result_memory, result = strided((5, 9), (9, 1), "float32", None)
    error = library.exact_then_rounded(
        result_memory.pointer, left.ctypes.data_as(ctypes.c_void_p), right.ctypes.data_as(ctypes.c_void_p),
        *of_k([5, 9, 7]),
    )  # fmt: skip
    assert error is None
    np.testing.assert_array_equal(result, 2 * (left @ right.T))


def fresh(path, tmp_path, name):
    """The library as a process finds it that has asked for nothing yet."""
    return loaded(shutil.copy(path, tmp_path / name))


def test_linux_is_asked_before_the_first_tile(objects, tmp_path):
    path = linked(list(objects.values()))
    unasked = fresh(path, tmp_path, "unasked.so")
    with pytest.raises(RuntimeError, match="AMX: Linux has not permitted tiles"):
        product(unasked, *whole(0, (3, 4), (5, 4)))
    assert unasked.amx_configured_threads() == 0
    best = torch.ops.aligndraw.best_isa()
    if best < BF16:
        pytest.skip(f"{ISAS[best]} ends the search for an ISA before AMX here")
    assert unasked.found_isa() == AMX
    left, right = whole(0, (3, 4), (5, 4))
    np.testing.assert_array_equal(product(unasked, left, right), left @ right.T)
    refused = fresh(path, tmp_path, "refused.so")
    refused.amx_refuse()
    assert refused.found_isa() == BF16


FAULTS = {
    "a wrong right tile": ("_tile_dpbf16ps(2, 5, 6)", "_tile_dpbf16ps(2, 5, 7)"),
    "a wrong left tile": ("_tile_loadd(5, left[1]", "_tile_loadd(5, left[0]"),
    "a tile with the sums of another block": ("_tile_zero(3);", ""),
    "no step in k": ("right[1] + k * 256", "right[1]"),
    "a stride in numbers, not in bytes": ("row_stride * sizeof(float)", "row_stride"),
    "rows of the second tile left out": ("_tile_stored(3, below + tile, pitch);", ""),
    "15 lines": ("lines[16] = {16,", "lines[16] = {15,"),
    "no configuration": ("_tile_loadconfig(&configuration);", "(void)configuration;"),
    "no release": ("_tile_release();", ""),
}


@pytest.fixture(scope="module")
def faulty(objects):
    """A library for each fault."""

    def made(fault):
        right, wrong = FAULTS[fault]
        text = KERNEL.read_text()
        assert right in text
        source = emulated_cuda.ROOT / "build/emulation" / fault.replace(" ", "-") / KERNEL.name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text.replace(right, wrong))
        return linked(list({**objects, KERNEL: compiled(source, "-O0")}.values()))

    with ThreadPoolExecutor(os.cpu_count()) as jobs:
        return dict(zip(FAULTS, jobs.map(made, FAULTS)))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_the_kernel_shows(faulty, fault):
    """A stand-in that forgave one of them would prove nothing."""
    broken = loaded(faulty[fault])
    broken.amx_permit()
    sizes = dict(m=64, n=64, k=128, padding=0, accumulate=False, turned=False, two_terms=True, seed=0)
    with pytest.raises((AssertionError, RuntimeError)):
        test_whole_numbers.hypothesis.inner_test(broken, **sizes)
