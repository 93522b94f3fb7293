"""unroll: all T steps of drawing as one op."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from aligndraw.backends import ISAS, backend_for
from aligndraw.ops._autograd import of_these, vjp
from aligndraw.ops._op import Op, check_loop, check_shape, check_sizes
from aligndraw.ops.attend import attend_reference
from aligndraw.ops.latent import latent_reference
from aligndraw.ops.lstm import lstm_gates_reference
from aligndraw.ops.read import read_reference
from aligndraw.ops.write import write_reference


class DecoderWeights(NamedTuple):
    """The parameters of the generative half of a step, Eq. 1-4.

    The rows of `heads`, all linear in h_dec, are in this order: query [l] (none without attention), the prior's μ and
    log σ before the tanh [2z], patch [C·p·p], write window [5], read window [5].
    """

    decoder_ih: Tensor  # [4n, z + d]: of the latent, then of the context
    decoder_hh: Tensor  # [4n, n]
    decoder_bias: Tensor  # [4n]
    decoder_h0: Tensor  # [n]
    heads: Tensor  # [R, n]
    heads_bias: Tensor  # [R]
    score: Tensor | None  # v, [l]; None without attention


class EncoderWeights(NamedTuple):
    """The parameters of the inference half of a step, Eq. 10-13."""

    encoder_ih: Tensor  # [4e, G + n]: of the glimpse, G = 2·C·p·p, then of h_dec
    encoder_hh: Tensor  # [4e, e]
    encoder_bias: Tensor  # [4e]
    encoder_h0: Tensor  # [e]
    posterior: Tensor  # [2z, e]: μ, then log σ
    posterior_bias: Tensor  # [2z]


class Unrolled(NamedTuple):
    """What T steps leave behind."""

    canvas: Tensor  # c_T [B, C, H, W], before the sigmoid
    kl: Tensor  # [B, T], nats
    log_ratio: Tensor  # log q(z) − log p(z) [B, T], nats
    windows: Tensor  # of the writes [B, T, 5]
    weights: Tensor | None  # α [B, T, N]; None without attention


class _Heads(NamedTuple):
    """The columns of the heads' result."""

    query: slice
    prior: slice
    patch: slice
    write_window: slice
    read_window: slice

    @staticmethod
    def of(units: int, latents: int, patch: int) -> _Heads:
        ends = [0]
        for size in (units, 2 * latents, patch, 5, 5):
            ends.append(ends[-1] + size)
        return _Heads(*(slice(a, b) for a, b in zip(ends, ends[1:])))


def heads_columns(canvas: Tensor, noise: Tensor, write_size: int, score: Tensor | None) -> _Heads:
    """Where the columns of the heads' result are."""
    units = 0 if score is None else score.shape[0]
    return _Heads.of(units, noise.shape[2], canvas.shape[0] * write_size**2)


def product(a: Tensor, b: Tensor, bf16: bool) -> Tensor:
    """a b; with `bf16`, of float32 factors rounded to bfloat16, with sums and result in float32."""
    if not bf16 or a.dtype != torch.float32:
        return a @ b
    wants_gradient = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    if a.is_cuda and not wants_gradient:  # for PyTorch has none of the next product
        return torch.mm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32)
    return a.bfloat16().float() @ b.bfloat16().float()


def rounds_fast(device: str) -> bool:
    """Whether products of rounded factors are faster than others: in C++ on CPUs with AVX512_BF16 or AMX."""
    return backend_for("unroll", device) == "cpp" and torch.ops.aligndraw.isa() >= ISAS.index("avx512_bf16")


def say(h: Tensor, decoder: DecoderWeights, bf16: bool) -> Tensor:
    """What the heads say of h_dec. Priors and windows are never rounded."""
    if decoder.score is None or not bf16:
        return torch.addmm(decoder.heads_bias, h, decoder.heads.mT)
    query, others = decoder.heads.tensor_split([len(decoder.score)])
    return torch.cat([product(h, query.mT, bf16), h @ others.mT], 1) + decoder.heads_bias


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
    """Attention and the generative LSTM (Eq. 2, 3, 6, 7): h_dec, its cell state, α, and what the heads say of h_dec."""
    if keys is None or decoder.score is None:
        context, weights = words[:, 0], words.new_empty(len(words), 0)
    else:
        context, weights = attend_reference(query, keys, decoder.score, words, lengths)
    gates = product(torch.cat([z, context], 1), decoder.decoder_ih.mT, bf16)
    gates = gates + product(h, decoder.decoder_hh.mT, bf16) + decoder.decoder_bias
    h, c = lstm_gates_reference(gates, c)
    return h, c, weights, say(h, decoder, bf16)


def _unroll_reference(
    image: Tensor,
    canvas: Tensor,
    words: Tensor,
    keys: Tensor | None,
    lengths: Tensor,
    noise: Tensor,
    encoder_ih: Tensor,
    encoder_hh: Tensor,
    encoder_bias: Tensor,
    encoder_h0: Tensor,
    posterior: Tensor,
    posterior_bias: Tensor,
    decoder_ih: Tensor,
    decoder_hh: Tensor,
    decoder_bias: Tensor,
    decoder_h0: Tensor,
    heads: Tensor,
    heads_bias: Tensor,
    score: Tensor | None,
    read_size: int,
    write_size: int,
    bf16: bool,
) -> tuple[Tensor, ...]:
    """Results as the op gives them, time first, without a tape."""
    batch, channels = image.shape[:2]
    decoder = DecoderWeights(decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads, heads_bias, score)
    at = heads_columns(canvas, noise, write_size, score)
    c_t = canvas.expand(batch, -1, -1, -1)
    h_enc, c_enc = encoder_h0.expand(batch, -1), encoder_h0.new_zeros(batch, encoder_h0.shape[0])
    h_dec, c_dec = decoder_h0.expand(batch, -1), decoder_h0.new_zeros(batch, decoder_h0.shape[0])
    mu_p = log_sigma_p = noise.new_zeros(batch, noise.shape[2])
    said = say(h_dec, decoder, bf16)
    done: list[tuple[Tensor, ...]] = []
    for epsilon in noise.unbind(1):
        glimpse = read_reference(image, said[:, at.read_window], read_size, c_t)
        gates = product(torch.cat([glimpse.flatten(1), h_dec], 1), encoder_ih.mT, bf16)
        gates = gates + product(h_enc, encoder_hh.mT, bf16) + encoder_bias
        h_enc, c_enc = lstm_gates_reference(gates, c_enc)
        mu, log_sigma = torch.addmm(posterior_bias, h_enc, posterior.mT).chunk(2, 1)
        z, kl, log_ratio = latent_reference(mu, log_sigma, mu_p, log_sigma_p, epsilon)
        query = said[:, at.query]
        h_dec, c_dec, weights, said = decode_reference(z, query, h_dec, c_dec, words, keys, lengths, decoder, bf16)
        mu_p, log_sigma_p = said[:, at.prior].tanh().chunk(2, 1)
        patch = said[:, at.patch].reshape(batch, channels, write_size, write_size)
        window = said[:, at.write_window]
        c_t = write_reference(patch, window, c_t)
        done.append((kl, log_ratio, window, weights))
    return c_t, *(torch.stack(t) for t in zip(*done))


# The op's own results come time first, and with a tape: what the backward needs and would else calculate again.
_TAPE = (
    "encoder_in",  # glimpse and h_dec before the step [T, B, G + n]
    "encoder_gates",  # [T, B, 4e]
    "encoder_h",  # [T + 1, B, e]
    "encoder_c",
    "posteriors",  # [T, B, 2z]
    "decoder_in",  # latent and context [T, B, z + d]
    "decoder_gates",  # [T, B, 4n]
    "decoder_h",  # [T + 1, B, n]
    "decoder_c",
    "said",  # the heads of each h_dec, the prior's after the tanh [T + 1, B, R]
    "canvases",  # c_0 ... c_{T-1} [T, B, C, H, W]
)


def _kernels(namespace: str) -> Any:
    return getattr(torch.ops, namespace)


def _forward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """The loop on one backend's kernels, with as little else as can be."""
    image, canvas, words, keys, lengths, noise, *weights, read_size, write_size, bf16 = args
    encoder, decoder = EncoderWeights(*weights[:6]), DecoderWeights(*weights[6:])
    k = _kernels(namespace)
    read, write, lstm_gates, latent = k.read.default, k.write.default, k.lstm_gates.default, k.latent.default
    steps, (batch, channels, height, width) = noise.shape[1], image.shape
    at = heads_columns(canvas, noise, write_size, decoder.score)
    latents, units = noise.shape[2], decoder.decoder_h0.shape[0]
    glimpse_size = encoder.encoder_ih.shape[1] - units

    encoder_in = image.new_empty(steps, batch, glimpse_size + units)
    encoder_gates = image.new_empty(steps, batch, encoder.encoder_bias.shape[0])
    encoder_h = image.new_empty(steps + 1, batch, encoder.encoder_h0.shape[0])
    encoder_c = torch.empty_like(encoder_h)
    posteriors = image.new_empty(steps, batch, 2 * latents)
    decoder_in = image.new_empty(steps, batch, latents + words.shape[2])
    decoder_gates = image.new_empty(steps, batch, decoder.decoder_bias.shape[0])
    decoder_h = image.new_empty(steps + 1, batch, units)
    decoder_c = torch.empty_like(decoder_h)
    said = image.new_empty(steps + 1, batch, decoder.heads.shape[0])
    canvases = image.new_empty(steps, batch, channels, height, width)
    kl, log_ratio = image.new_empty(steps, batch), image.new_empty(steps, batch)
    word_weights = image.new_empty(steps, batch, words.shape[1] if keys is not None else 0)

    def add_products(out: Tensor, bias: Tensor, a: Tensor, w: Tensor, b: Tensor, u: Tensor) -> Tensor:
        if bf16:
            return torch.add(product(a, w.mT, bf16).add_(product(b, u.mT, bf16)), bias, out=out)
        return torch.addmm(bias, a, w.mT, out=out).addmm_(b, u.mT)

    encoder_h[0], decoder_h[0] = encoder.encoder_h0, decoder.decoder_h0
    encoder_c[0], decoder_c[0] = 0, 0
    if steps:
        canvases[0] = canvas
    said[0] = say(decoder_h[0], decoder, bf16)
    said[0, :, at.prior] = 0  # the first prior is N(0, I)
    c_t = canvas.expand(batch, -1, -1, -1)
    for t in range(steps):
        now, h_dec = said[t], decoder_h[t]
        c_t = canvases[t]
        glimpse = read(image, now[:, at.read_window], read_size, c_t)
        encoder_in[t, :, :glimpse_size] = glimpse.flatten(1)
        encoder_in[t, :, glimpse_size:] = h_dec
        gates = add_products(
            encoder_gates[t], encoder.encoder_bias, encoder_in[t], encoder.encoder_ih, encoder_h[t], encoder.encoder_hh
        )
        encoder_h[t + 1], encoder_c[t + 1] = lstm_gates(gates, encoder_c[t])
        q = torch.addmm(encoder.posterior_bias, encoder_h[t + 1], encoder.posterior.mT, out=posteriors[t])
        mu_p, log_sigma_p = now[:, at.prior].chunk(2, 1)
        z, kl[t], log_ratio[t] = latent(*q.chunk(2, 1), mu_p, log_sigma_p, noise[:, t])
        decoder_in[t, :, :latents] = z
        if keys is None:
            decoder_in[t, :, latents:] = words[:, 0]
        else:
            context, word_weights[t] = k.attend.default(now[:, at.query], keys, decoder.score, words, lengths)
            decoder_in[t, :, latents:] = context
        gates = add_products(
            decoder_gates[t], decoder.decoder_bias, decoder_in[t], decoder.decoder_ih, h_dec, decoder.decoder_hh
        )
        decoder_h[t + 1], decoder_c[t + 1] = lstm_gates(gates, decoder_c[t])
        now = said[t + 1]
        if bf16:
            now.copy_(say(decoder_h[t + 1], decoder, bf16))
        else:
            torch.addmm(decoder.heads_bias, decoder_h[t + 1], decoder.heads.mT, out=now)
        now[:, at.prior].tanh_()
        patch = now[:, at.patch].reshape(batch, channels, write_size, write_size)
        c_t = write(patch, now[:, at.write_window], c_t)
        if t + 1 < steps:
            canvases[t + 1] = c_t
    windows = said[1:, :, at.write_window].clone()
    tape = (
        encoder_in, encoder_gates, encoder_h, encoder_c, posteriors, decoder_in, decoder_gates, decoder_h, decoder_c,
        said, canvases,
    )  # fmt: skip
    return c_t, kl, log_ratio, windows, word_weights, *tape


def _backward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """Back through the steps; the gradients of the weights follow as one product each over all steps together."""
    grad_canvas, grad_kl, grad_log_ratio, grad_windows, grad_weights = args[:5]
    image, canvas, words, keys, lengths, noise, *weights, read_size, write_size, bf16 = args[5:27]
    word_weights, image_grad = args[27], args[-1]
    (
        encoder_in, encoder_gates, encoder_h, encoder_c, posteriors, decoder_in, decoder_gates, decoder_h, decoder_c,
        said, canvases,
    ) = args[28:-1]  # fmt: skip
    encoder, decoder = EncoderWeights(*weights[:6]), DecoderWeights(*weights[6:])
    k = _kernels(namespace)
    read_backward, write_backward = k.read_backward.default, k.write_backward.default
    gates_backward, latent_backward = k.lstm_gates_backward.default, k.latent_backward.default
    attend_backward = k.attend_backward.default
    steps, (batch, channels) = noise.shape[1], image.shape[:2]
    at = heads_columns(canvas, noise, write_size, decoder.score)
    latents, glimpse_size = noise.shape[2], encoder.encoder_ih.shape[1] - decoder.decoder_h0.shape[0]
    glimpse_shape = (batch, 2 * channels, read_size, read_size)

    d_encoder_gates, d_posteriors = torch.empty_like(encoder_gates), torch.empty_like(posteriors)
    d_decoder_gates, d_said = torch.empty_like(decoder_gates), torch.empty_like(said)
    # The last heads speak to no further step, and h₀'s draw nothing.
    d_said[0], d_said[steps] = 0, 0
    d_noise = torch.empty_like(noise)
    d_words, d_keys = torch.zeros_like(words), None if keys is None else torch.zeros_like(keys)
    d_score = None if decoder.score is None else torch.zeros_like(decoder.score)
    d_image = torch.zeros_like(image) if image_grad else image.new_empty(0)
    d_c_t = grad_canvas

    def add_product(to: Tensor, d: Tensor, w: Tensor) -> None:
        if bf16:
            to.add_(product(d, w, bf16))
        else:
            to.addmm_(d, w)

    d_h_enc, d_c_enc = torch.zeros_like(encoder_h[0]), torch.zeros_like(encoder_h[0])
    d_h_dec, d_c_dec = torch.zeros_like(decoder_h[0]), torch.zeros_like(decoder_h[0])
    for t in reversed(range(steps)):
        now, d_now, d_before = said[t + 1], d_said[t + 1], d_said[t]
        patch = now[:, at.patch].reshape(batch, channels, write_size, write_size)
        d_patch, d_window = write_backward(d_c_t, patch, now[:, at.write_window])
        d_now[:, at.patch] = d_patch.flatten(1)
        torch.add(d_window, grad_windows[t], out=d_now[:, at.write_window])
        add_product(d_h_dec, d_now, decoder.heads)
        d_gates, d_c_dec = gates_backward(d_h_dec, d_c_dec, decoder_gates[t], decoder_c[t])
        d_decoder_gates[t] = d_gates
        d_in = product(d_gates, decoder.decoder_ih, bf16)
        d_h_dec = product(d_gates, decoder.decoder_hh, bf16)
        before = said[t]
        if d_keys is None:
            d_words[:, 0] += d_in[:, latents:]
        else:
            d_query, d_key, d_v, d_word = attend_backward(
                d_in[:, latents:], grad_weights[t], before[:, at.query], keys, decoder.score, words, lengths,
                word_weights[t],
            )  # fmt: skip
            d_before[:, at.query] = d_query
            d_keys += d_key
            d_score += d_v
            d_words += d_word
        prior = before[:, at.prior]
        d_mu, d_log_sigma, d_mu_p, d_log_sigma_p, d_noise[:, t] = latent_backward(
            d_in[:, :latents], grad_kl[t], grad_log_ratio[t], *posteriors[t].chunk(2, 1), *prior.chunk(2, 1),
            noise[:, t],
        )  # fmt: skip
        d_q = torch.cat([d_mu, d_log_sigma], 1, out=d_posteriors[t])
        if t:
            d_prior = torch.cat([d_mu_p, d_log_sigma_p], 1)
            d_before[:, at.prior] = d_prior - d_prior * prior.square()
        add_product(d_h_enc, d_q, encoder.posterior)
        d_gates, d_c_enc = gates_backward(d_h_enc, d_c_enc, encoder_gates[t], encoder_c[t])
        d_encoder_gates[t] = d_gates
        d_in = product(d_gates, encoder.encoder_ih, bf16)
        d_h_enc = product(d_gates, encoder.encoder_hh, bf16)
        d_h_dec += d_in[:, glimpse_size:]
        d_x, d_window, d_seen = read_backward(
            d_in[:, :glimpse_size].reshape(glimpse_shape), image, before[:, at.read_window], read_size, canvases[t],
            image_grad,
        )  # fmt: skip
        d_before[:, at.read_window] = d_window
        d_c_t = d_seen.add_(d_c_t)
        if image_grad:
            d_image += d_x
    add_product(d_h_dec, d_said[0], decoder.heads)

    def over_steps(grads: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of a matrix and of a bias."""
        grads = grads.flatten(0, 1)
        return product(grads.mT, inputs.flatten(0, 1), bf16), grads.sum(0)

    d_encoder_ih, d_encoder_bias = over_steps(d_encoder_gates, encoder_in)
    d_encoder_hh, _ = over_steps(d_encoder_gates, encoder_h[:-1])
    d_decoder_ih, d_decoder_bias = over_steps(d_decoder_gates, decoder_in)
    d_decoder_hh, _ = over_steps(d_decoder_gates, decoder_h[:-1])
    nothing = image.new_empty(0)
    return (
        d_image, d_c_t.sum(0), d_words, nothing if d_keys is None else d_keys, d_noise,
        d_encoder_ih, d_encoder_hh, d_encoder_bias, d_h_enc.sum(0), *over_steps(d_posteriors, encoder_h[1:]),
        d_decoder_ih, d_decoder_hh, d_decoder_bias, d_h_dec.sum(0), *over_steps(d_said, decoder_h),
        nothing if d_score is None else d_score,
    )  # fmt: skip


def _shapes(args: tuple[Any, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of the op's results and then of its tape, by name."""
    image, canvas, words, keys, _, noise, *weights, _, _, _ = args
    encoder, decoder = EncoderWeights(*weights[:6]), DecoderWeights(*weights[6:])
    steps, batch = noise.shape[1], image.shape[0]
    e, n = encoder.encoder_h0.shape[0], decoder.decoder_h0.shape[0]
    return {
        "canvas": tuple(image.shape),
        "kl": (steps, batch),
        "log_ratio": (steps, batch),
        "windows": (steps, batch, 5),
        "weights": (steps, batch, 0 if keys is None else words.shape[1]),
        "encoder_in": (steps, batch, encoder.encoder_ih.shape[1]),
        "encoder_gates": (steps, batch, 4 * e),
        "encoder_h": (steps + 1, batch, e),
        "encoder_c": (steps + 1, batch, e),
        "posteriors": (steps, batch, 2 * noise.shape[2]),
        "decoder_in": (steps, batch, decoder.decoder_ih.shape[1]),
        "decoder_gates": (steps, batch, 4 * n),
        "decoder_h": (steps + 1, batch, n),
        "decoder_c": (steps + 1, batch, n),
        "said": (steps + 1, batch, decoder.heads.shape[0]),
        "canvases": (steps, *image.shape),
    }


def _fake(*args: Any) -> tuple[Tensor, ...]:
    return tuple(args[0].new_empty(shape) for shape in _shapes(args).values())


def _backward_fake(*args: Any) -> tuple[Tensor, ...]:
    image, canvas, words, keys, _, noise, *weights = args[5:24]
    nothing = image.new_empty(0)
    likes = [image if args[-1] else nothing, canvas, words, keys, noise, *weights]
    return tuple(nothing.clone() if like is None else like.new_empty(like.shape) for like in likes)


def _backward_reference(*args: Any) -> tuple[Tensor, ...]:
    grads, inputs, image_grad = args[:5], args[5:27], args[-1]
    places = (0, 1, 2, 3, 5, *range(6, 19))  # of what has a gradient
    at = [i for i in places if inputs[i] is not None and (i or image_grad)]
    found = dict(zip(at, vjp(of_these(_unroll_reference, inputs, at), [inputs[i] for i in at], grads)))
    return tuple(found[i] if i in found else grads[0].new_empty(0) for i in places)


def check_decoder(
    op: str,
    words: Tensor,
    keys: Tensor | None,
    lengths: Tensor,
    noise: Tensor,
    decoder: DecoderWeights,
    channels: int,
    write_size: int,
) -> None:
    """The shapes that the loops have in common."""
    check_shape(op, "noise", noise, "[B, T, z]", (None, None, None))
    batch, steps, latents = noise.shape
    if steps < 1:
        raise RuntimeError(f"{op}: noise must have at least one step, got {list(noise.shape)}")
    check_shape(op, "words", words, "[B, N, d]", (batch, None, None))
    count = words.shape[1]
    if write_size < 1:
        raise RuntimeError(f"{op}: write_size must be at least 1, got {write_size}")
    check_sizes(op, "the patch", (channels, write_size, write_size))
    if (keys is None) != (decoder.score is None):
        raise RuntimeError(f"{op}: score must be given where keys are, and nowhere else")
    if keys is None and count != 1:
        raise RuntimeError(f"{op}: words must be one vector a caption where there are no keys, got {count}")
    units = 0
    if keys is not None and decoder.score is not None:
        if count < 1:
            raise RuntimeError(f"{op}: words must have at least one word, got {list(words.shape)}")
        check_shape(op, "score", decoder.score, "[l]", (None,))
        units = decoder.score.shape[0]
        check_shape(op, "keys", keys, "[B, N, l]", (batch, count, units))
    check_shape(op, "lengths", lengths, "[B]", (batch,))
    check_shape(op, "decoder_h0", decoder.decoder_h0, "[n]", (None,))
    n = decoder.decoder_h0.shape[0]
    rows = units + 2 * latents + channels * write_size**2 + 10
    check_shape(op, "decoder_ih", decoder.decoder_ih, "[4n, z + d]", (4 * n, latents + words.shape[2]))
    check_shape(op, "decoder_hh", decoder.decoder_hh, "[4n, n]", (4 * n, n))
    check_shape(op, "decoder_bias", decoder.decoder_bias, "[4n]", (4 * n,))
    check_shape(op, "heads", decoder.heads, "[R, n]", (rows, n))
    check_shape(op, "heads_bias", decoder.heads_bias, "[R]", (rows,))


def _check(*args: Any) -> None:
    image, canvas, words, keys, lengths, noise, *weights, read_size, write_size, _ = args
    encoder, decoder = EncoderWeights(*weights[:6]), DecoderWeights(*weights[6:])
    check_shape("unroll", "image", image, "[B, C, H, W]", (None, None, None, None))
    batch, channels, height, width = image.shape
    check_shape("unroll", "noise", noise, "[B, T, z]", (batch, None, None))
    if read_size < 1:
        raise RuntimeError(f"unroll: read_size must be at least 1, got {read_size}")
    check_sizes("unroll", "the glimpse", (2 * channels, read_size, read_size))
    check_decoder("unroll", words, keys, lengths, noise, decoder, channels, write_size)
    check_shape("unroll", "encoder_h0", encoder.encoder_h0, "[e]", (None,))
    e, n, latents = encoder.encoder_h0.shape[0], decoder.decoder_h0.shape[0], noise.shape[2]
    glimpse = 2 * channels * read_size**2
    check_shape("unroll", "canvas", canvas, "[C, H, W]", (channels, height, width))
    check_shape("unroll", "encoder_ih", encoder.encoder_ih, "[4e, G + n]", (4 * e, glimpse + n))
    check_shape("unroll", "encoder_hh", encoder.encoder_hh, "[4e, e]", (4 * e, e))
    check_shape("unroll", "encoder_bias", encoder.encoder_bias, "[4e]", (4 * e,))
    check_shape("unroll", "posterior", encoder.posterior, "[2z, e]", (2 * latents, e))
    check_shape("unroll", "posterior_bias", encoder.posterior_bias, "[2z]", (2 * latents,))
    step = (glimpse + n) + 4 * e + 2 * latents + (latents + words.shape[2]) + 4 * n + decoder.heads.shape[0]
    step += words.shape[1] + channels * height * width
    check_sizes("unroll", "the tape", (noise.shape[1] + 1, batch, step))
    others = {"canvas": canvas, "words": words, "keys": keys, "noise": noise}
    check_loop("unroll", lengths, "image", image, **others, **encoder._asdict(), **decoder._asdict())


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.numbers = inputs[-3:]
    ctx.save_for_backward(*inputs[:-3], *output[4:])
    ctx.mark_non_differentiable(*output[5:])
    ctx.set_materialize_grads(False)  # it would make zeros for the whole tape


def _gradient(op: Any, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    inputs, tape = saved[:19], saved[19:]
    image_grad = ctx.needs_input_grad[0]
    noise = inputs[5]
    rows = (noise.shape[1], noise.shape[0])
    shapes = (inputs[0].shape, rows, rows, (*rows, 5), tape[0].shape)
    given = [noise.new_zeros(shape) if g is None else g for g, shape in zip(grads, shapes)]
    found = op(*given, *inputs, *ctx.numbers, *tape, image_grad)
    image, canvas, words, keys, noise, *weights = found
    without_keys = inputs[3] is None
    return (
        image if image_grad else None, canvas, words, None if without_keys else keys, None, noise,
        *weights[:-1], None if without_keys else weights[-1], None, None, None,
    )  # fmt: skip


_INPUTS = (
    "Tensor image, Tensor canvas, Tensor words, Tensor? keys, Tensor lengths, Tensor noise, "
    + ", ".join(f"Tensor {name}" for name in (*EncoderWeights._fields, *DecoderWeights._fields[:-1]))
    + ", Tensor? score, int read_size, int write_size, bool bf16"
)
_op = Op(
    "unroll",
    schema=f"({_INPUTS}) -> ({', '.join(['Tensor'] * 16)})",
    backward_schema="(Tensor grad_canvas, Tensor grad_kl, Tensor grad_log_ratio, Tensor grad_windows, "
    f"Tensor grad_weights, {_INPUTS}, Tensor weights, {', '.join(f'Tensor {name}' for name in _TAPE)}, "
    f"bool image_grad) -> ({', '.join(['Tensor'] * 18)})",
    reference=_unroll_reference,
    check=_check,
    fake=_fake,
    backward_reference=_backward_reference,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_gradient,
    composite=(_forward, _backward),
)


def unroll(
    image: Tensor,
    canvas: Tensor,
    words: Tensor,
    keys: Tensor | None,
    lengths: Tensor,
    noise: Tensor,
    encoder: EncoderWeights,
    decoder: DecoderWeights,
    read_size: int,
    write_size: int,
    bf16: bool = False,
) -> Unrolled:
    """T steps of drawing with the posterior's latents (alignDRAW, Eq. 1-14), one op forward and one backward.

    A step is, with said_t = heads h_dec + bias:

        r      = read(x, canvas, read window of said_{t-1})
        h_enc  = LSTM([r, h_dec], h_enc)            μ_q, log σ_q = posterior h_enc + bias
        z      = μ_q + σ_q ε,  KL(q‖p)              μ_p, log σ_p = tanh(said_{t-1}); 0 for t = 1
        s      = attend(query of said_{t-1})        words[:, 0] without keys
        h_dec  = LSTM([z, s], h_dec)                canvas = write(patch, window of said_t) on canvas

    The backward keeps no filterbanks, recalculates no product, and makes the gradient of each weight as one product
    over all steps. On the reference it is the loop of the reference ops, and PyTorch's own gradient. On a GPU the
    environment variable ALIGNDRAW_LOOP forces one of two forms of the C++ loop, "launches" at each step or all steps in
    one "persistent" launch each way; "auto" takes the former, since no GPU has shown the other to be faster.

    Args:
        image: x, [B, C, H, W], float32 or float64, as all floating tensors here.
        canvas: c_0, [C, H, W].
        words: h_lang, [B, N, d]; without keys the sentence vector [B, 1, d].
        keys: U h_lang, [B, N, l], or None: no attention.
        lengths: int64 [B], as in `attend`.
        noise: ε, [B, T, z], T ≥ 1.
        encoder, decoder: the parameters.
        read_size, write_size: p of the glimpse and of the patch.
        bf16: round the factors of the large products to bfloat16, and sum in float32: those of the LSTMs, of the query
            and of all gradients. Priors, posteriors, windows and patches are made of unrounded ones, and float64 is
            never rounded.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    results = _op(image, canvas, words, keys, lengths, noise, *encoder, *decoder, read_size, write_size, bf16)
    last, kl, log_ratio, windows, weights = results[:5]
    by_batch = None if keys is None else weights.transpose(0, 1)
    return Unrolled(last, kl.mT, log_ratio.mT, windows.transpose(0, 1), by_batch)
