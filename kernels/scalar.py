"""What every Triton kernel takes: numbers from memory, and exp, tanh and sigmoid on blocks of float32 or float64."""

import triton
import triton.language as tl


@triton.jit
def load(p, inside=None):
    """Numbers from memory in the type of the arithmetic: float64 where they are, else float32; 0 where not inside."""
    x = tl.load(p, inside, None if inside is None else 0.0)
    return x if x.dtype == tl.float64 else x.to(tl.float32)


@triton.jit
def clamp(x, limit):
    """x between -limit and limit; NaN stays."""
    x = tl.where(x < -limit, -limit, x)
    return tl.where(x > limit, limit, x)


@triton.jit
def exp(x):
    """e^x; for float32 from the rest of x beside a multiple of ln 2, where a GPU's own is exact: far off, it is not."""
    if x.dtype == tl.float32:
        x = clamp(x, 110.0)  # infinity has no rest
        n = tl.floor(x * 1.44269504 + 0.5)
        # ln 2 in two parts, the first of so few bits that n times it is exact.
        part = tl.exp((x - n * 0.693359375) + n * 2.12194440e-4)
        result = 2.0 * (part * tl.exp2(n - 1.0))  # 2^128 is no float
    else:
        result = tl.exp(x)
    return result


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x)"""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """(1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x; for float32 up to |x| = 0.55 an odd
    polynomial (minimax, relative error 1e-9), so that tanh x is x for tiny x.
    """
    power = tl.exp(-2.0 * tl.abs(x))
    ratio = (1.0 - power) / (1.0 + power)
    result = tl.where(x < 0, -ratio, ratio)
    if x.dtype == tl.float32:
        u = x * x
        q = -6.27423963e-3 * u + 2.10716799e-2
        q = q * u - 5.38523085e-2
        q = q * u + 1.3332586e-1
        q = q * u - 3.33333164e-1
        result = tl.where(tl.abs(x) < 0.55, x + x * u * q, result)
    return result
