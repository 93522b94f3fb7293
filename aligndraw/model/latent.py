"""The distributions of the latent of a step: posterior (Eq. 13) and prior (Eq. 1)."""

from __future__ import annotations

from torch import Tensor, nn

from aligndraw.model.recurrent import Head


class Posterior(nn.Module):
    """Q(Z_t | x, y, Z_1:t−1) = N(μ, σ²): μ is linear in h_enc, log σ half of a linear map."""

    def __init__(self, units: int, latent_units: int) -> None:
        super().__init__()
        self.mu = Head(units, latent_units)
        self.log_variance = Head(units, latent_units)

    def forward(self, h_enc: Tensor) -> tuple[Tensor, Tensor]:
        """h_enc [B, n] -> μ [B, z], log σ [B, z]."""
        return self.mu(h_enc), self.log_variance(h_enc) / 2


class Prior(nn.Module):
    """P(Z_t | Z_1:t−1) = N(μ, σ²) for t > 1: μ = tanh(W_μ h_dec + b), log σ = tanh(W_σ h_dec + b)."""

    def __init__(self, units: int, latent_units: int) -> None:
        super().__init__()
        self.mu_log_sigma = Head(units, 2 * latent_units)

    def forward(self, h_dec: Tensor) -> tuple[Tensor, Tensor]:
        """h_dec [B, n] -> μ [B, z], log σ [B, z]."""
        mu, log_sigma = self.mu_log_sigma(h_dec).tanh().chunk(2, 1)
        return mu, log_sigma
