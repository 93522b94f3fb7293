"""unroll: all T steps of drawing as one op.

This file holds the contract. The arguments, results and tape are in `_unroll_fields.py`, the loop of the reference ops
in `_unroll_reference.py`, and the loop of the other ops' kernels in `_unroll_composed.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from aligndraw.ops import _unroll_composed
from aligndraw.ops._autograd import of_these, vjp
from aligndraw.ops._decoder import DecoderWeights, check_decoder_sizes
from aligndraw.ops._fields import fields, flatten, results_schema, schema, shapes, unflatten
from aligndraw.ops._op import Op, check_loop, check_shape, check_shapes, check_sizes
from aligndraw.ops._unroll_fields import BackwardInputs, EncoderWeights, Gradients, Inputs, Results, Tape
from aligndraw.ops._unroll_reference import unroll_reference

# The arguments that are tensors come before the numbers.
_TENSORS = [field.name for field in fields(Inputs) if field.kind.startswith("Tensor")]
_GRADIENTS = [field.name for field in fields(Gradients)]


class Unrolled(NamedTuple):
    """The results of T steps."""

    canvas: Tensor  # c_T [B, C, H, W], before the sigmoid
    kl: Tensor  # [B, T], nats
    log_ratio: Tensor  # log q(z) − log p(z) [B, T], nats
    windows: Tensor  # of the writes [B, T, 5]
    weights: Tensor | None  # α [B, T, N]; None without attention


def _check(*args: Any) -> None:
    inputs = unflatten(Inputs, args)
    image, noise, read_size = inputs.image, inputs.noise, inputs.read_size
    check_shape("unroll", "image", image, "[B, C, H, W]", (None, None, None, None))
    batch, channels = image.shape[:2]
    check_shape("unroll", "noise", noise, "[B, T, z]", (batch, None, None))
    if read_size < 1:
        raise RuntimeError(f"unroll: read_size must be at least 1, got {read_size}")
    check_sizes("unroll", "the glimpse", (2 * channels, read_size, read_size))
    check_decoder_sizes(
        "unroll", inputs.words, inputs.keys, noise, inputs.decoder, channels, inputs.write_size, inputs.tints,
        inputs.opacity,
    )  # fmt: skip
    check_shape("unroll", "encoder_h0", inputs.encoder.encoder_h0, "[e]", (None,))
    sizes = inputs.sizes()
    check_shapes("unroll", inputs, sizes)
    per_row = sizes["A"] + sum(math.prod(shape[2:]) for shape in shapes(Tape, sizes))
    check_sizes("unroll", "the tape", (sizes["T"] + 1, sizes["B"], per_row))
    named = dict(zip(_TENSORS, flatten(inputs)))
    check_loop("unroll", named.pop("lengths"), "image", named.pop("image"), **named)


def _fake(*args: Any) -> tuple[Tensor, ...]:
    inputs = unflatten(Inputs, args)
    sizes = inputs.sizes()
    return tuple(inputs.image.new_empty(shape) for shape in (*shapes(Results, sizes), *shapes(Tape, sizes)))


def _wanted(inputs: Inputs, image_grad: bool) -> dict[str, Tensor]:
    """The arguments whose gradients are wanted, by name."""
    named = dict(zip(_TENSORS, flatten(inputs)))
    return {name: named[name] for name in _GRADIENTS if named[name] is not None and (name != "image" or image_grad)}


def _backward_fake(*args: Any) -> tuple[Tensor, ...]:
    backward = unflatten(BackwardInputs, args)
    wanted = _wanted(backward.inputs, backward.image_grad)
    nothing = backward.inputs.image.new_empty(0)
    return tuple(
        wanted[name].new_empty(wanted[name].shape) if name in wanted else nothing.clone() for name in _GRADIENTS
    )


def _backward_reference(*args: Any) -> tuple[Tensor, ...]:
    backward = unflatten(BackwardInputs, args)
    wanted = _wanted(backward.inputs, backward.image_grad)
    function = of_these(unroll_reference, flatten(backward.inputs), [_TENSORS.index(name) for name in wanted])
    found = dict(zip(wanted, vjp(function, list(wanted.values()), backward.grads)))
    return tuple(found[name] if name in found else backward.inputs.image.new_empty(0) for name in _GRADIENTS)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    results, tape = Results(*output[: len(Results._fields)]), output[len(Results._fields) :]
    ctx.numbers = inputs[len(_TENSORS) :]
    ctx.save_for_backward(*inputs[: len(_TENSORS)], results.weights, *tape)
    ctx.mark_non_differentiable(*tape)
    ctx.set_materialize_grads(False)  # it would make zeros for the whole tape


def _gradient(op: Any, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    tensors, tape = ctx.saved_tensors[: len(_TENSORS)], ctx.saved_tensors[len(_TENSORS) :]
    inputs = unflatten(Inputs, (*tensors, *ctx.numbers))
    image_grad = ctx.needs_input_grad[0]
    given = [
        inputs.noise.new_zeros(shape) if grad is None else grad
        for grad, shape in zip(grads, shapes(Results, inputs.sizes()))
    ]
    found = dict(zip(_GRADIENTS, op(*given, *flatten(inputs), *tape, image_grad)))
    wanted = _wanted(inputs, image_grad)
    return (*(found[name] if name in wanted else None for name in _TENSORS), *(None for _ in ctx.numbers))


_op = Op(
    "unroll",
    schema=f"({schema(Inputs)}) -> {results_schema(Results, Tape)}",
    backward_schema=f"({schema(BackwardInputs)}) -> {results_schema(Gradients)}",
    reference=unroll_reference,
    check=_check,
    fake=_fake,
    backward_reference=_backward_reference,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_gradient,
    composite=(_unroll_composed.forward, _unroll_composed.backward),
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
    tints: int = 0,
    opacity: bool = False,
) -> Unrolled:
    """T steps of drawing with the posterior's latents (alignDRAW, Eq. 1-14), one op forward and one backward.

    A step is, with the head outputs o_t = heads h_dec + bias:

        r      = read(x, canvas, read window of o_{t-1})
        h_enc  = LSTM([r, h_dec], h_enc)            μ_q, log σ_q = posterior h_enc + bias
        z      = μ_q + σ_q ε,  KL(q‖p)              μ_p, log σ_p = tanh(prior of o_{t-1}); 0 for t = 1
        s      = attend(query of o_{t-1})           words[:, 0] without keys
        h_dec  = LSTM([z, s], h_dec)                canvas = write(patch, window of o_t) on canvas

    With tints the patch is patch + Σ_k mask_k ⊗ colour_k of o_t, of masks [p, p] and colours [C]. With opacity the
    patch has a channel more, σ(opacity of o_t), and is drawn by `cover` in place of `write`.

    The forward keeps a tape for the backward, without filterbanks. The backward repeats no product, and makes the
    gradient of each weight as one product over all steps. On the reference the op is the loop of the reference ops,
    with PyTorch's gradient. On a GPU the environment variable ALIGNDRAW_LOOP forces the form of the C++ loop:
    "launches" per step, or one launch each way for all steps, "persistent" or in a "cluster" of blocks per 16 captions.
    "auto" takes launches, since no GPU has shown another form to be faster.

    Args:
        image: x, [B, C, H, W], float32 or float64; all floating tensors have one dtype.
        canvas: c_0, [C, H, W].
        words: h_lang, [B, N, d]; without keys the sentence vector [B, 1, d].
        keys: U h_lang, [B, N, l], or None: no attention.
        lengths: int64 [B], as in `attend`.
        noise: ε, [B, T, z], T ≥ 1.
        encoder, decoder: the parameters.
        read_size, write_size: p of the glimpse and of the patch.
        bf16: round the factors of the large products to bfloat16, and sum in float32. The large products are those of
            the LSTMs, of the query and of all gradients. The factors of priors, posteriors, windows and patches, and
            float64, are never rounded.
        tints: K, whose masks and colours are rows of the heads. The loops of CUDA take 0 alone.
        opacity: whether patches have an opacity, whose p·p rows are behind those of the tints. The loops of CUDA take
            false alone.

    Returns:
        The results of all steps, in the dtype of the arguments.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    numbers = read_size, write_size, bf16, tints, opacity
    results = _op(image, canvas, words, keys, lengths, noise, *encoder, *decoder, *numbers)
    last, kl, log_ratio, windows, weights = results[:5]
    by_batch = None if keys is None else weights.transpose(0, 1)
    return Unrolled(last, kl.mT, log_ratio.mT, windows.transpose(0, 1), by_batch)
