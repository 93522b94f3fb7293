"""latent in Triton: one draw of a latent from q, its KL divergence from p, and log q - log p.

A program takes one row of the batch, BLOCK components at a time, in float32 (float64 for float64).
"""

import torch
import triton
import triton.language as tl
from aligndraw.kernels.launch import launch
from aligndraw.kernels.scalar import exp, load
from torch import Tensor

BLOCK = 256


@triton.jit
def forward_kernel(mu_q, log_sigma_q, mu_p, log_sigma_p, noise, z, kl, log_ratio, n, BLOCK: tl.constexpr):
    """Five of [B, n] -> z [B, n], kl and log_ratio [B]"""
    row = tl.program_id(0).to(tl.int64)
    dtype: tl.constexpr = kl.dtype.element_ty
    kl_terms, ratio_terms = tl.zeros((BLOCK,), dtype), tl.zeros((BLOCK,), dtype)
    for first in range(0, n, BLOCK):
        unit = first + tl.arange(0, BLOCK)
        inside = unit < n
        at = row * n + unit
        m_q, s_q = load(mu_q + at, inside), load(log_sigma_q + at, inside)
        m_p, s_p = load(mu_p + at, inside), load(log_sigma_p + at, inside)
        eps = load(noise + at, inside)
        drawn = m_q + exp(s_q) * eps
        inverse_p = exp(-s_p)
        ratio, shift = exp(2.0 * (s_q - s_p)), s_p - s_q
        apart, drawn_apart = (m_q - m_p) * inverse_p, (drawn - m_p) * inverse_p
        # The arguments that are not there are 0, and so are their terms.
        kl_terms += (apart * apart + ratio - 1.0) * 0.5 + shift
        ratio_terms += (drawn_apart * drawn_apart - eps * eps) * 0.5 + shift
        tl.store(z + at, drawn, inside)
    tl.store(kl + row, tl.sum(kl_terms))
    tl.store(log_ratio + row, tl.sum(ratio_terms))


@triton.jit
def backward_kernel(
    grad_z,
    grad_kl,
    grad_log_ratio,
    mu_q,
    log_sigma_q,
    mu_p,
    log_sigma_p,
    noise,
    grad_mu_q,
    grad_log_sigma_q,
    grad_mu_p,
    grad_log_sigma_p,
    grad_noise,
    n,
    BLOCK: tl.constexpr,
):
    """grad_z [B, n], grad_kl and grad_log_ratio [B] -> the gradients of the five, [B, n]"""
    row = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < n
    at = row * n + unit
    m_q, s_q = load(mu_q + at, inside), load(log_sigma_q + at, inside)
    m_p, s_p = load(mu_p + at, inside), load(log_sigma_p + at, inside)
    eps = load(noise + at, inside)
    d_kl, d_ratio = load(grad_kl + row), load(grad_log_ratio + row)
    sigma_q, inverse_p = exp(s_q), exp(-s_p)
    ratio = exp(2.0 * (s_q - s_p))
    apart, drawn_apart = (m_q - m_p) * inverse_p, (m_q + sigma_q * eps - m_p) * inverse_p
    pull, drawn_pull = d_kl * apart * inverse_p, d_ratio * drawn_apart * inverse_p
    d_z = load(grad_z + at, inside) + drawn_pull
    tl.store(grad_mu_q + at, d_z + pull, inside)
    tl.store(grad_log_sigma_q + at, d_z * sigma_q * eps + d_kl * (ratio - 1.0) - d_ratio, inside)
    tl.store(grad_mu_p + at, -pull - drawn_pull, inside)
    d_log_sigma_p = d_kl * (1.0 - apart * apart - ratio) + d_ratio * (1.0 - drawn_apart * drawn_apart)
    tl.store(grad_log_sigma_p + at, d_log_sigma_p, inside)
    tl.store(grad_noise + at, d_z * sigma_q - d_ratio * eps, inside)


def latent(
    mu_q: Tensor, log_sigma_q: Tensor, mu_p: Tensor, log_sigma_p: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Five of [B, n] -> z [B, n] in mu_q's dtype, KL and log-ratio [B] in the dtype of the arithmetic."""
    inputs = [t.contiguous() for t in (mu_q, log_sigma_q, mu_p, log_sigma_p, noise)]
    batch, units = mu_q.shape
    dtype = torch.float64 if mu_q.dtype == torch.float64 else torch.float32
    z = mu_q.new_empty(mu_q.shape)
    kl, log_ratio = mu_q.new_empty(batch, dtype=dtype), mu_q.new_empty(batch, dtype=dtype)
    launch(forward_kernel, (batch,), *inputs, z, kl, log_ratio, units, BLOCK=BLOCK, like=z)
    return z, kl, log_ratio


def latent_backward(
    grad_z: Tensor,
    grad_kl: Tensor,
    grad_log_ratio: Tensor,
    mu_q: Tensor,
    log_sigma_q: Tensor,
    mu_p: Tensor,
    log_sigma_p: Tensor,
    noise: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of the five, each in its argument's dtype."""
    inputs = [t.contiguous() for t in (mu_q, log_sigma_q, mu_p, log_sigma_p, noise)]
    grads = [t.contiguous() for t in (grad_z, grad_kl, grad_log_ratio)]
    results = tuple(torch.empty_like(t) for t in inputs)
    batch, units = mu_q.shape
    grid = batch, triton.cdiv(units, BLOCK)
    launch(backward_kernel, grid, *grads, *inputs, *results, units, BLOCK=BLOCK, like=mu_q)
    return results
