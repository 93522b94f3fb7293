"""alignDRAW: the conditional DRAW network that attends to the words of a caption (section 3.2).

`AlignDRAW.step` is the specification: one line per equation of the paper, on any device and dtype. Where `ops.unroll`
applies, the model runs all steps as one op, with the same result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aligndraw import ops
from aligndraw.backends import backend_for, missing_reason
from aligndraw.config import AlignDRAWConfig
from aligndraw.model.align import WordAttention
from aligndraw.model.beside import ONE, Units, clock, lstm_with, widen
from aligndraw.model.glimpse import GlimpseRead, GlimpseWrite, WindowHead
from aligndraw.model.interface import Caption, Inference, Model
from aligndraw.model.language import WordEmbedding
from aligndraw.model.latent import Posterior, Prior
from aligndraw.model.recurrent import Head, LSTMCell
from aligndraw.model.samples import Samples
from aligndraw.model.shapes import MirroredMaps, ShapeUnits, WordTints


class State(NamedTuple):
    """The state between two steps."""

    canvas: Tensor  # c [B, C, H, W], before the sigmoid
    encoder: tuple[Tensor, Tensor] | None  # h, c [B, encoder units]; None when nothing is read
    decoder: tuple[Tensor, Tensor]  # h, c [B, n]
    mu: Tensor  # of the next latent's prior [B, z]
    log_sigma: Tensor  # [B, z]
    number: int = 0  # of steps done


class Step(NamedTuple):
    """The intermediate results of one step."""

    kl: Tensor | None  # [B], nats; None when sampling
    log_ratio: Tensor | None  # log q(z) − log p(z) [B], nats; None when sampling
    read_window: Tensor | None  # [B, 5]; None when sampling
    write_window: Tensor  # [B, 5]
    patch: Tensor  # [B, C, p, p]; with opacity [B, C + 1, p, p]
    weights: Tensor | None  # α [B, N]; None without align


class AlignDRAW(Model):
    """The model of the paper, alignDRAW, and two variants that read one constant vector instead of words.

    With `config.align` false it is noalignDRAW, which reads the last states of its own language model; with
    `config.sentence_units` as well it is skipthoughtDRAW, which reads the vectors of a sentence encoder.

    Args:
        config: the shape of the model.
    """

    config: AlignDRAWConfig

    def __init__(self, config: AlignDRAWConfig) -> None:
        super().__init__(config)
        c = config
        words = c.caption_units
        glimpse = 2 * c.channels * c.read_size**2
        side = max(c.image_size)
        span = c.window_span / max(1, side - 1)
        asking = c.decoder_units if c.attention_query == "state" else c.steps
        self.align = WordAttention(asking, words, c.align_units, c.attention_scale) if c.align else None
        embeds = c.word_values != "states" or c.word_keys != "states"
        self.values = WordEmbedding(c.vocabulary_size, words) if embeds else None
        self.read = GlimpseRead(c.decoder_units, c.read_size, c.conventions, span, side, c.read_window == "own")
        self.encoder = LSTMCell(glimpse + c.decoder_units, c.encoder_units)
        self.posterior = Posterior(c.encoder_units, c.latent_units)
        self.prior = Prior(c.decoder_units, c.latent_units)
        self.decoder = LSTMCell(c.latent_units + c.word_units, c.decoder_units)
        self.shapes = ShapeUnits(c.latent_units, words, c.decoder_units, c.shape_units) if c.shape_units else None
        self.write = GlimpseWrite(
            c.decoder_units, c.write_size, c.channels, c.conventions, span, side, c.tints, c.opacity, c.shape_units
        )
        self._packed_decoder = ops.PackedDecoder()
        self.reset_parameters()

    @property
    def attends(self) -> bool:
        """As `Model.attends`."""
        return self.align is not None

    def initial_state(self, batch: int, encode: bool = True) -> State:
        """Returns the state before the first step: learned h₀ and c₀, and the prior N(0, I) of the first latent."""
        standard = self.canvas.new_zeros(batch, self.config.latent_units)
        return State(
            self.canvas.expand(batch, -1, -1, -1),
            self.encoder.initial_state(batch) if encode else None,
            self.decoder.initial_state(batch),
            standard,
            standard,
        )

    def step(self, caption: Caption, state: State, noise: Tensor, image: Tensor | None = None) -> tuple[State, Step]:
        """Runs one drawing step.

        Args:
            caption: from `encode_captions`.
            state: from `initial_state` or the step before.
            noise: ε, [B, z].
            image: x, [B, C, H, W]. Given an image, z comes from the posterior; without one, from the prior.

        Returns:
            the next state, and the intermediate results of the step.

        Raises:
            ValueError: the query is of the step alone, and the state comes after the last one.
        """
        h_dec = state.decoder[0]
        kl = log_ratio = read_window = weights = None
        encoder = state.encoder
        if image is None or encoder is None:
            z = state.mu + state.log_sigma.exp() * noise  # Eq. 1
        else:
            glimpse, read_window = self.read(h_dec, image, state.canvas, self.write.window)  # Eq. 10, 11
            encoder = self.encoder(torch.cat([glimpse.flatten(1), h_dec], 1), encoder)  # Eq. 12
            mu, log_sigma = self.posterior(encoder[0])  # Eq. 13
            z, kl, log_ratio = ops.latent(mu, log_sigma, state.mu, state.log_sigma, noise)
        if self.align is None or caption.keys is None:
            context = caption.sentence
        else:
            asking = h_dec if self.config.attention_query == "state" else self._told(state)
            context, weights = self.align(asking, caption.keys, caption.words, caption.lengths)  # Eq. 2, 6, 7
        decoder = self.decoder(torch.cat([z, context], 1), state.decoder)  # Eq. 3
        shapes = None if self.shapes is None else self.shapes(z, context, h_dec)
        canvas, patch, write_window = self.write(decoder[0], state.canvas, shapes)  # Eq. 4, 8
        mu, log_sigma = self.prior(decoder[0])
        following = State(canvas, encoder, decoder, mu, log_sigma, state.number + 1)
        return following, Step(kl, log_ratio, read_window, write_window, patch, weights)

    def infer(self, images: Tensor, caption: Caption, noise: Tensor) -> Inference:
        """As `Model.infer`: all steps as one op where possible, else one by one."""
        self._check_steps(noise)
        if not self.fallback_reason("unroll"):
            decoder = self._decoder_weights()
            encoder = self._encoder_weights(len(decoder.decoder_h0))
            done = ops.unroll(
                images, self.canvas, *self._words(caption), noise, encoder, decoder, self.read.size, self.write.size,
                torch.is_autocast_enabled(images.device.type), self.config.tints, self.config.opacity,
            )  # fmt: skip
            return Inference(done.canvas, done.kl, done.log_ratio)
        state, steps = self.initial_state(len(images)), []
        for epsilon in noise.unbind(1):
            state, step = self.step(caption, state, epsilon, images)
            steps.append(step)
        kl_steps = torch.stack([s.kl for s in steps if s.kl is not None], 1)
        log_ratios = torch.stack([s.log_ratio for s in steps if s.log_ratio is not None], 1)
        return Inference(state.canvas, kl_steps, log_ratios)

    def draw(self, caption: Caption, noise: Tensor) -> Samples:
        """As `Model.draw`: all steps as one op where possible, else one by one."""
        self._check_steps(noise)
        if not self.fallback_reason("unroll_prior"):
            drawn = self._packed_decoder.unroll_prior(
                self.canvas, *self._words(caption), noise, self._decoder_sources(), self._decoder_weights,
                self.write.size, self.config.tints, self.config.opacity, self._decoder_settings(),
            )  # fmt: skip
            first = self.canvas.clone().expand_as(drawn.canvas)
            return Samples(first, drawn.canvas, drawn.patches, drawn.windows, drawn.weights)
        state = self.initial_state(len(noise), encode=False)
        first, done = self.canvas.clone().expand_as(state.canvas), []
        for epsilon in noise.unbind(1):
            state, step = self.step(caption, state, epsilon)
            done.append(step)
        patches, windows = torch.stack([s.patch for s in done], 1), torch.stack([s.write_window for s in done], 1)
        weights = [s.weights for s in done if s.weights is not None]
        return Samples(first, state.canvas, patches, windows, torch.stack(weights, 1) if weights else None)

    def execution_mode(self) -> str:
        """As `Model.execution_mode`."""
        reason = self.fallback_reason("unroll")
        return f"step by step ({reason})" if reason else "all steps as one op"

    def fallback_reason(self, loop: str) -> str:
        """Why the loop "unroll" (of `forward`) or "unroll_prior" (of `sample`) runs step by step.

        "" where it is one op.

        The one op gives the results of `step`, but nothing can observe or change it between steps. So the model runs
        step by step with hooks on its parts, with parts of other types, and without a kernel. Under autocast to
        bfloat16 the op "unroll" rounds the factors of its large products (see `ops.unroll`); "unroll_prior" rounds
        nothing.
        """
        device = self.canvas.device.type
        if self.config.conventions != "paper":
            return "the released conventions"
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) != torch.bfloat16:
            return f"autocast to {str(torch.get_autocast_dtype(device)).removeprefix('torch.')}"
        if self.canvas.dtype not in (torch.float32, torch.float64):
            return f"parameters in {str(self.canvas.dtype).removeprefix('torch.')}"
        if type(self).step is not AlignDRAW.step:
            return f"{type(self).__name__} has a step of its own"
        for name, part, usual in self._parts():
            if type(part) is not usual:
                return f"{name} is a {type(part).__name__}"
            if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
                return f"{name} has hooks"
        if backend_for(loop, device) == "cuda":
            for field in ("tints", "opacity"):
                if getattr(self.config, field):
                    return f"no CUDA loop has {field}"
        if backend_for(loop, device) == "reference":
            return "the reference backend" if not missing_reason(loop, "cpp", device) else f"no kernel on {device}"
        return ""

    def _parts(self) -> list[tuple[str, nn.Module, type[nn.Module]]]:
        """Returns the modules that `step` calls, each with the type whose arithmetic `ops.unroll` implements."""
        read, posterior, prior, write, align = self.read, self.posterior, self.prior, self.write, self.align
        parts: list[tuple[str, nn.Module, type[nn.Module]]] = [
            ("read", read, GlimpseRead),
            ("encoder", self.encoder, LSTMCell),
            ("posterior", posterior, Posterior),
            ("posterior.mu", posterior.mu, Head),
            ("posterior.log_variance", posterior.log_variance, Head),
            ("prior", prior, Prior),
            ("prior.mu_log_sigma", prior.mu_log_sigma, Head),
            ("decoder", self.decoder, LSTMCell),
            ("write", write, GlimpseWrite),
            ("write.window", write.window, WindowHead),
        ]
        maps: list[tuple[str, nn.Module | None]] = [("write.patch", write.patch), ("write.opacity", write.opacity)]
        if self.shapes is not None:
            parts.append(("shapes", self.shapes, ShapeUnits))
            parts += [("shapes.words", self.shapes.words, nn.Linear), ("shapes.side", self.shapes.side, nn.Linear)]
        if isinstance(write.tints, WordTints):
            parts.append(("write.tints.colours", write.tints.colours, nn.Linear))
            maps.append(("write.tints.mask", write.tints.mask))
        if write.tints is not None:
            parts.append(("write.tints", write.tints, nn.Linear if self.shapes is None else WordTints))
        usual = nn.Linear if self.shapes is None else MirroredMaps
        parts += [(name, part, usual) for name, part in maps if part is not None]
        if read.window is not None:
            parts.append(("read.window", read.window, WindowHead))
        if align is not None:
            parts += [("align", align, WordAttention), ("align.query", align.query, nn.Linear)]
        return parts

    def _check_steps(self, noise: Tensor) -> None:
        if self.config.attention_query == "step" and noise.shape[1] > self.config.steps:
            raise ValueError(
                f"steps must be at most the {self.config.steps} that have a query of their own, got {noise.shape[1]}"
            )

    def _told(self, state: State) -> Tensor:
        """Returns one-hot vectors of the step that follows a state, [B, T]."""
        if state.number == self.config.steps:
            raise ValueError(f"state must have a step left, got one after all {state.number}")
        told = state.mu.new_zeros(len(state.mu), self.config.steps)
        told[:, state.number] = 1
        return told

    def _values_and_keys(self, captions: Tensor, states: Tensor) -> tuple[Tensor, Tensor | None]:
        embeddings = states if self.values is None else self.values(captions)
        values = {"states": [states], "embeddings": [embeddings], "both": [embeddings, states]}[self.config.word_values]
        keyed = states if self.config.word_keys == "states" else embeddings
        return torch.cat(values, 2), None if self.align is None else self.align.keys(keyed)

    def _keys_of_one(self, vectors: Tensor) -> Tensor | None:
        return None if self.align is None else vectors.new_zeros(len(vectors), 1, self.config.align_units)

    def _words(self, caption: Caption) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns words, keys and lengths in the form of `ops.unroll`."""
        words = caption.sentence[:, None] if caption.keys is None else caption.words
        return words, caption.keys, caption.lengths

    def _beside(self) -> list[Units]:
        """Returns the units that the loops' LSTM has behind those of h_dec."""
        units = [] if self.shapes is None else [self.shapes.beside(self.decoder)]
        return units if self.config.attention_query == "state" else [*units, clock(self.config.steps, self.decoder)]

    def _encoder_weights(self, units: int) -> ops.EncoderWeights:
        """The weights of the loops' inference part, which does not see the units behind those of h_dec, of `units`."""
        encoder, mu, log_variance = self.encoder, self.posterior.mu, self.posterior.log_variance
        return ops.EncoderWeights(
            widen(encoder.weight_ih, after=units - self.config.decoder_units),
            encoder.weight_hh,
            encoder.bias,
            encoder.h0,
            torch.cat([mu.weight, log_variance.weight / 2]),
            torch.cat([mu.bias, log_variance.bias / 2]),
        )

    def _decoder_sources(self) -> list[Tensor]:
        """Returns the parameters that `_decoder_weights` reads."""
        align = self.align
        parts: list[nn.Module | None] = [] if align is None else [align, align.query]
        parts += [self.decoder, self.prior.mu_log_sigma, *self.write.modules(), self.read.window]
        if self.shapes is not None:
            parts += [self.shapes.words, self.shapes.side]
        held = [part._parameters.values() for part in parts if part is not None]
        return [parameter for parameters in held for parameter in parameters if parameter is not None]

    def _decoder_settings(self) -> tuple[Any, ...]:
        """Returns the numbers beside the parameters that `_decoder_weights` reads."""
        scale = None if self.align is None else self.align.scale
        read = None if self.read.window is None else self.read.window.log_size
        return scale, self.write.window.log_size, read

    def _decoder_weights(self) -> ops.DecoderWeights:
        """The weights of the loops, whose LSTM has the units of h_dec, then those beside them."""
        align, prior, write = self.align, self.prior.mu_log_sigma, self.write
        lstm = lstm_with(self.decoder, self._beside())
        units = len(lstm[-1])
        heads = [(prior.weight, prior.bias), *write.affine(), write.window.affine(), self.read.affine(write.window)]
        if align is not None:
            query = align.query.weight
            if self.config.attention_query == "step":
                query = widen(query / ONE, before=units - self.config.steps)
            heads.insert(0, (query, align.query.bias))
        return ops.DecoderWeights(
            *lstm,
            torch.cat([widen(weight, after=units - weight.shape[1]) for weight, _ in heads]),
            torch.cat([bias for _, bias in heads]),
            None if align is None else align.scaled_score(),
        )
