"""read: γ F_Y X F_Xᵀ and γ F_Y (X − σ(canvas)) F_Xᵀ; the model asks for gradients of window and canvas.

For one example, with 6 operations a filter element, error image formed once, and F_Y applied first:

    forward   6p(H+W) + 2CHW + 2C·(2pHW + 2p²W) + 2Cp²     operations
              image, canvas, window -> 2C glimpses           2CHW + 5 + 2Cp² numbers

The gradient needs X F_Xᵀ for F_Y's, F_Yᵀ G for F_X's and for the canvas, and the filters twice:

    backward  12p(H+W) + 2C·(4pHW + 4p²H) + 2CpHW + 5CHW    operations
              G, image, canvas, window -> gradients          2Cp² + 3CHW + 10 numbers
"""

from __future__ import annotations

from typing import Any

import torch
from cases import WINDOWS, OpBenchmark, Sizes, Work


def arguments(s: Sizes, batch: int, window: str) -> dict[str, Any]:
    return {
        "image": torch.rand(batch, s.C, s.H, s.W),
        "window": torch.tensor(WINDOWS[window]) + 0.05 * torch.randn(batch, 5),
        "size": s.p,
        "canvas": torch.randn(batch, s.C, s.H, s.W),
    }


def forward(s: Sizes) -> Work:
    filters, products = 6 * s.p * (s.H + s.W), 2 * s.C * (2 * s.p * s.H * s.W + 2 * s.p**2 * s.W)
    return Work(
        flops=filters + 2 * s.C * s.H * s.W + products + 2 * s.C * s.p**2,
        numbers=2 * s.C * s.H * s.W + 5 + 2 * s.C * s.p**2,
    )


def backward(s: Sizes) -> Work:
    filters, products = 12 * s.p * (s.H + s.W), 2 * s.C * (4 * s.p * s.H * s.W + 4 * s.p**2 * s.H)
    canvas = 2 * s.C * s.p * s.H * s.W + 5 * s.C * s.H * s.W
    return Work(flops=filters + products + canvas, numbers=2 * s.C * s.p**2 + 3 * s.C * s.H * s.W + 10)


BENCHMARK = OpBenchmark("read", arguments, ("window", "canvas"), forward, backward, tuple(WINDOWS))


def test_read(case, timed):
    timed(case)
