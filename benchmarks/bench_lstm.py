"""lstm_gates: c' = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c'), the pointwise part of the decoder's step.

For one example:

    forward   9n                                            operations
              gates, c -> h, c'                              7n numbers
    backward  30n, the activations computed again           operations
              gradients of h and c', gates, c -> gradients   12n numbers
"""

from __future__ import annotations

from typing import Any

import torch
from cases import OpBenchmark, Sizes, Work


def arguments(s: Sizes, batch: int, window: str) -> dict[str, Any]:
    return {"gates": torch.randn(batch, 4 * s.n), "c": torch.randn(batch, s.n)}


def forward(s: Sizes) -> Work:
    return Work(flops=9 * s.n, numbers=7 * s.n)


def backward(s: Sizes) -> Work:
    return Work(flops=30 * s.n, numbers=12 * s.n)


BENCHMARK = OpBenchmark("lstm_gates", arguments, ("gates", "c"), forward, backward)


def test_lstm(case, timed):
    timed(case)
