"""alignDRAW: the conditional DRAW network that attends to the words of a caption (section 3.2).

`AlignDRAW.step` is the paper's, one line an equation. It is the specification: it runs on any device and dtype. Where
`ops.unroll` can, it takes all steps at once, to the same result.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw import ops
from aligndraw.backends import backend_for, missing_reason
from aligndraw.config import AlignDRAWConfig
from aligndraw.model.align import WordAttention
from aligndraw.model.glimpse import GlimpseRead, GlimpseWrite
from aligndraw.model.language import LanguageModel, WordLSTM
from aligndraw.model.latent import Posterior, Prior
from aligndraw.model.noise import Generators, draw_noise
from aligndraw.model.recurrent import Head, LSTMCell

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Caption(NamedTuple):
    """What the drawing loop needs of a batch of captions, computed once."""

    words: Tensor  # h_lang [B, N, 2m]
    keys: Tensor | None  # U h_lang [B, N, l]; None without align
    lengths: Tensor  # [B]
    sentence: Tensor  # last states of both directions [B, 2m]

    def repeat(self, times: int) -> Caption:
        """Each caption `times` times, those of one together."""
        keys = None if self.keys is None else self.keys.repeat_interleave(times, 0)
        words, lengths, sentence = (
            t.repeat_interleave(times, 0) for t in (self.words, self.lengths, self.sentence)
        )
        return Caption(words, keys, lengths, sentence)

    def rows(self, index: Tensor) -> Caption:
        """The captions at these positions, int64 [R]."""
        return Caption(*(None if t is None else t[index] for t in self))  # type: ignore[arg-type]


class State(NamedTuple):
    """What one step hands to the next."""

    canvas: Tensor  # c [B, C, H, W], before the sigmoid
    encoder: tuple[Tensor, Tensor] | None  # h, c [B, encoder units]; None when nothing is read
    decoder: tuple[Tensor, Tensor]  # h, c [B, n]
    mu: Tensor  # of the next latent's prior [B, z]
    log_sigma: Tensor  # [B, z]


class Step(NamedTuple):
    """What one step leaves behind."""

    kl: Tensor | None  # [B], nats; None when sampling
    log_ratio: Tensor | None  # log q(z) − log p(z) [B], nats; None when sampling
    read_window: Tensor | None  # [B, 5]; None when sampling
    write_window: Tensor  # [B, 5]
    patch: Tensor  # [B, C, p, p]
    weights: Tensor | None  # α [B, N]; None without align


class Bound(NamedTuple):
    """The variational bound of a batch, in nats; log p(x | y) ≥ −(kl + nll)."""

    kl: Tensor  # [B], summed over the steps
    kl_steps: Tensor  # [B, T]
    nll: Tensor  # −log p(x | y, Z) [B]
    log_weight: (
        Tensor  # log of the mean over samples of p(x, Z | y) / q(Z | x, y) [B]: importance-weighted bound
    )
    loss: Tensor  # scalar: mean of kl + nll


class Drawing:
    """Pictures drawn from captions, and how they came about.

    Attributes:
        images: σ(c_T), [B, C, H, W] in [0, 1].
        weights: α, [B, T, N]; None for a model without align.
        windows: of the writes, [B, T, 5].
        patches: [B, T, C, p, p].
    """

    def __init__(
        self, first: Tensor, last: Tensor, patches: Tensor, windows: Tensor, weights: Tensor | None
    ) -> None:
        self._first = first
        self._canvases: Tensor | None = None
        self.images = last.sigmoid()
        self.patches, self.windows, self.weights = patches, windows, weights

    @property
    def canvases(self) -> Tensor:
        """c_1 ... c_T, [B, T, C, H, W] before the sigmoid; formed on first access."""
        if self._canvases is None:
            canvas, frames = self._first, []
            for patch, window in zip(self.patches.unbind(1), self.windows.unbind(1)):
                canvas = ops.write(patch, window, canvas)
                frames.append(canvas)
            self._canvases = torch.stack(frames, 1)
        return self._canvases

    def cloned(self, words: int) -> Drawing:
        """The same in memory of its own, with the weights of the first `words` words."""
        new = copy.copy(self)
        new._canvases = None
        for name in ("_first", "images", "patches", "windows"):
            setattr(new, name, getattr(self, name).clone())
        new.weights = None if self.weights is None else self.weights[..., :words].clone()
        return new


class AlignDRAW(nn.Module):
    """The model of the paper; with `config.align` false it is noalignDRAW, which sees one constant sentence vector.

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: AlignDRAWConfig) -> None:
        super().__init__()
        self.config = c = config
        words = 2 * c.language_units
        glimpse = 2 * c.channels * c.read_size**2
        self.language = LanguageModel(c.vocabulary_size, c.language_units, c.conventions)
        self.align = WordAttention(c.decoder_units, words, c.align_units) if c.align else None
        self.read = GlimpseRead(c.decoder_units, c.read_size, c.conventions)
        self.encoder = LSTMCell(glimpse + c.decoder_units, c.encoder_units)
        self.posterior = Posterior(c.encoder_units, c.latent_units)
        self.prior = Prior(c.decoder_units, c.latent_units)
        self.decoder = LSTMCell(c.latent_units + words, c.decoder_units)
        self.write = GlimpseWrite(c.decoder_units, c.write_size, c.channels, c.conventions)
        self.canvas = nn.Parameter(torch.empty(c.channels, *c.image_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, init: str = "paper") -> None:
        """Draws new parameters from torch's default generator; the first canvas is `config.canvas_init` everywhere.

        Args:
            init: "paper", every parameter N(0, 0.01²) (appendix B); or "fan_in", weights N(0, 0.7²/inputs) but for the
                heads of the windows, biases 0 and those of the forget gates 1.
        """
        for parameter in self.parameters():
            parameter.normal_(0, 0.01)
        self.canvas.fill_(self.config.canvas_init)
        if init == "paper":
            return
        if init != "fan_in":
            raise ValueError(f'init must be "paper" or "fan_in", got {init!r}')
        for module in self.modules():
            if module in (self.read.window, self.write.window):
                continue
            for name, parameter in module.named_parameters(recurse=False):
                if name == "bias":
                    parameter.zero_()
                elif name == "words":  # a one-hot word has one input
                    parameter.normal_(0, 0.7)
                elif name in ("weight", "weight_ih", "weight_hh", "score"):
                    parameter.normal_(0, 0.7 * parameter.shape[-1] ** -0.5)
            if isinstance(module, (LSTMCell, WordLSTM)):
                module.bias[module.bias.shape[0] // 4 : module.bias.shape[0] // 2] = 1

    def describe(self, captions: Tensor, lengths: Tensor | None = None) -> Caption:
        """The language model's part: word ids int64 [B, N], lengths int64 [B] (all N when None) -> Caption.

        Once a caption, it is a small part of the work, and stays in full precision under autocast.

        Raises:
            ValueError: ids, lengths or their shapes do not fit the model.
        """
        captions, lengths = self._check_captions(captions, lengths)
        with torch.autocast(captions.device.type, enabled=False):
            words, sentence = self.language(captions, lengths)
            return Caption(words, None if self.align is None else self.align.keys(words), lengths, sentence)

    def first(self, batch: int, encode: bool = True) -> State:
        """The state before the first step: learned h₀ and c₀, and the prior N(0, I) of the first latent."""
        standard = self.canvas.new_zeros(batch, self.config.latent_units)
        return State(
            self.canvas.expand(batch, -1, -1, -1),
            self.encoder.first(batch) if encode else None,
            self.decoder.first(batch),
            standard,
            standard,
        )

    def step(
        self, caption: Caption, state: State, noise: Tensor, image: Tensor | None = None
    ) -> tuple[State, Step]:
        """One step of drawing.

        Args:
            caption: from `describe`.
            state: from `first` or the step before.
            noise: ε, [B, z].
            image: x, [B, C, H, W]: z is drawn from the posterior given x; without an image, from the prior.

        Returns:
            the next state, and what the step did.
        """
        h_dec = state.decoder[0]
        kl = log_ratio = read_window = weights = None
        encoder = state.encoder
        if image is None or encoder is None:
            z = state.mu + state.log_sigma.exp() * noise  # Eq. 1
        else:
            glimpse, read_window = self.read(h_dec, image, state.canvas)  # Eq. 10, 11
            encoder = self.encoder(torch.cat([glimpse.flatten(1), h_dec], 1), encoder)  # Eq. 12
            mu, log_sigma = self.posterior(encoder[0])  # Eq. 13
            z, kl, log_ratio = ops.latent(mu, log_sigma, state.mu, state.log_sigma, noise)
        if self.align is None or caption.keys is None:
            context = caption.sentence
        else:
            context, weights = self.align(h_dec, caption.keys, caption.words, caption.lengths)  # Eq. 2, 6, 7
        decoder = self.decoder(torch.cat([z, context], 1), state.decoder)  # Eq. 3
        canvas, patch, write_window = self.write(decoder[0], state.canvas)  # Eq. 4, 8
        following = State(canvas, encoder, decoder, *self.prior(decoder[0]))
        return following, Step(kl, log_ratio, read_window, write_window, patch, weights)

    def forward(
        self,
        images: Tensor,
        captions: Tensor,
        lengths: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> Bound:
        """The variational bound of images given their captions (Eq. 9, 14; Eq. 15 for several samples).

        Args:
            images: x, [B, C, H, W] in [0, 1], any floating dtype.
            captions: word ids, int64 [B, N].
            lengths: words of each caption, int64 [B]; all N when None.
            noise: ε, [B, T, z] ([B · samples, T, z] for several samples, those of an image together): makes this a pure
                function. It also sets the number of steps.
            generator: of the noise: one generator, a list with one an image, or an integer seed, which gives each image
                a stream of its own.
            samples: L, samples of Z an image; kl and nll are their means.

        Raises:
            ValueError: shapes or values do not fit: pixels outside [0, 1] or not a number, ids outside the vocabulary.
                Values are looked at on the CPU only: a look at the GPU's would stall it.
        """
        return self.bound(images, self.describe(captions, lengths), noise, generator, samples)

    def bound(
        self,
        images: Tensor,
        caption: Caption,
        noise: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> Bound:
        """`forward` for captions from `describe`, or for other sentence representations in the same form."""
        self._check_images(images, len(caption.lengths))
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        images = images.to(self.canvas.dtype)
        batch = images.shape[0]
        if samples > 1:
            images = images.repeat_interleave(samples, 0)
            caption = caption.repeat(samples)
        noise = self._noise(noise, generator, batch, samples, None)
        if self.stepwise_reason("unroll"):
            canvas, kl_steps, log_ratios = self._stepwise(images, caption, noise)
        else:
            encoder, decoder = self._encoder_weights(), self._decoder_weights()
            done = ops.unroll(
                images, self.canvas, *self._words(caption), noise, encoder, decoder, self.read.size, self.write.size,
                torch.is_autocast_enabled(images.device.type),
            )  # fmt: skip
            canvas, kl_steps, log_ratios = done.canvas, done.kl, done.log_ratio
        nll = self._nll(canvas, images).unflatten(0, (batch, samples))
        kl_steps = kl_steps.unflatten(0, (batch, samples))
        log_ratio = log_ratios.sum(1).unflatten(0, (batch, samples))
        log_weight = torch.logsumexp(-nll - log_ratio, 1) - math.log(samples)
        nll, kl_steps = nll.mean(1), kl_steps.mean(1)
        kl = kl_steps.sum(1)
        return Bound(kl, kl_steps, nll, log_weight, (kl + nll).mean())

    @torch.no_grad()
    def sample(
        self,
        captions: Tensor,
        lengths: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
        steps: int | None = None,
    ) -> Drawing:
        """Draws one picture for each caption from the prior (Eq. 1-5); x = σ(c_T) is the mean of the pixels.

        Args:
            captions: word ids, int64 [B, N].
            lengths: words of each caption, int64 [B]; all N when None.
            noise: ε, [B, T, z]; sets the number of steps.
            generator: as in `forward`.
            temperature: factor of the prior's σ; 0 draws the mean.
            steps: T, when not the configuration's.

        Raises:
            ValueError: shapes or values do not fit.
        """
        if temperature < 0:
            raise ValueError(f"temperature must not be negative, got {temperature}")
        caption = self.describe(captions, lengths)
        noise = self._noise(noise, generator, captions.shape[0], 1, steps) * temperature
        if not self.stepwise_reason("unroll_prior"):
            drawn = ops.unroll_prior(
                self.canvas, *self._words(caption), noise, self._decoder_weights(), self.write.size
            )
            first = self.canvas.detach().expand_as(drawn.canvas)
            return Drawing(first, drawn.canvas, drawn.patches, drawn.windows, drawn.weights)
        state = self.first(captions.shape[0], encode=False)
        first, done = state.canvas, []
        for epsilon in noise.unbind(1):
            state, step = self.step(caption, state, epsilon)
            done.append(step)
        patches, windows = torch.stack([s.patch for s in done], 1), torch.stack([s.write_window for s in done], 1)
        weights = [s.weights for s in done if s.weights is not None]
        return Drawing(first.detach(), state.canvas, patches, windows, torch.stack(weights, 1) if weights else None)

    def stepwise_reason(self, loop: str) -> str:
        """Why the loop "unroll" (of `forward`) or "unroll_prior" (of `sample`) runs step by step; "" when it is one op.

        One op computes what the steps do, and nothing can look in between: hooks on the model's parts and parts of
        other types go step by step, and so does what has no kernel. Under autocast to bfloat16 the one op rounds the
        factors of its large products ("unroll", see `ops.unroll`) or nothing ("unroll_prior").
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
            if any(getattr(part, hooks) for hooks in _HOOKS):
                return f"{name} has hooks"
        if backend_for(loop, device) == "reference":
            return "the reference backend" if not missing_reason(loop, "cpp", device) else f"no kernel on {device}"
        return ""

    def _parts(self) -> list[tuple[str, nn.Module, type[nn.Module]]]:
        """The modules that the steps call, and the types whose arithmetic `ops.unroll` knows."""
        parts: list[tuple[str, nn.Module, type[nn.Module]]] = [
            ("read", self.read, GlimpseRead),
            ("read.window", self.read.window, Head),
            ("encoder", self.encoder, LSTMCell),
            ("posterior", self.posterior, Posterior),
            ("posterior.mu", self.posterior.mu, Head),
            ("posterior.log_variance", self.posterior.log_variance, Head),
            ("prior", self.prior, Prior),
            ("prior.mu_log_sigma", self.prior.mu_log_sigma, Head),
            ("decoder", self.decoder, LSTMCell),
            ("write", self.write, GlimpseWrite),
            ("write.window", self.write.window, Head),
            ("write.patch", self.write.patch, nn.Linear),
        ]
        if self.align is not None:
            parts += [("align", self.align, WordAttention), ("align.query", self.align.query, nn.Linear)]
        return parts

    def _words(self, caption: Caption) -> tuple[Tensor, Tensor | None, Tensor]:
        """words, keys and lengths as `ops.unroll` takes them."""
        words = caption.sentence[:, None] if caption.keys is None else caption.words
        return words, caption.keys, caption.lengths

    def _encoder_weights(self) -> ops.EncoderWeights:
        encoder, mu, log_variance = self.encoder, self.posterior.mu, self.posterior.log_variance
        return ops.EncoderWeights(
            encoder.weight_ih,
            encoder.weight_hh,
            encoder.bias,
            encoder.h0,
            torch.cat([mu.weight, log_variance.weight / 2]),
            torch.cat([mu.bias, log_variance.bias / 2]),
        )

    def _decoder_weights(self) -> ops.DecoderWeights:
        decoder, align = self.decoder, self.align
        heads: list[nn.Linear] = [] if align is None else [align.query]
        heads += [self.prior.mu_log_sigma, self.write.patch, self.write.window, self.read.window]
        return ops.DecoderWeights(
            decoder.weight_ih,
            decoder.weight_hh,
            decoder.bias,
            decoder.h0,
            torch.cat([head.weight for head in heads]),
            torch.cat([head.bias for head in heads]),
            None if align is None else align.score,
        )

    def _stepwise(self, images: Tensor, caption: Caption, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loop, step by step: c_T, and of each step KL [B, T] and log q(z) − log p(z) [B, T]."""
        state, steps = self.first(len(images)), []
        for epsilon in noise.unbind(1):
            state, step = self.step(caption, state, epsilon, images)
            steps.append(step)
        kl_steps = torch.stack([s.kl for s in steps if s.kl is not None], 1)
        log_ratios = torch.stack([s.log_ratio for s in steps if s.log_ratio is not None], 1)
        return state.canvas, kl_steps, log_ratios

    def _nll(self, canvas: Tensor, images: Tensor) -> Tensor:
        """−log p(x | Z), [B]: Bernoulli(σ(c_T)) (Eq. 5), or N(σ(c_T), σ²) (the paper's footnote 1)."""
        if self.config.likelihood == "bernoulli":
            terms = functional.binary_cross_entropy_with_logits(canvas, images, reduction="none")
        else:
            variance = self.config.observation_variance
            terms = ((canvas.sigmoid() - images).square() / variance + math.log(2 * math.pi * variance)) / 2
        return terms.flatten(1).sum(1)

    def _noise(
        self, noise: Tensor | None, generator: Generators, batch: int, samples: int, steps: int | None
    ) -> Tensor:
        latent_units = self.config.latent_units
        if noise is None:
            size = (samples, steps or self.config.steps, latent_units)
            return draw_noise(batch, size, generator, self.canvas).flatten(0, 1)
        if noise.dim() != 3 or noise.shape[0] != batch * samples or noise.shape[2] != latent_units:
            raise ValueError(
                f"noise must have shape [B, T, z] = [{batch * samples}, T, {latent_units}], got {list(noise.shape)}"
            )
        if noise.shape[1] < 1:
            raise ValueError(f"noise must have at least one step, got {list(noise.shape)}")
        return noise

    def _check_images(self, images: Tensor, batch: int) -> None:
        wanted = [batch, self.config.channels, *self.config.image_size]
        if list(images.shape) != wanted:
            raise ValueError(f"images must have shape [B, C, H, W] = {wanted}, got {list(images.shape)}")
        if not images.is_floating_point():
            got = str(images.dtype).removeprefix("torch.")
            raise ValueError(
                f"images must be floating point in [0, 1], got {got}: divide whole numbers by 255"
            )
        self._check_device("images", images)
        if images.is_cpu and images.numel() and not torch.compiler.is_compiling():
            low, high = images.detach().aminmax()
            if not (low >= 0 and high <= 1):
                raise ValueError(f"images must lie in [0, 1], got values from {low:g} to {high:g}")

    def _check_captions(self, captions: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        if captions.dim() != 2 or captions.dtype != torch.int64 or captions.shape[1] < 1:
            got = f"{str(captions.dtype).removeprefix('torch.')} {list(captions.shape)}"
            raise ValueError(f"captions must be word ids, int64 [B, N] with N of at least 1, got {got}")
        self._check_device("captions", captions)
        batch, count = captions.shape
        looking = captions.is_cpu and captions.numel() > 0 and not torch.compiler.is_compiling()
        if looking:
            low, high = captions.aminmax()
            if low < 0 or high >= self.config.vocabulary_size:
                last = self.config.vocabulary_size - 1
                raise ValueError(f"captions must hold word ids from 0 to {last}, got {low} to {high}")
        if lengths is None:
            return captions, captions.new_full((batch,), count)
        if lengths.shape != (batch,) or lengths.dtype != torch.int64:
            got = f"{str(lengths.dtype).removeprefix('torch.')} {list(lengths.shape)}"
            raise ValueError(f"lengths must be int64 [B] = [{batch}], got {got}")
        self._check_device("lengths", lengths)
        if looking:
            low, high = lengths.aminmax()
            if low < 1 or high > count:
                raise ValueError(f"lengths must be from 1 to N = {count}, got {low} to {high}")
            if self.config.conventions == "released" and low != high:
                raise ValueError(
                    f"the released conventions need captions of one length in a batch, got {low} to {high} words"
                )
        return captions, lengths

    def _check_device(self, name: str, tensor: Tensor) -> None:
        if tensor.device != self.canvas.device:
            raise ValueError(f"{name} must be on {self.canvas.device} like the model, got {tensor.device}")
