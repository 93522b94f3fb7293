"""unroll_prior: all T steps of sampling as one op."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from aligndraw.ops._op import Op, check_loop, check_shape, check_sizes
from aligndraw.ops.unroll import DecoderWeights, check_decoder, decode_reference, heads_columns
from aligndraw.ops.write import write_reference


class Drawn(NamedTuple):
    """What T steps of sampling leave behind."""

    canvas: Tensor  # c_T [B, C, H, W], before the sigmoid
    patches: Tensor  # [B, T, C, p, p]
    windows: Tensor  # [B, T, 5]
    weights: Tensor | None  # α [B, T, N]; None without attention


def _unroll_prior_reference(
    canvas: Tensor,
    words: Tensor,
    keys: Tensor | None,
    lengths: Tensor,
    noise: Tensor,
    decoder_ih: Tensor,
    decoder_hh: Tensor,
    decoder_bias: Tensor,
    decoder_h0: Tensor,
    heads: Tensor,
    heads_bias: Tensor,
    score: Tensor | None,
    write_size: int,
) -> tuple[Tensor, ...]:
    """Results as the op gives them, time first."""
    batch, channels = noise.shape[0], canvas.shape[0]
    decoder = DecoderWeights(decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads, heads_bias, score)
    at = heads_columns(canvas, noise, write_size, score)
    c_t = canvas.expand(batch, -1, -1, -1)
    h, c = decoder_h0.expand(batch, -1), decoder_h0.new_zeros(batch, decoder_h0.shape[0])
    mu = log_sigma = noise.new_zeros(batch, noise.shape[2])
    said = torch.addmm(heads_bias, h, heads.mT)
    done: list[tuple[Tensor, ...]] = []
    for epsilon in noise.unbind(1):
        z = mu + log_sigma.exp() * epsilon
        h, c, weights, said = decode_reference(z, said[:, at.query], h, c, words, keys, lengths, decoder, False)
        mu, log_sigma = said[:, at.prior].tanh().chunk(2, 1)
        patch = said[:, at.patch].reshape(batch, channels, write_size, write_size)
        window = said[:, at.write_window]
        c_t = write_reference(patch, window, c_t)
        done.append((patch, window, weights))
    return c_t.contiguous(), *(torch.stack(t) for t in zip(*done))


def _forward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """The loop on one backend's kernels."""
    canvas, words, keys, lengths, noise, *weights, write_size = args
    decoder = DecoderWeights(*weights)
    kernels = getattr(torch.ops, namespace)
    attend, lstm_gates, write = kernels.attend.default, kernels.lstm_gates.default, kernels.write.default
    (batch, steps, latents), channels = noise.shape, canvas.shape[0]
    at = heads_columns(canvas, noise, write_size, decoder.score)
    patches = canvas.new_empty(steps, batch, channels, write_size, write_size)
    windows = canvas.new_empty(steps, batch, 5)
    word_weights = canvas.new_empty(steps, batch, 0 if keys is None else words.shape[1])
    of_latent, of_context = decoder.decoder_ih.mT.split([latents, words.shape[2]])
    pushes = words @ of_context  # what each word adds to the gates
    h, c = decoder.decoder_h0.expand(batch, -1), canvas.new_zeros(batch, decoder.decoder_h0.shape[0])
    said = torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
    said[:, at.prior] = 0  # the first prior is N(0, I)
    c_t = canvas.expand(batch, -1, -1, -1)
    for t in range(steps):
        mu, log_sigma = said[:, at.prior].tanh().chunk(2, 1)
        z = torch.addcmul(mu, log_sigma.exp(), noise[:, t])
        if keys is None:
            push = pushes[:, 0]
        else:
            push, word_weights[t] = attend(said[:, at.query], keys, decoder.score, pushes, lengths)
        gates = torch.addmm(decoder.decoder_bias, z, of_latent).addmm_(h, decoder.decoder_hh.mT).add_(push)
        h, c = lstm_gates(gates, c)
        said = torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
        patches[t] = said[:, at.patch].reshape(patches.shape[1:])
        windows[t] = said[:, at.write_window]
        c_t = write(patches[t], windows[t], c_t)
    return c_t, patches, windows, word_weights


def _check(*args: Any) -> None:
    canvas, words, keys, lengths, noise, *weights, write_size = args
    decoder = DecoderWeights(*weights)
    check_shape("unroll_prior", "canvas", canvas, "[C, H, W]", (None, None, None))
    check_decoder("unroll_prior", words, keys, lengths, noise, decoder, canvas.shape[0], write_size)
    step = 4 * decoder.decoder_h0.shape[0] + decoder.heads.shape[0] + words.shape[1] + canvas.shape.numel()
    check_sizes("unroll_prior", "the drawings", (noise.shape[1], noise.shape[0], step))
    others = {"words": words, "keys": keys, "noise": noise}
    check_loop("unroll_prior", lengths, "canvas", canvas, **others, **decoder._asdict())


def _fake(*args: Any) -> tuple[Tensor, ...]:
    canvas, words, keys, _, noise, *_, write_size = args
    (batch, steps, _), channels = noise.shape, canvas.shape[0]
    return (
        canvas.new_empty(batch, *canvas.shape),
        canvas.new_empty(steps, batch, channels, write_size, write_size),
        canvas.new_empty(steps, batch, 5),
        canvas.new_empty(steps, batch, 0 if keys is None else words.shape[1]),
    )


_op = Op(
    "unroll_prior",
    schema="(Tensor canvas, Tensor words, Tensor? keys, Tensor lengths, Tensor noise, "
    + ", ".join(f"Tensor {name}" for name in DecoderWeights._fields[:-1])
    + ", Tensor? score, int write_size) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=_unroll_prior_reference,
    check=_check,
    fake=_fake,
    composite=(_forward, None),
)


def unroll_prior(
    canvas: Tensor,
    words: Tensor,
    keys: Tensor | None,
    lengths: Tensor,
    noise: Tensor,
    decoder: DecoderWeights,
    write_size: int,
) -> Drawn:
    """T steps of drawing with the prior's latents (alignDRAW, Eq. 1-5): a step of `unroll` in which nothing is read and
    z = μ_p + σ_p ε. Its gradient is the reference's.

    Each word is multiplied by the decoder's weights once, since Σ_k α_k h_k W = Σ_k α_k (h_k W); in C++ all patches are
    drawn at the end, since no step looks at the canvas. On a GPU the environment variable ALIGNDRAW_LOOP forces one of
    two forms, as in `unroll`; "auto" goes by batch and room.

    Args:
        canvas: c_0, [C, H, W], float32 or float64, as all floating tensors here.
        words, keys, lengths, noise, decoder, write_size: as in `unroll`.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    last, patches, windows, weights = _op(canvas, words, keys, lengths, noise, *decoder, write_size)
    by_batch = None if keys is None else weights.transpose(0, 1)
    return Drawn(last, patches.transpose(0, 1), windows.transpose(0, 1), by_batch)
