"""exp, tanh and sigmoid of csrc/math/scalar.h, for each generation of processor that runs here.

The op library takes one of these versions when it is loaded: testing the ops tests only that one.
"""

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import native  # of build_backend: the library's own compiler flags
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
FUNCTIONS = {"exp": (np.exp, torch.exp), "tanh": (np.tanh, torch.tanh)}
FUNCTIONS["sigmoid"] = (lambda x: 1 / (1 + np.exp(-x)), torch.sigmoid)


def targets():
    if platform.machine() != "x86_64":
        return ["native"]
    flags = Path("/proc/cpuinfo").read_text()
    needs = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512vl"}
    return [target for target, flag in needs.items() if flag in flags]


@pytest.fixture(scope="module", params=targets())
def call(request, tmp_path_factory):
    """call("exp", x) for an array of float32 or float64"""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    library = tmp_path_factory.mktemp("scalar") / "scalar.so"
    flags = [
        *native.CXX_FLAGS,
        *native.MATH_FLAGS,
        "-fvisibility=default",
        f"-march={request.param}",
    ]
    source = Path(__file__).with_name("scalar.cpp")
    subprocess.run(["g++", *flags, "-shared", "-I", ROOT / "csrc", source, "-o", library], check=True)
    functions = ctypes.CDLL(str(library))

    def call(name, x):
        y = np.full_like(x, np.nan)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, y))
        functions[f"{name}_{x.dtype}"](*pointers, ctypes.c_int64(len(x)))
        return y

    return call


def relative_error(y, true):
    return np.max(np.abs(y - true) / np.abs(true))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_as_accurate_as_torch(call, name):
    """The largest relative error is at most twice that of torch's own float32, for tiny x too."""
    exact, of_torch = FUNCTIONS[name]
    tiny = np.geomspace(1e-37, 1, 100_000)
    x = np.concatenate([np.linspace(-86.9, 86.9, 1_000_001), np.linspace(-5, 5, 1_000_001), tiny, -tiny])
    x = x[x != 0].astype(np.float32)
    true = exact(x.astype(np.float64))
    reference_error = relative_error(of_torch(torch.from_numpy(x)).numpy(), true)
    assert relative_error(call(name, x), true) <= 2 * reference_error


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64(call, name):
    x = np.linspace(-30, 30, 10_001)
    x = x[x != 0]
    assert relative_error(call(name, x), FUNCTIONS[name][0](x)) < 4 * np.finfo(np.float64).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_numbers(call, dtype):
    inf, nan = np.inf, np.nan
    x = np.array([-inf, -1e30, -0.0, 0.0, 1e30, inf, nan], dtype)
    np.testing.assert_array_equal(call("exp", x), np.array([0, 0, 1, 1, inf, inf, nan], dtype))
    np.testing.assert_array_equal(call("sigmoid", x), np.array([0, 0, 0.5, 0.5, 1, 1, nan], dtype))
    tanh = call("tanh", x)
    np.testing.assert_array_equal(tanh, np.array([-1, -1, -0.0, 0.0, 1, 1, nan], dtype))
    np.testing.assert_array_equal(np.signbit(tanh[:4]), [True, True, True, False])


def test_exp_at_the_ends_of_float32(call):
    """Finite up to the largest float, then infinite; never subnormal."""
    top = np.log(np.finfo(np.float32).max.astype(np.float64))
    x = np.array([top - 1e-4, top + 1e-4], np.float32)
    y = call("exp", x)
    assert np.isfinite(y[0]) and np.isposinf(y[1])
    x = np.linspace(-110, -80, 100_001).astype(np.float32)
    y = call("exp", x)
    smallest = np.finfo(np.float32).tiny
    assert np.all((y == 0) | (y >= smallest))
    assert np.max(np.abs(y - np.exp(x.astype(np.float64)))) < 2 * smallest
    assert np.all(y[x > -86.98] > 0)


def test_quick_tanh_and_its_slope(call):
    """3 ulp = 3 * 2^-24 relative at most just below 1; the slope is 0 where tanh rounds to 1, else as exact."""
    tiny = np.geomspace(1e-37, 1, 100_000)
    x = np.concatenate([np.linspace(-60, 60, 1_000_001), np.linspace(-9, 9, 1_000_001), tiny, -tiny])
    x = x[x != 0].astype(np.float32)
    true = np.tanh(x.astype(np.float64))
    tanh, slope = call("quick_tanh", x), call("slope", x)
    assert np.all(np.abs(tanh - true) <= 3 * np.spacing(np.abs(true).astype(np.float32)))
    assert np.all(slope[np.abs(tanh) == 1] == 0)
    true_slope = np.cosh(x.astype(np.float64)) ** -2
    rising = np.abs(tanh) < 1
    assert relative_error(slope[rising], true_slope[rising]) < 16 * 2**-24
    special = np.array([-np.inf, -1e30, -0.0, 0.0, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(call("quick_tanh", special), np.float32([-1, -1, -0.0, 0, 1, 1, np.nan]))
    np.testing.assert_array_equal(call("slope", special), np.float32([0, 0, 1, 1, 0, 0, np.nan]))
    y = np.linspace(-15, 15, 10_001)
    np.testing.assert_allclose(call("slope", y), 1 - np.tanh(y) ** 2, rtol=0, atol=1e-15)
    np.testing.assert_allclose(call("quick_tanh", y), np.tanh(y), rtol=1e-15)


@pytest.mark.skipif("x86-64-v4" not in targets(), reason="the processor has no AVX-512")
def test_avx512_tanh(call):
    """3 ulp, odd, for tiny x too."""
    tiny = np.geomspace(1e-37, 1, 100_000)
    x = np.concatenate([np.linspace(-60, 60, 1_000_001), np.linspace(-9.1, 9.1, 1_000_001), tiny, -tiny])
    x = x[x != 0].astype(np.float32)
    true = np.tanh(x.astype(np.float64))
    tanh = call("avx512_tanh", x)
    assert np.all(np.abs(tanh - true) <= 3 * np.spacing(np.abs(true).astype(np.float32)))
    assert np.all(np.abs(tanh) <= 1)
    np.testing.assert_array_equal(call("avx512_tanh", -x), -tanh)
    special = np.array([-np.inf, -1e30, -0.0, 0.0, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(call("avx512_tanh", special), np.float32([-1, -1, -0.0, 0, 1, 1, np.nan]))


@pytest.mark.skipif("x86-64-v4" not in targets(), reason="the processor has no AVX-512")
def test_avx512_sigmoid(call):
    """5 ulp down to -87, 0 below."""
    x = np.linspace(-86.9, 120, 2_000_001).astype(np.float32)
    true = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.all(np.abs(call("avx512_sigmoid", x) - true) <= 5 * np.spacing(true.astype(np.float32)))
    special = np.array([-np.inf, -1e30, -0.0, 0.0, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(call("avx512_sigmoid", special), np.float32([0, 0, 0.5, 0.5, 1, 1, np.nan]))


@pytest.mark.skipif("x86-64-v4" not in targets(), reason="the processor has no AVX-512")
def test_avx512_gaussian(call):
    """e^-x² within 4 * 2^-24 of itself, and what rounding x² changes; 0 far off, and NaN stays."""
    x = np.concatenate([np.linspace(-9.32, 9.32, 1_000_001), np.geomspace(1e-37, 1, 100_000)]).astype(np.float32)
    square = x.astype(np.float64) ** 2
    rounded = np.abs((x * x).astype(np.float64) - square)  # moves the result by as much of itself
    error = np.abs(call("avx512_gaussian", x) / np.exp(-square) - 1)
    assert np.all(error <= rounded + 4 * 2**-24)
    far = np.array([-np.inf, -1e30, -9.4, -0.0, 0.0, 9.4, 1e18, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(call("avx512_gaussian", far), np.float32([0, 0, 0, 1, 1, 0, 0, 0, np.nan]))
