"""latent, against torch's distributions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from aligndraw import ops


def test_equals_torch_distributions(make):
    mu_q, log_sigma_q, mu_p, log_sigma_p, noise = make("latent")
    z, kl, log_ratio = ops.latent(mu_q, log_sigma_q, mu_p, log_sigma_p, noise)
    q, p = Normal(mu_q, log_sigma_q.exp()), Normal(mu_p, log_sigma_p.exp())
    torch.testing.assert_close(z, mu_q + log_sigma_q.exp() * noise)
    torch.testing.assert_close(kl, kl_divergence(q, p).sum(1))
    torch.testing.assert_close(log_ratio, (q.log_prob(z) - p.log_prob(z)).sum(1))


def test_equal_distributions_cost_nothing(make):
    mu, log_sigma, *_, noise = make("latent")
    _, kl, log_ratio = ops.latent(mu, log_sigma, mu, log_sigma, noise)
    torch.testing.assert_close(kl, torch.zeros_like(kl))
    torch.testing.assert_close(log_ratio, torch.zeros_like(kl), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda t: t[0], r"latent: mu_q must have shape \[B, z\], got \[5\]"),
        (2, lambda t: t[:, :4], r"latent: mu_p must have shape \[B, z\] = \[3, 5\], got \[3, 4\]"),
        (4, lambda t: t.float(), r"latent: noise must be float64 like mu_q, got float32"),
        (1, lambda t: t.bool(), r"latent: log_sigma_q must be float32, .* got bool"),
    ],
)
def test_errors(position, change, message, make):
    args = list(make("latent"))
    args[position] = change(args[position])
    with pytest.raises(RuntimeError, match=message):
        ops.latent(*args)
