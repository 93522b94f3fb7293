"""attend: α = softmax_k(v · tanh(key_k + query)), s = Σ_k α_k value_k, with captions of full length.

For one example:

    forward   N·(4l + 4 + 2d)                               operations
              query, keys, values, length -> s, α            l + Nl + Nd + 2 + d + N numbers; v once for the batch
    backward  N·(9l + 4 + 3d), tanh computed again          operations
              d, N of the results' gradients, α, arguments -> gradients
                                                             2l + 2Nl + 2Nd + 2 + d + 2N numbers; v and its own once
"""

from __future__ import annotations

from typing import Any

import torch
from cases import OpBenchmark, Sizes, Work


def arguments(s: Sizes, batch: int, window: str) -> dict[str, Any]:
    return {
        "query": torch.randn(batch, s.l),
        "keys": torch.randn(batch, s.N, s.l),
        "score": torch.randn(s.l) * s.l**-0.5,
        "values": torch.randn(batch, s.N, s.d),
        "lengths": torch.full((batch,), s.N),
    }


def forward(s: Sizes) -> Work:
    return Work(flops=s.N * (4 * s.l + 4 + 2 * s.d), numbers=s.l + s.N * s.l + s.N * s.d + 2 + s.d + s.N, once=s.l)


def backward(s: Sizes) -> Work:
    return Work(
        flops=s.N * (9 * s.l + 4 + 3 * s.d),
        numbers=2 * s.l + 2 * s.N * s.l + 2 * s.N * s.d + 2 + s.d + 2 * s.N,
        once=2 * s.l,
    )


BENCHMARK = OpBenchmark("attend", arguments, ("query", "keys", "score", "values"), forward, backward)


def test_attend(case, timed):
    timed(case)
