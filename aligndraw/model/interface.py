"""The interface of all models of pictures given captions: the bound, and sampling from the prior.

A caption reaches a model as word ids, which the model's language model reads, or as the vector of a sentence encoder
(`config.sentence_units`). `Model.encode_captions` accepts both; all other functions take a `Caption`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw.arguments import check_int, check_real
from aligndraw.backends import check_threads
from aligndraw.config import ModelConfig
from aligndraw.model.language import LanguageModel, WordEmbedding, WordLSTM
from aligndraw.model.recurrent import LSTMCell
from aligndraw.model.samples import Samples
from aligndraw.noise import Generators, draw_noise

Refine = Callable[[Tensor], Tensor]  # pictures [B, C, H, W] in [0, 1] -> pictures of the same shape


class Caption(NamedTuple):
    """An encoded batch of captions, computed once. A sentence vector is a caption of one word."""

    words: Tensor  # the values of attention: h_lang or embeddings of the words [B, N, 2m], or both [B, N, 4m]
    keys: Tensor | None  # U h_lang, or U times the embeddings [B, N, l]; None without align
    lengths: Tensor  # [B]
    sentence: Tensor  # last states of both directions [B, 2m], or the vector of a sentence encoder [B, d]

    def repeat(self, times: int) -> Caption:
        """Returns each caption `times` times in a row."""
        keys = None if self.keys is None else self.keys.repeat_interleave(times, 0)
        words, lengths, sentence = (t.repeat_interleave(times, 0) for t in (self.words, self.lengths, self.sentence))
        return Caption(words, keys, lengths, sentence)

    def rows(self, index: Tensor) -> Caption:
        """Returns the captions at positions int64 [R]."""
        return Caption(*(None if t is None else t[index] for t in self))  # type: ignore[arg-type]

    def mean_words(self) -> Tensor:
        """Returns one vector per caption [B, d]: the mean of its words, or `sentence` for a model without attention."""
        if self.keys is None:
            return self.sentence
        there = torch.arange(self.words.shape[1], device=self.lengths.device) < self.lengths[:, None]
        return (self.words * there[:, :, None]).sum(1) / self.lengths[:, None]


class Inference(NamedTuple):
    """The canvas from a sample of the posterior's latents, with the KL."""

    canvas: Tensor  # c_T [B, C, H, W], before the sigmoid
    kl_steps: Tensor  # [B, T], nats
    log_ratio: Tensor  # log q(z) − log p(z) [B, T], nats


class Bound(NamedTuple):
    """The variational bound of a batch, in nats: log p(x | y) ≥ −(kl + nll)."""

    kl: Tensor  # [B], summed over the steps
    kl_steps: Tensor  # [B, T]
    nll: Tensor  # −log p(x | y, Z) [B]
    log_weight: Tensor  # log of the mean over samples of p(x, Z | y) / q(Z | x, y) [B]: importance-weighted bound
    loss: Tensor  # scalar: mean of kl + nll


class PictureModel(Protocol):
    """A model that draws pictures of captions: a `Model` or a `LAPGAN`.

    Attributes:
        config: with channels, image_size, title and sentences.
        language: reads word ids; None where captions are sentence vectors.
        attends: true for a model with attention weights of the words.
        mixes_captions: true where the pictures of a caption depend on the other captions of its batch.
        has_bound: true for a `Model`, which has a variational bound.
    """

    config: Any
    language: LanguageModel | None

    @property
    def attends(self) -> bool: ...

    @property
    def mixes_captions(self) -> bool: ...

    @property
    def has_bound(self) -> bool: ...

    def sample(
        self,
        captions: Tensor,
        lengths: Tensor | None = None,
        *,
        generator: Sequence[torch.Generator],
        temperature: float = 1.0,
        steps: int | None = None,
    ) -> Samples:
        """Draws one picture per caption."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def to(self, device: torch.device) -> Any: ...


def has_bound(model: PictureModel) -> TypeGuard[Model]:
    """Returns whether a model is a `Model`."""
    return model.has_bound


class Model(nn.Module):
    """Pictures x given captions y through latents Z. A subclass supplies inference and drawing (`infer`, `draw`).

    Attributes:
        config: the shape of the model.
        language: reads word ids; None where captions are sentence vectors.
        canvas: the learned first canvas [C, H, W], before the sigmoid.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise TypeError(f"config must be of a model, got {type(config).__name__}")
        self.config = config
        self.canvas = nn.Parameter(torch.empty(config.channels, *config.image_size))
        self.language: LanguageModel | None = None
        if not config.sentence_units:
            self.language = LanguageModel(config.vocabulary_size, config.language_units, config.conventions)

    has_bound = True

    @property
    def attends(self) -> bool:
        """True for a model that attends to words, and so has weights of them."""
        return False

    @property
    def mixes_captions(self) -> bool:
        """True where the encoding of a caption depends on the other captions of its batch."""
        return self.language is not None and self.language.released

    def execution_mode(self) -> str:
        """Returns how `forward` computes, in a few words."""
        raise NotImplementedError

    def fallback_reason(self, loop: str) -> str:
        """Why the loop "unroll" (of `forward`) or "unroll_prior" (of `sample`) runs step by step.

        "" where it does not.
        """
        return ""

    def infer(self, images: Tensor, caption: Caption, noise: Tensor) -> Inference:
        """Images [B, C, H, W] and noise ε [B, T, z], of checked shapes -> canvas, KL and log ratio of the posterior."""
        raise NotImplementedError

    def draw(self, caption: Caption, noise: Tensor) -> Samples:
        """Noise ε [B, T, z], of checked shape -> pictures from the prior."""
        raise NotImplementedError

    @torch.no_grad()
    def reset_parameters(self, init: str = "paper") -> None:
        """Draws new parameters from torch's default generator.

        The first canvas becomes `config.canvas_init` everywhere.

        Args:
            init: "paper", every parameter N(0, 0.01²) (appendix B); or "fan_in", weights N(0, 0.7²/inputs) except the
                heads of the windows, biases 0, and biases of forget gates 1.
        """
        for parameter in self.parameters():
            parameter.normal_(0, 0.01)
        self.canvas.fill_(self.config.canvas_init)
        if init == "paper":
            return
        if init != "fan_in":
            raise ValueError(f'init must be "paper" or "fan_in", got {init!r}')
        for path, module in self.named_modules():
            if path.endswith(".window"):
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

    def make_sparse(self, sparse: bool) -> None:
        """Sets whether word tables have sparse gradients, which hold only the rows of a batch's words."""
        for part in self.modules():
            if isinstance(part, (WordLSTM, WordEmbedding)):
                part.sparse = sparse

    def encode_captions(self, captions: Tensor, lengths: Tensor | None = None) -> Caption:
        """Encodes captions. This small part of the work stays in full precision under autocast.

        Args:
            captions: word ids, int64 [B, N]; or, with `config.sentence_units`, sentence vectors [B, d].
            lengths: words of each caption, int64 [B]; all N when None. Sentence vectors have none.

        Raises:
            ValueError: captions, lengths or their shapes do not fit the model.
            RuntimeError: this process was forked and asks for several threads (`aligndraw.backends.check_threads`).
        """
        check_threads()
        if self.language is None:
            return self.caption_from_vectors(self._check_vectors(captions))
        captions, lengths = self._check_captions(captions, lengths)
        with torch.autocast(captions.device.type, enabled=False):
            states, sentence = self.language(captions, lengths)
            return Caption(*self._values_and_keys(captions, states), lengths, sentence)

    def caption_from_vectors(self, vectors: Tensor) -> Caption:
        """Returns captions of one vector each, of the size of a word's value: sequences of one word, α = 1."""
        ones = torch.ones(len(vectors), dtype=torch.int64, device=vectors.device)
        return Caption(vectors[:, None], self._keys_of_one(vectors), ones, vectors)

    def forward(
        self,
        images: Tensor,
        captions: Tensor,
        lengths: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
        refine: Refine | None = None,
    ) -> Bound:
        """Returns the variational bound of images given their captions (Eq. 9, 14; Eq. 15 for several samples).

        Args:
            images: x, [B, C, H, W] in [0, 1], any floating dtype.
            captions, lengths: as in `encode_captions`.
            noise: ε, [B, T, z]; or [B · samples, T, z], the samples of an image in a row. With noise the call is a pure
                function. T sets the number of steps.
            generator: of the noise: one generator, a list with one per image, or an integer seed, which gives each
                image a stream of its own.
            samples: L, samples of Z per image; kl and nll are their means.
            refine: maps σ(c_T) [B · samples, C, H, W], the samples of an image in a row, to the means of the pixels,
                such as a sharpener does (section 3.3). Under the Bernoulli likelihood the means must lie clear of 0 and
                1.

        Raises:
            ValueError: shapes or values do not fit, such as pixels outside [0, 1] or ids outside the vocabulary. Values
                are checked on the CPU only, because a check would stall a GPU.
        """
        return self.bound(images, self.encode_captions(captions, lengths), noise, generator, samples, refine)

    def bound(
        self,
        images: Tensor,
        caption: Caption,
        noise: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
        refine: Refine | None = None,
    ) -> Bound:
        """As `forward`, for captions from `encode_captions` or `caption_from_vectors`."""
        self._check_images(images, len(caption.lengths))
        check_int("samples", samples, 1)
        images = images.to(self.canvas.dtype)
        batch = images.shape[0]
        if samples > 1:
            images = images.repeat_interleave(samples, 0)
            caption = caption.repeat(samples)
        done = self.infer(images, caption, self._noise(noise, generator, batch, samples, None))
        nll = self._nll(done.canvas, images, refine).unflatten(0, (batch, samples))
        kl_steps = done.kl_steps.unflatten(0, (batch, samples))
        log_ratio = done.log_ratio.sum(1).unflatten(0, (batch, samples))
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
    ) -> Samples:
        """Draws one picture per caption from the prior (Eq. 1-5); x = σ(c_T) is the mean of the pixels.

        Args:
            captions, lengths: as in `encode_captions`.
            noise: ε, [B, T, z]; sets the number of steps.
            generator: as in `forward`.
            temperature: factor of the prior's σ, at least 0; 0 draws the mean.
            steps: T, at least 1; None for that of the configuration.

        Raises:
            ValueError: shapes or values do not fit.
        """
        check_real("temperature", temperature, 0)
        if steps is not None:
            check_int("steps", steps, 1)
        caption = self.encode_captions(captions, lengths)
        return self.draw(caption, self._noise(noise, generator, captions.shape[0], 1, steps) * temperature)

    def _values_and_keys(self, captions: Tensor, states: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns what attention reads of words with ids [B, N] and states h_lang [B, N, 2m].

        The keys are None without align.
        """
        return states, None

    def _keys_of_one(self, vectors: Tensor) -> Tensor | None:
        """Returns the keys of sequences of one word, whose values are vectors [B, d]. Any will do: α is 1."""
        return None

    def _nll(self, canvas: Tensor, images: Tensor, refine: Refine | None) -> Tensor:
        """Returns −log p(x | Z), [B]: Bernoulli(σ(c_T)) (Eq. 5), or N(σ(c_T), σ²) (the paper's footnote 1)."""
        bernoulli = self.config.likelihood == "bernoulli"
        if bernoulli and refine is None:
            terms = functional.binary_cross_entropy_with_logits(canvas, images, reduction="none")
        else:
            mean = canvas.sigmoid() if refine is None else refine(canvas.sigmoid())
            if bernoulli:
                terms = -(images * mean.log() + (1 - images) * (-mean).log1p())
            else:
                variance = self.config.observation_variance
                terms = ((mean - images).square() / variance + math.log(2 * math.pi * variance)) / 2
        return terms.flatten(1).sum(1).to(images.dtype)

    def _noise(
        self, noise: Tensor | None, generator: Generators, batch: int, samples: int, steps: int | None
    ) -> Tensor:
        latent_units, fixed = self.config.latent_units, not self.config.in_steps
        got = steps if noise is None else noise.shape[1] if noise.dim() == 3 else None
        if fixed and got not in (None, 1):
            raise ValueError(f"steps must be 1 for a model that does not draw in steps, got {got}")
        if noise is None:
            size = (samples, self.config.steps if steps is None else steps, latent_units)
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
            raise ValueError(f"images must be floating point in [0, 1], got {got}: divide whole numbers by 255")
        self._check_device("images", images)
        if _checks_values(images):
            low, high = _range(images)
            if not (low >= 0 and high <= 1):
                raise ValueError(f"images must lie in [0, 1], got values from {low:g} to {high:g}")

    def _check_vectors(self, vectors: Tensor) -> Tensor:
        units = self.config.sentence_units
        if vectors.dim() != 2 or not vectors.is_floating_point() or vectors.shape[1] != units:
            got = f"{str(vectors.dtype).removeprefix('torch.')} {list(vectors.shape)}"
            raise ValueError(f"captions must be vectors of sentences, floating point [B, {units}], got {got}")
        self._check_device("captions", vectors)
        return vectors.to(self.canvas.dtype)

    def _check_captions(self, captions: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        if captions.dim() != 2 or captions.dtype != torch.int64 or captions.shape[1] < 1:
            got = f"{str(captions.dtype).removeprefix('torch.')} {list(captions.shape)}"
            raise ValueError(f"captions must be word ids, int64 [B, N] with N of at least 1, got {got}")
        self._check_device("captions", captions)
        batch, count = captions.shape
        checked = _checks_values(captions)
        if checked:
            low, high = _range(captions)
            if low < 0 or high >= self.config.vocabulary_size:
                last = self.config.vocabulary_size - 1
                raise ValueError(f"captions must hold word ids from 0 to {last}, got {low} to {high}")
        if lengths is None:
            return captions, captions.new_full((batch,), count)
        if lengths.shape != (batch,) or lengths.dtype != torch.int64:
            got = f"{str(lengths.dtype).removeprefix('torch.')} {list(lengths.shape)}"
            raise ValueError(f"lengths must be int64 [B] = [{batch}], got {got}")
        self._check_device("lengths", lengths)
        if checked:
            low, high = _range(lengths)
            if low < 1 or high > count:
                raise ValueError(f"lengths must be from 1 to N = {count}, got {low} to {high}")
            if self.mixes_captions and low != high:
                raise ValueError(
                    f"the released conventions need captions of one length in a batch, got {low} to {high} words"
                )
        return captions, lengths

    def _check_device(self, name: str, tensor: Tensor) -> None:
        if tensor.device != self.canvas.device:
            raise ValueError(f"{name} must be on {self.canvas.device} like the model, got {tensor.device}")


def _checks_values(tensor: Tensor) -> bool:
    """Returns whether to check a tensor's values: not on a GPU, which the check would stall, nor under a compiler."""
    return tensor.is_cpu and tensor.numel() > 0 and not torch.compiler.is_compiling()


def _range(tensor: Tensor) -> tuple[float, float]:
    """Returns the smallest and the largest value; under a transform of torch.func, those of all examples."""
    tensor = tensor.detach()
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    low, high = tensor.aminmax()
    return low.item(), high.item()
