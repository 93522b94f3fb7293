"""The loop of `unroll` as the loop of the reference ops: its specification."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._decoder import apply_heads, decode_reference, drawn_patch, head_columns
from aligndraw.ops._fields import unflatten
from aligndraw.ops._unroll_fields import Inputs
from aligndraw.ops.cover import cover_reference
from aligndraw.ops.latent import latent_reference
from aligndraw.ops.lstm import lstm_gates_reference
from aligndraw.ops.product import product_reference as product
from aligndraw.ops.read import read_reference
from aligndraw.ops.write import write_reference


def unroll_reference(*args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Results`, without a tape, given those of `Inputs`."""
    inputs = unflatten(Inputs, args)
    image, canvas, bf16 = inputs.image, inputs.canvas, inputs.bf16
    encoder, decoder = inputs.encoder, inputs.decoder
    batch, channels = image.shape[:2]
    columns = head_columns(canvas, inputs.noise, inputs.write_size, inputs.tints, inputs.opacity, decoder.score)
    draw = cover_reference if inputs.opacity else write_reference
    c_t = canvas.expand(batch, -1, -1, -1)
    h_enc, h_dec = encoder.encoder_h0.expand(batch, -1), decoder.decoder_h0.expand(batch, -1)
    c_enc, c_dec = (h.new_zeros(batch, h.shape[1]) for h in (h_enc, h_dec))
    mu_p = log_sigma_p = inputs.noise.new_zeros(batch, inputs.noise.shape[2])
    heads = apply_heads(h_dec, decoder, bf16)
    by_step: list[tuple[Tensor, ...]] = []
    for epsilon in inputs.noise.unbind(1):
        glimpse = read_reference(image, heads[:, columns.read_window], inputs.read_size, c_t)
        gates = product(torch.cat([glimpse.flatten(1), h_dec], 1), encoder.encoder_ih, bf16)
        gates = gates + product(h_enc, encoder.encoder_hh, bf16) + encoder.encoder_bias
        h_enc, c_enc = lstm_gates_reference(gates, c_enc)
        mu, log_sigma = torch.addmm(encoder.posterior_bias, h_enc, encoder.posterior.mT).chunk(2, 1)
        z, kl, log_ratio = latent_reference(mu, log_sigma, mu_p, log_sigma_p, epsilon)
        query = heads[:, columns.query]
        h_dec, c_dec, weights, heads = decode_reference(
            z, query, h_dec, c_dec, inputs.words, inputs.keys, inputs.lengths, decoder, bf16
        )
        mu_p, log_sigma_p = heads[:, columns.prior].tanh().chunk(2, 1)
        opacity = heads[:, columns.opacity].sigmoid()
        patch = drawn_patch(heads[:, columns.patch], heads[:, columns.tints], opacity, channels, inputs.write_size)
        window = heads[:, columns.write_window]
        c_t = draw(patch, window, c_t)
        by_step.append((kl, log_ratio, window, weights))
    return c_t, *(torch.stack(t) for t in zip(*by_step))
