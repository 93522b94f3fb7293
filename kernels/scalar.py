"""sigmoid and tanh for the Triton kernels, on blocks of float32 or float64."""

import triton
import triton.language as tl


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
