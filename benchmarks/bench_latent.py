"""latent: z = μ_q + σ_q ε, KL(q‖p) and log q(z) − log p(z).

For one example:

    forward   26z                                           operations
              five arguments -> z, KL, log-ratio             6z + 2 numbers
    backward  35z, z and the exponentials computed again    operations
              gradients of the results, five arguments -> four gradients
                                                             10z + 2 numbers
"""

from __future__ import annotations

from typing import Any

import torch
from cases import OpBenchmark, Sizes, Work


def arguments(s: Sizes, batch: int, window: str) -> dict[str, Any]:
    moments = ("mu_q", "log_sigma_q", "mu_p", "log_sigma_p")
    return {**{name: torch.randn(batch, s.z).tanh() for name in moments}, "noise": torch.randn(batch, s.z)}


def forward(s: Sizes) -> Work:
    return Work(flops=26 * s.z, numbers=6 * s.z + 2)


def backward(s: Sizes) -> Work:
    return Work(flops=35 * s.z, numbers=10 * s.z + 2)


BENCHMARK = OpBenchmark("latent", arguments, ("mu_q", "log_sigma_q", "mu_p", "log_sigma_p"), forward, backward)


def test_latent(case, timed):
    timed(case)
