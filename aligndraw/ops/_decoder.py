"""The generative half of a step of drawing, which `unroll` and `unroll_prior` share."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from aligndraw.ops._op import check_shape, check_sizes
from aligndraw.ops.attend import attend_reference
from aligndraw.ops.lstm import lstm_gates_reference
from aligndraw.ops.product import product_reference as product


class DecoderWeights(NamedTuple):
    """The parameters of the generative half of a step, Eq. 1-4.

    The rows of `heads`, all linear in h_dec, are in this order: query [l] (none without attention), the prior's μ and
    log σ before the tanh [2z], patch [C·p·p], its tints [K·(p·p + C)], its opacity before the sigmoid [p·p] (none where
    patches are added), write window [5], read window [5].
    """

    decoder_ih: Annotated[Tensor, "[4n, z + d]"]  # of the latent, then of the context
    decoder_hh: Annotated[Tensor, "[4n, n]"]
    decoder_bias: Annotated[Tensor, "[4n]"]
    decoder_h0: Annotated[Tensor, "[n]"]
    heads: Annotated[Tensor, "[R, n]"]
    heads_bias: Annotated[Tensor, "[R]"]
    score: Annotated[Tensor | None, "[l]"]  # v; None without attention


class HeadColumns(NamedTuple):
    """The columns of the head outputs."""

    query: slice
    prior: slice
    patch: slice
    tints: slice
    opacity: slice
    write_window: slice
    read_window: slice


def head_columns(
    canvas: Tensor, noise: Tensor, write_size: int, tints: int, opacity: bool, score: Tensor | None
) -> HeadColumns:
    """Returns the columns of each head, given c_0 [C, H, W], the noise [B, T, z], K and v [l]."""
    channels, area, ends = canvas.shape[0], write_size**2, [0]
    units = 0 if score is None else score.shape[0]
    for size in (units, 2 * noise.shape[2], channels * area, tints * (area + channels), opacity * area, 5, 5):
        ends.append(ends[-1] + size)
    return HeadColumns(*(slice(a, b) for a, b in zip(ends, ends[1:])))


def drawn_patch(patch: Tensor, tints: Tensor, opacity: Tensor, channels: int, size: int) -> Tensor:
    """Returns what a step draws: patch + Σ_k mask_k colour_kᵀ, then the opacity as a channel more.

    Args:
        patch: [B, C·p·p].
        tints: [B, K·(p·p + C)], for each tint a mask and the colour that it is multiplied by.
        opacity: [B, p·p], after the sigmoid; [B, 0] for a patch that is added to the canvas.
        channels, size: C, p.

    Returns:
        [B, C, p, p], or with opacity [B, C + 1, p, p].
    """
    batch, area = patch.shape[0], size**2
    drawn = patch.reshape(batch, channels, size, size)
    if tints.shape[1]:
        count = tints.shape[1] // (area + channels)
        masks, colours = tints.reshape(batch, count, area + channels).split([area, channels], 2)
        drawn = drawn + (colours[..., None, None] * masks.reshape(batch, count, 1, size, size)).sum(1)
    return torch.cat([drawn, opacity.reshape(batch, 1, size, size)], 1) if opacity.shape[1] else drawn


def tints_backward(d_patch: Tensor, tints: Tensor) -> Tensor:
    """Returns the gradient of the tints of `drawn_patch`, given that of the patch [B, C, p, p]."""
    d_patch = d_patch.flatten(2)  # [B, C, p·p]
    batch, channels, area = d_patch.shape
    count = tints.shape[1] // (area + channels)
    masks, colours = tints.reshape(batch, count, area + channels).split([area, channels], 2)
    return torch.cat([colours @ d_patch, masks @ d_patch.mT], 2).flatten(1)


def apply_heads(h: Tensor, decoder: DecoderWeights, bf16: bool) -> Tensor:
    """Returns the head outputs [B, R] of h_dec [B, n]. `bf16` rounds the factors of the query alone."""
    if decoder.score is None or not bf16:
        return torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
    query, others = decoder.heads.tensor_split([len(decoder.score)])
    return torch.cat([product(h, query, bf16), h @ others.mT], 1) + decoder.heads_bias


def decode_reference(
    z: Tensor,
    query: Tensor,
    h: Tensor,
    c: Tensor,
    words: Tensor,
    keys: Tensor | None,
    lengths: Tensor,
    decoder: DecoderWeights,
    bf16: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attention and the generative LSTM (Eq. 2, 3, 6, 7): returns h_dec, its cell state, α and the head outputs."""
    if keys is None or decoder.score is None:
        context, weights = words[:, 0], words.new_empty(len(words), 0)
    else:
        context, weights = attend_reference(query, keys, decoder.score, words, lengths)
    gates = product(torch.cat([z, context], 1), decoder.decoder_ih, bf16)
    gates = gates + product(h, decoder.decoder_hh, bf16) + decoder.decoder_bias
    h, c = lstm_gates_reference(gates, c)
    return h, c, weights, apply_heads(h, decoder, bf16)


def check_decoder_sizes(
    op: str,
    words: Tensor,
    keys: Tensor | None,
    noise: Tensor,
    decoder: DecoderWeights,
    channels: int,
    write_size: int,
    tints: int,
    opacity: bool,
) -> None:
    """Checks the arguments that `decoder_sizes` reads sizes from."""
    check_shape(op, "noise", noise, "[B, T, z]", (None, None, None))
    batch, steps, latents = noise.shape
    if steps < 1:
        raise RuntimeError(f"{op}: noise must have at least one step, got {list(noise.shape)}")
    check_shape(op, "words", words, "[B, N, d]", (batch, None, None))
    count = words.shape[1]
    if write_size < 1:
        raise RuntimeError(f"{op}: write_size must be at least 1, got {write_size}")
    check_sizes(op, "the patch", (channels + opacity, write_size, write_size))
    if tints < 0:
        raise RuntimeError(f"{op}: tints must not be negative, got {tints}")
    check_sizes(op, "the tints", (tints, write_size**2 + channels))
    if (keys is None) != (decoder.score is None):
        raise RuntimeError(f"{op}: score must be given where keys are, and nowhere else")
    if keys is None and count != 1:
        raise RuntimeError(f"{op}: words must be one vector per caption where there are no keys, got {count}")
    if decoder.score is not None:
        if count < 1:
            raise RuntimeError(f"{op}: words must have at least one word, got {list(words.shape)}")
        check_shape(op, "score", decoder.score, "[l]", (None,))
    check_shape(op, "decoder_h0", decoder.decoder_h0, "[n]", (None,))


def decoder_sizes(
    words: Tensor, noise: Tensor, decoder: DecoderWeights, channels: int, write_size: int, tints: int, opacity: bool
) -> dict[str, int]:
    """Returns the sizes by letter, of arguments that fit: see `_unroll_fields.py`."""
    batch, steps, latents = noise.shape
    units, area = 0 if decoder.score is None else decoder.score.shape[0], write_size**2
    return {
        "B": batch, "T": steps, "N": words.shape[1], "A": 0 if decoder.score is None else words.shape[1],
        "d": words.shape[2], "l": units, "z": latents, "n": decoder.decoder_h0.shape[0], "C": channels,
        "Q": channels + opacity, "p": write_size,
        "R": units + 2 * latents + (channels + opacity) * area + tints * (area + channels) + 10,
    }  # fmt: skip
