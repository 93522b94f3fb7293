"""The arguments, results, tape and gradients of `unroll`, each named once: `csrc/unroll_fields.h` is the other side.

The letters: B batch, C channels, H and W of the canvas, T steps, N words per caption, A the same with attention and 0
without, d of a word, l of the query, z of a latent, e of h_enc, n of h_dec, p of the patch, Q its channels: C, or C + 1
with opacity, G = 2·C·(read size)² of the glimpse, R of the head outputs.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torch import Tensor

from aligndraw.ops._decoder import DecoderWeights, decoder_sizes


class EncoderWeights(NamedTuple):
    """The parameters of the inference half of a step, Eq. 10-13."""

    encoder_ih: Annotated[Tensor, "[4e, G + n]"]  # of the glimpse, then of h_dec
    encoder_hh: Annotated[Tensor, "[4e, e]"]
    encoder_bias: Annotated[Tensor, "[4e]"]
    encoder_h0: Annotated[Tensor, "[e]"]
    posterior: Annotated[Tensor, "[2z, e]"]  # μ, then log σ
    posterior_bias: Annotated[Tensor, "[2z]"]


class Inputs(NamedTuple):
    """The arguments."""

    image: Annotated[Tensor, "[B, C, H, W]"]
    canvas: Annotated[Tensor, "[C, H, W]"]  # c_0
    words: Annotated[Tensor, "[B, N, d]"]
    keys: Annotated[Tensor | None, "[B, N, l]"]
    lengths: Annotated[Tensor, "[B]"]
    noise: Annotated[Tensor, "[B, T, z]"]
    encoder: EncoderWeights
    decoder: DecoderWeights
    read_size: int
    write_size: int
    bf16: bool
    tints: int
    opacity: bool

    def sizes(self) -> dict[str, int]:
        """Returns the sizes by letter, of arguments that fit."""
        channels, height, width = self.image.shape[1:]
        return {
            **decoder_sizes(
                self.words, self.noise, self.decoder, channels, self.write_size, self.tints, self.opacity
            ),
            "H": height, "W": width, "e": self.encoder.encoder_h0.shape[0], "G": 2 * channels * self.read_size**2,
        }  # fmt: skip


class Results(NamedTuple):
    """The results that have gradients, time first."""

    canvas: Annotated[Tensor, "[B, C, H, W]"]  # c_T, before the sigmoid
    kl: Annotated[Tensor, "[T, B]"]
    log_ratio: Annotated[Tensor, "[T, B]"]
    windows: Annotated[Tensor, "[T, B, 5]"]  # of the writes
    weights: Annotated[Tensor, "[T, B, A]"]  # α


class Tape(NamedTuple):
    """The other results, for the backward, which would else calculate them again."""

    encoder_in: Annotated[Tensor, "[T, B, G + n]"]  # glimpse, and h_dec before the step
    encoder_gates: Annotated[Tensor, "[T, B, 4e]"]
    encoder_h: Annotated[Tensor, "[T + 1, B, e]"]
    encoder_c: Annotated[Tensor, "[T + 1, B, e]"]
    posteriors: Annotated[Tensor, "[T, B, 2z]"]
    decoder_in: Annotated[Tensor, "[T, B, z + d]"]  # latent and context
    decoder_gates: Annotated[Tensor, "[T, B, 4n]"]
    decoder_h: Annotated[Tensor, "[T + 1, B, n]"]
    decoder_c: Annotated[Tensor, "[T + 1, B, n]"]
    head_outputs: Annotated[Tensor, "[T + 1, B, R]"]  # the prior after its tanh, the opacity after its sigmoid
    canvases: Annotated[Tensor, "[T, B, C, H, W]"]  # c_0 ... c_{T-1}


class BackwardInputs(NamedTuple):
    """The arguments of the gradient op."""

    grads: Annotated[Results, "grad_"]
    inputs: Inputs
    weights: Annotated[Tensor, "[T, B, A]"]  # of the results
    tape: Tape
    image_grad: bool  # whether the image's gradient is wanted


class Gradients(NamedTuple):
    """The results of the gradient op: the gradients of all arguments but the lengths. A gradient that is not wanted, or
    of an argument that is None, is an empty tensor."""

    image: Annotated[Tensor, "[B, C, H, W]"]
    canvas: Annotated[Tensor, "[C, H, W]"]
    words: Annotated[Tensor, "[B, N, d]"]
    keys: Annotated[Tensor | None, "[B, N, l]"]
    noise: Annotated[Tensor, "[B, T, z]"]
    encoder: EncoderWeights
    decoder: DecoderWeights
