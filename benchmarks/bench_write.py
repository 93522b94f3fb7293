"""write: canvas + (1/γ) F_Yᵀ K F_X; the gradient of the canvas is that of the result and costs nothing.

For one example, with 6 operations a filter element, and F_X applied first:

    forward   6p(H+W) + 2Cp²W + 2CpHW + CHW + Cp²           operations
              patch, window, canvas -> canvas                2CHW + Cp² + 5 numbers
    backward  12p(H+W) + 4CpHW + 2Cp²(2W + H)               operations
              G, patch, window -> gradients                  CHW + 2Cp² + 10 numbers
"""

from __future__ import annotations

from typing import Any

import torch
from cases import WINDOWS, OpBenchmark, Sizes, Work


def arguments(s: Sizes, batch: int, window: str) -> dict[str, Any]:
    return {
        "patch": torch.randn(batch, s.C, s.p, s.p),
        "window": torch.tensor(WINDOWS[window]) + 0.05 * torch.randn(batch, 5),
        "canvas": torch.randn(batch, s.C, s.H, s.W),
    }


def forward(s: Sizes) -> Work:
    filters, products = 6 * s.p * (s.H + s.W), 2 * s.C * s.p * s.W * (s.p + s.H)
    return Work(
        flops=filters + products + s.C * s.H * s.W + s.C * s.p**2,
        numbers=2 * s.C * s.H * s.W + s.C * s.p**2 + 5,
    )


def backward(s: Sizes) -> Work:
    filters, products = 12 * s.p * (s.H + s.W), 4 * s.C * s.p * s.H * s.W + 2 * s.C * s.p**2 * (2 * s.W + s.H)
    return Work(flops=filters + products, numbers=s.C * s.H * s.W + 2 * s.C * s.p**2 + 10)


BENCHMARK = OpBenchmark("write", arguments, ("patch", "window", "canvas"), forward, backward, tuple(WINDOWS))


def test_write(case, timed):
    timed(case)
