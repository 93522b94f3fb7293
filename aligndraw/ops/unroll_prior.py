"""unroll_prior: all T steps of sampling as one op."""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from aligndraw.ops._decoder import (
    DecoderWeights,
    check_decoder_sizes,
    decode_reference,
    decoder_sizes,
    drawn_patch,
    head_columns,
)
from aligndraw.ops._fields import fields, flatten, results_schema, schema, shapes, unflatten
from aligndraw.ops._op import Op, check_loop, check_shape, check_shapes, check_sizes
from aligndraw.ops.cover import cover_by, cover_reference
from aligndraw.ops.write import write_reference


class Drawn(NamedTuple):
    """The results of T steps of sampling."""

    canvas: Tensor  # c_T [B, C, H, W], before the sigmoid
    patches: Tensor  # [B, T, C, p, p]; with opacity [B, T, C + 1, p, p]
    windows: Tensor  # [B, T, 5]
    weights: Tensor | None  # α [B, T, N]; None without attention


# The letters are those of `unroll` (_unroll_fields.py); `csrc/unroll_fields.h` is the other side.
class Inputs(NamedTuple):
    """The arguments."""

    canvas: Annotated[Tensor, "[C, H, W]"]  # c_0
    words: Annotated[Tensor, "[B, N, d]"]
    keys: Annotated[Tensor | None, "[B, N, l]"]
    lengths: Annotated[Tensor, "[B]"]
    noise: Annotated[Tensor, "[B, T, z]"]
    decoder: DecoderWeights
    write_size: int
    tints: int
    opacity: bool

    def sizes(self) -> dict[str, int]:
        """Returns the sizes by letter, of arguments that fit."""
        channels, height, width = self.canvas.shape
        decoder = decoder_sizes(
            self.words, self.noise, self.decoder, channels, self.write_size, self.tints, self.opacity
        )
        return {**decoder, "H": height, "W": width}


class Results(NamedTuple):
    """The results, time first."""

    canvas: Annotated[Tensor, "[B, C, H, W]"]  # c_T, before the sigmoid
    patches: Annotated[Tensor, "[T, B, Q, p, p]"]
    windows: Annotated[Tensor, "[T, B, 5]"]
    weights: Annotated[Tensor, "[T, B, A]"]  # α


def unroll_prior_reference(*args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Results`, given those of `Inputs`."""
    inputs = unflatten(Inputs, args)
    canvas, noise, decoder, write_size = inputs.canvas, inputs.noise, inputs.decoder, inputs.write_size
    batch, channels = noise.shape[0], canvas.shape[0]
    columns = head_columns(canvas, noise, write_size, inputs.tints, inputs.opacity, decoder.score)
    draw = cover_reference if inputs.opacity else write_reference
    c_t = canvas.expand(batch, -1, -1, -1)
    h = decoder.decoder_h0.expand(batch, -1)
    c = h.new_zeros(batch, h.shape[1])
    mu = log_sigma = noise.new_zeros(batch, noise.shape[2])
    heads = torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
    by_step: list[tuple[Tensor, ...]] = []
    for epsilon in noise.unbind(1):
        z = mu + log_sigma.exp() * epsilon
        h, c, weights, heads = decode_reference(
            z, heads[:, columns.query], h, c, inputs.words, inputs.keys, inputs.lengths, decoder, False
        )
        mu, log_sigma = heads[:, columns.prior].tanh().chunk(2, 1)
        opacity = heads[:, columns.opacity].sigmoid()
        patch = drawn_patch(heads[:, columns.patch], heads[:, columns.tints], opacity, channels, write_size)
        window = heads[:, columns.write_window]
        c_t = draw(patch, window, c_t)
        by_step.append((patch, window, weights))
    return c_t.contiguous(), *(torch.stack(t) for t in zip(*by_step))


def _forward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Results`, by the kernels of a namespace."""
    inputs = unflatten(Inputs, args)
    canvas, words, keys, noise, decoder = inputs.canvas, inputs.words, inputs.keys, inputs.noise, inputs.decoder
    kernels = getattr(torch.ops, namespace)
    attend, lstm_gates, write = kernels.attend.default, kernels.lstm_gates.default, kernels.write.default
    batch, steps, latents = noise.shape
    columns = head_columns(canvas, noise, inputs.write_size, inputs.tints, inputs.opacity, decoder.score)
    draw = functools.partial(cover_by, write) if inputs.opacity else write
    results = Results(*(canvas.new_empty(shape) for shape in shapes(Results, inputs.sizes())))
    of_latent, of_context = decoder.decoder_ih.mT.split([latents, words.shape[2]])
    word_gates = words @ of_context
    h, c = decoder.decoder_h0.expand(batch, -1), canvas.new_zeros(batch, decoder.decoder_h0.shape[0])
    heads = torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
    heads[:, columns.prior] = 0  # the first prior is N(0, I)
    c_t = canvas.expand(batch, -1, -1, -1)
    for t in range(steps):
        mu, log_sigma = heads[:, columns.prior].tanh().chunk(2, 1)
        z = torch.addcmul(mu, log_sigma.exp(), noise[:, t])
        if keys is None:
            context_gates = word_gates[:, 0]
        else:
            query = heads[:, columns.query]
            context_gates, results.weights[t] = attend(query, keys, decoder.score, word_gates, inputs.lengths)
        gates = torch.addmm(decoder.decoder_bias, z, of_latent).addmm_(h, decoder.decoder_hh.mT).add_(context_gates)
        h, c = lstm_gates(gates, c)
        heads = torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
        opacity = heads[:, columns.opacity].sigmoid()
        results.patches[t] = drawn_patch(
            heads[:, columns.patch], heads[:, columns.tints], opacity, canvas.shape[0], inputs.write_size
        )
        results.windows[t] = heads[:, columns.write_window]
        c_t = draw(results.patches[t], results.windows[t], c_t)
    return results._replace(canvas=c_t)


def _check(*args: Any) -> None:
    inputs = unflatten(Inputs, args)
    canvas, decoder, op = inputs.canvas, inputs.decoder, "unroll_prior"
    check_shape(op, "canvas", canvas, "[C, H, W]", (None, None, None))
    check_decoder_sizes(
        op, inputs.words, inputs.keys, inputs.noise, decoder, canvas.shape[0], inputs.write_size, inputs.tints,
        inputs.opacity,
    )  # fmt: skip
    sizes = inputs.sizes()
    check_shapes(op, inputs, sizes)
    per_row = 4 * sizes["n"] + sizes["R"] + sizes["N"] + math.prod(canvas.shape)
    check_sizes(op, "the drawings", (sizes["T"], sizes["B"], per_row))
    named = dict(zip((field.name for field in fields(Inputs)), flatten(inputs)[:-3]))
    check_loop(op, named.pop("lengths"), "canvas", named.pop("canvas"), **named)


def _fake(*args: Any) -> tuple[Tensor, ...]:
    inputs = unflatten(Inputs, args)
    return tuple(inputs.canvas.new_empty(shape) for shape in shapes(Results, inputs.sizes()))


_op = Op(
    "unroll_prior",
    schema=f"({schema(Inputs)}) -> {results_schema(Results)}",
    reference=unroll_prior_reference,
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
    tints: int = 0,
    opacity: bool = False,
) -> Drawn:
    """T steps of drawing with the prior's latents (alignDRAW, Eq. 1-5): steps of `unroll` without read and encoder,
    with z = μ_p + σ_p ε. Its gradient is the reference's.

    Each word is multiplied by the decoder's weights once, since Σ_k α_k h_k W = Σ_k α_k (h_k W). In C++ all writes
    follow the loop, since no step reads the canvas. On a GPU the environment variable ALIGNDRAW_LOOP forces the form of
    the loop, as in `unroll`; "auto" takes one launch for small batches whose weights fit.

    Args:
        canvas: c_0, [C, H, W], float32 or float64; all floating tensors have one dtype.
        words, keys, lengths, noise, decoder, write_size, tints, opacity: as in `unroll`.

    Returns:
        The results of all steps, in the dtype of the arguments.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    return drawn(_op(canvas, words, keys, lengths, noise, *decoder, write_size, tints, opacity), keys)


def drawn(results: tuple[Tensor, ...], keys: Tensor | None) -> Drawn:
    """Returns the results of the op by their names, with the batch first."""
    last, patches, windows, weights = results
    by_batch = None if keys is None else weights.transpose(0, 1)
    return Drawn(last, patches.transpose(0, 1), windows.transpose(0, 1), by_batch)
