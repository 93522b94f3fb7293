"""The loop of `unroll` and its gradient as calls of the other ops' kernels, for devices without the C++ loop."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._decoder import DecoderWeights, apply_heads, drawn_patch, head_columns, tints_backward
from aligndraw.ops._fields import flatten, shapes, unflatten
from aligndraw.ops._unroll_fields import BackwardInputs, EncoderWeights, Gradients, Inputs, Results, Tape
from aligndraw.ops.cover import cover_backward, cover_by
from aligndraw.ops.product import product_reference as product


def forward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Results` and `Tape`, by the kernels of a namespace."""
    inputs = unflatten(Inputs, args)
    image, words, keys, noise, bf16 = inputs.image, inputs.words, inputs.keys, inputs.noise, inputs.bf16
    encoder, decoder = inputs.encoder, inputs.decoder
    kernels = getattr(torch.ops, namespace)
    read, write, latent = kernels.read.default, kernels.write.default, kernels.latent.default
    lstm_gates, attend = kernels.lstm_gates.default, kernels.attend.default
    draw = functools.partial(cover_by, write) if inputs.opacity else write
    steps, latents, (batch, channels) = noise.shape[1], noise.shape[2], image.shape[:2]
    columns = head_columns(inputs.canvas, noise, inputs.write_size, inputs.tints, inputs.opacity, decoder.score)
    glimpse_size = encoder.encoder_ih.shape[1] - decoder.decoder_h0.shape[0]
    sizes = inputs.sizes()
    tape = Tape(*(image.new_empty(shape) for shape in shapes(Tape, sizes)))
    results = Results(*(image.new_empty(shape) for shape in shapes(Results, sizes)))

    def add_products(out: Tensor, bias: Tensor, a: Tensor, w: Tensor, b: Tensor, u: Tensor) -> Tensor:
        if bf16:
            return torch.add(product(a, w, bf16).add_(product(b, u, bf16)), bias, out=out)
        return torch.addmm(bias, a, w.mT, out=out).addmm_(b, u.mT)

    tape.encoder_h[0], tape.decoder_h[0] = encoder.encoder_h0, decoder.decoder_h0
    tape.encoder_c[0], tape.decoder_c[0] = 0, 0
    if steps:
        tape.canvases[0] = inputs.canvas
    tape.head_outputs[0] = apply_heads(tape.decoder_h[0], decoder, bf16)
    tape.head_outputs[0, :, columns.prior] = 0  # the first prior is N(0, I)
    tape.head_outputs[0, :, columns.opacity].sigmoid_()
    c_t = inputs.canvas.expand(batch, -1, -1, -1)
    for t in range(steps):
        heads, h_dec, encoder_in, decoder_in = (
            tape.head_outputs[t],
            tape.decoder_h[t],
            tape.encoder_in[t],
            tape.decoder_in[t],
        )
        c_t = tape.canvases[t]
        glimpse = read(image, heads[:, columns.read_window], inputs.read_size, c_t)
        encoder_in[:, :glimpse_size] = glimpse.flatten(1)
        encoder_in[:, glimpse_size:] = h_dec
        gates = add_products(
            tape.encoder_gates[t], encoder.encoder_bias, encoder_in, encoder.encoder_ih, tape.encoder_h[t],
            encoder.encoder_hh,
        )  # fmt: skip
        tape.encoder_h[t + 1], tape.encoder_c[t + 1] = lstm_gates(gates, tape.encoder_c[t])
        q = torch.addmm(encoder.posterior_bias, tape.encoder_h[t + 1], encoder.posterior.mT, out=tape.posteriors[t])
        mu_p, log_sigma_p = heads[:, columns.prior].chunk(2, 1)
        z, results.kl[t], results.log_ratio[t] = latent(*q.chunk(2, 1), mu_p, log_sigma_p, noise[:, t])
        decoder_in[:, :latents] = z
        if keys is None:
            decoder_in[:, latents:] = words[:, 0]
        else:
            context, results.weights[t] = attend(heads[:, columns.query], keys, decoder.score, words, inputs.lengths)
            decoder_in[:, latents:] = context
        gates = add_products(
            tape.decoder_gates[t], decoder.decoder_bias, decoder_in, decoder.decoder_ih, h_dec, decoder.decoder_hh
        )
        tape.decoder_h[t + 1], tape.decoder_c[t + 1] = lstm_gates(gates, tape.decoder_c[t])
        heads = tape.head_outputs[t + 1]
        if bf16:
            heads.copy_(apply_heads(tape.decoder_h[t + 1], decoder, bf16))
        else:
            torch.addmm(decoder.heads_bias, tape.decoder_h[t + 1], decoder.heads.mT, out=heads)
        heads[:, columns.prior].tanh_()
        opacity = heads[:, columns.opacity].sigmoid_()
        patch = drawn_patch(heads[:, columns.patch], heads[:, columns.tints], opacity, channels, inputs.write_size)
        c_t = draw(patch, heads[:, columns.write_window], c_t)
        if t + 1 < steps:
            tape.canvases[t + 1] = c_t
    windows = tape.head_outputs[1:, :, columns.write_window].clone()
    return (*results._replace(canvas=c_t, windows=windows), *tape)


def backward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Gradients`, by the kernels of a namespace.

    It goes back through the steps; the gradients of the weights follow as one product each over all steps together.
    """
    grads, inputs, word_weights, tape, image_grad = unflatten(BackwardInputs, args)
    image, words, keys, noise, bf16 = inputs.image, inputs.words, inputs.keys, inputs.noise, inputs.bf16
    encoder, decoder = inputs.encoder, inputs.decoder
    kernels = getattr(torch.ops, namespace)
    write, read_backward, write_backward = (
        op.default for op in (kernels.write, kernels.read_backward, kernels.write_backward)
    )
    gates_backward, latent_backward = kernels.lstm_gates_backward.default, kernels.latent_backward.default
    attend_backward = kernels.attend_backward.default
    steps, latents, (batch, channels) = noise.shape[1], noise.shape[2], image.shape[:2]
    columns = head_columns(inputs.canvas, noise, inputs.write_size, inputs.tints, inputs.opacity, decoder.score)
    glimpse_size = encoder.encoder_ih.shape[1] - decoder.decoder_h0.shape[0]
    glimpse_shape = (batch, 2 * channels, inputs.read_size, inputs.read_size)

    d_encoder_gates, d_posteriors = torch.empty_like(tape.encoder_gates), torch.empty_like(tape.posteriors)
    d_decoder_gates, d_heads = torch.empty_like(tape.decoder_gates), torch.empty_like(tape.head_outputs)
    # No step follows the last heads, and those of h₀ draw nothing.
    d_heads[0], d_heads[steps] = 0, 0
    d_noise = torch.empty_like(noise)
    d_words, d_keys = torch.zeros_like(words), None if keys is None else torch.zeros_like(keys)
    d_score = None if decoder.score is None else torch.zeros_like(decoder.score)
    d_image = torch.zeros_like(image) if image_grad else image.new_empty(0)
    d_c_t = grads.canvas

    def add_product(to: Tensor, d: Tensor, w: Tensor) -> None:
        if bf16:
            to.add_(product(d, w.mT, bf16))
        else:
            to.addmm_(d, w)

    d_h_enc, d_c_enc = torch.zeros_like(tape.encoder_h[0]), torch.zeros_like(tape.encoder_h[0])
    d_h_dec, d_c_dec = torch.zeros_like(tape.decoder_h[0]), torch.zeros_like(tape.decoder_h[0])
    for t in reversed(range(steps)):
        heads, d_heads_t, d_before = tape.head_outputs[t + 1], d_heads[t + 1], d_heads[t]
        tints, opacity, window = heads[:, columns.tints], heads[:, columns.opacity], heads[:, columns.write_window]
        patch = drawn_patch(heads[:, columns.patch], tints, opacity, channels, inputs.write_size)
        if inputs.opacity:
            d_patch, d_window, d_c_t = cover_backward(write, write_backward, d_c_t, patch, window, tape.canvases[t])
            d_patch, d_opacity = d_patch.split([channels, 1], 1)
            d_heads_t[:, columns.opacity] = d_opacity.flatten(1) * opacity * (1 - opacity)
        else:
            d_patch, d_window = write_backward(d_c_t, patch, window)
        d_heads_t[:, columns.patch] = d_patch.flatten(1)
        if inputs.tints:
            d_heads_t[:, columns.tints] = tints_backward(d_patch, tints)
        torch.add(d_window, grads.windows[t], out=d_heads_t[:, columns.write_window])
        add_product(d_h_dec, d_heads_t, decoder.heads)
        d_gates, d_c_dec = gates_backward(d_h_dec, d_c_dec, tape.decoder_gates[t], tape.decoder_c[t])
        d_decoder_gates[t] = d_gates
        d_in = product(d_gates, decoder.decoder_ih.mT, bf16)
        d_h_dec = product(d_gates, decoder.decoder_hh.mT, bf16)
        before = tape.head_outputs[t]
        if d_keys is None:
            d_words[:, 0] += d_in[:, latents:]
        else:
            d_query, d_key, d_v, d_word = attend_backward(
                d_in[:, latents:], grads.weights[t], before[:, columns.query], keys, decoder.score, words,
                inputs.lengths, word_weights[t],
            )  # fmt: skip
            d_before[:, columns.query] = d_query
            d_keys += d_key
            d_score += d_v
            d_words += d_word
        prior = before[:, columns.prior]
        d_mu, d_log_sigma, d_mu_p, d_log_sigma_p, d_noise[:, t] = latent_backward(
            d_in[:, :latents], grads.kl[t], grads.log_ratio[t], *tape.posteriors[t].chunk(2, 1), *prior.chunk(2, 1),
            noise[:, t],
        )  # fmt: skip
        d_q = torch.cat([d_mu, d_log_sigma], 1, out=d_posteriors[t])
        if t:
            d_prior = torch.cat([d_mu_p, d_log_sigma_p], 1)
            d_before[:, columns.prior] = d_prior - d_prior * prior.square()
        add_product(d_h_enc, d_q, encoder.posterior)
        d_gates, d_c_enc = gates_backward(d_h_enc, d_c_enc, tape.encoder_gates[t], tape.encoder_c[t])
        d_encoder_gates[t] = d_gates
        d_in = product(d_gates, encoder.encoder_ih.mT, bf16)
        d_h_enc = product(d_gates, encoder.encoder_hh.mT, bf16)
        d_h_dec += d_in[:, glimpse_size:]
        d_x, d_window, d_canvas = read_backward(
            d_in[:, :glimpse_size].reshape(glimpse_shape), image, before[:, columns.read_window], inputs.read_size,
            tape.canvases[t], image_grad,
        )  # fmt: skip
        d_before[:, columns.read_window] = d_window
        d_c_t = d_canvas.add_(d_c_t)
        if image_grad:
            d_image += d_x
    add_product(d_h_dec, d_heads[0], decoder.heads)

    def over_steps(grads: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of a matrix and of a bias."""
        grads = grads.flatten(0, 1)
        return product(grads.mT, inputs.flatten(0, 1).mT, bf16), grads.sum(0)

    d_encoder_ih, d_encoder_bias = over_steps(d_encoder_gates, tape.encoder_in)
    d_decoder_ih, d_decoder_bias = over_steps(d_decoder_gates, tape.decoder_in)
    d_posterior, d_posterior_bias = over_steps(d_posteriors, tape.encoder_h[1:])
    d_head_weights, d_heads_bias = over_steps(d_heads, tape.decoder_h)
    nothing = image.new_empty(0)
    d_encoder = EncoderWeights(
        encoder_ih=d_encoder_ih,
        encoder_hh=over_steps(d_encoder_gates, tape.encoder_h[:-1])[0],
        encoder_bias=d_encoder_bias,
        encoder_h0=d_h_enc.sum(0),
        posterior=d_posterior,
        posterior_bias=d_posterior_bias,
    )
    d_decoder = DecoderWeights(
        decoder_ih=d_decoder_ih,
        decoder_hh=over_steps(d_decoder_gates, tape.decoder_h[:-1])[0],
        decoder_bias=d_decoder_bias,
        decoder_h0=d_h_dec.sum(0),
        heads=d_head_weights,
        heads_bias=d_heads_bias,
        score=nothing if d_score is None else d_score,
    )
    return flatten(
        Gradients(
            image=d_image,
            canvas=d_c_t.sum(0),
            words=d_words,
            keys=nothing if d_keys is None else d_keys,
            noise=d_noise,
            encoder=d_encoder,
            decoder=d_decoder,
        )
    )
