"""latent: one latent is drawn from the posterior and weighed against the prior."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._op import Op, check_float, check_shape, compute_dtype


def latent_reference(
    mu_q: Tensor, log_sigma_q: Tensor, mu_p: Tensor, log_sigma_p: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`latent` in plain PyTorch: the specification."""
    dtype = compute_dtype(mu_q)
    m_q, s_q, m_p, s_p, eps = (t.to(dtype) for t in (mu_q, log_sigma_q, mu_p, log_sigma_p, noise))
    z = m_q + s_q.exp() * eps
    inverse_p = (-s_p).exp()
    kl = (((m_q - m_p) * inverse_p).square() + (2 * (s_q - s_p)).exp() - 1) / 2 + s_p - s_q
    log_ratio = (((z - m_p) * inverse_p).square() - eps.square()) / 2 + s_p - s_q
    return z.to(mu_q.dtype), kl.sum(1), log_ratio.sum(1)


def _check(mu_q: Tensor, log_sigma_q: Tensor, mu_p: Tensor, log_sigma_p: Tensor, noise: Tensor) -> None:
    tensors = {
        "mu_q": mu_q,
        "log_sigma_q": log_sigma_q,
        "mu_p": mu_p,
        "log_sigma_p": log_sigma_p,
        "noise": noise,
    }
    check_shape("latent", "mu_q", mu_q, "[B, z]", (None, None))
    for name, tensor in tensors.items():
        check_shape("latent", name, tensor, "[B, z]", mu_q.shape)
    check_float("latent", **tensors)


def _fake(
    mu_q: Tensor, log_sigma_q: Tensor, mu_p: Tensor, log_sigma_p: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    batch, dtype = mu_q.shape[0], compute_dtype(mu_q)
    return (
        mu_q.new_empty(mu_q.shape),
        mu_q.new_empty(batch, dtype=dtype),
        mu_q.new_empty(batch, dtype=dtype),
    )


def _backward_reference(
    grad_z: Tensor,
    grad_kl: Tensor,
    grad_log_ratio: Tensor,
    mu_q: Tensor,
    log_sigma_q: Tensor,
    mu_p: Tensor,
    log_sigma_p: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = (mu_q, log_sigma_q, mu_p, log_sigma_p, noise)
    a, b, c, d, e = vjp(latent_reference, inputs, (grad_z, grad_kl, grad_log_ratio))
    return a, b, c, d, e


def _backward_fake(
    grad_z: Tensor,
    grad_kl: Tensor,
    grad_log_ratio: Tensor,
    mu_q: Tensor,
    log_sigma_q: Tensor,
    mu_p: Tensor,
    log_sigma_p: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d, e = (t.new_empty(t.shape) for t in (mu_q, log_sigma_q, mu_p, log_sigma_p, noise))
    return a, b, c, d, e


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(op: Any, ctx: Any, grad_z: Tensor, grad_kl: Tensor, grad_log_ratio: Tensor) -> tuple[Tensor, ...]:
    return op(grad_z, grad_kl, grad_log_ratio, *ctx.saved_tensors)  # type: ignore[no-any-return]


_op = Op(
    "latent",
    schema="(Tensor mu_q, Tensor log_sigma_q, Tensor mu_p, Tensor log_sigma_p, Tensor noise)"
    " -> (Tensor, Tensor, Tensor)",
    backward_schema="(Tensor grad_z, Tensor grad_kl, Tensor grad_log_ratio, Tensor mu_q, Tensor log_sigma_q,"
    " Tensor mu_p, Tensor log_sigma_p, Tensor noise) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=latent_reference,
    backward_reference=_backward_reference,
    check=_check,
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_backward,
    triton="latent",
    batched=True,
)


def latent(
    mu_q: Tensor, log_sigma_q: Tensor, mu_p: Tensor, log_sigma_p: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """z = μ_q + σ_q ε, drawn from the posterior q = N(μ_q, σ_q²), beside the prior p = N(μ_p, σ_p²)
    (alignDRAW, Eq. 1, 13, 14):

        KL(q‖p)             = Σ ½ [((μ_q − μ_p)/σ_p)² + (σ_q/σ_p)² − 1] + log σ_p − log σ_q      in nats
        log q(z) − log p(z) = Σ ½ [((z − μ_p)/σ_p)² − ε²] + log σ_p − log σ_q                    in nats

    Args:
        mu_q, log_sigma_q, mu_p, log_sigma_p: [B, z].
        noise: ε ~ N(0, 1), [B, z].

    Returns:
        z [B, z] in the dtype of `mu_q`; KL [B] and log-ratio [B] in float32 (float64 for float64), the dtype of the
        arithmetic.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    return _op(mu_q, log_sigma_q, mu_p, log_sigma_p, noise)  # type: ignore[no-any-return]
