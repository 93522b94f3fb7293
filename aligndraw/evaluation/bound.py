"""The variational bound of a set of examples, with standard errors (Eq. 9, 14, 15)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aligndraw.arguments import check_int, check_seed
from aligndraw.data import Examples, to_tensors
from aligndraw.evaluation.drawing import Sharpen
from aligndraw.model import Bound, Model
from aligndraw.noise import stream

EPSILON = 1e-6  # after sharpening, means of pixels are clipped to [EPSILON, 1 - EPSILON]


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its standard error, in nats per image."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Returns the estimate of one value per image [n]; the standard error of a single image is NaN."""
        values = values.double()
        spread = values.std().item() if len(values) > 1 else math.nan
        return cls(values.mean().item(), spread / math.sqrt(len(values)))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.error:.2f}"

    def to_dict(self) -> dict[str, float | None]:
        """Returns plain numbers, ready for JSON: a NaN is None."""
        return {"mean": self.mean, "error": None if math.isnan(self.error) else self.error}


@dataclass(frozen=True)
class BoundReport:
    """The bound on a set of images, in nats per image; lower is better for `bound`, `kl` and `nll`.

    `bound` is KL + NLL, an upper bound of −log p(x | y). `importance` is minus the importance-weighted bound of
    `samples` samples (Burda et al., 2016), which is tighter in expectation. `each` [n] is the bound of each image.
    """

    bound: Estimate
    importance: Estimate
    kl: Estimate
    nll: Estimate
    kl_steps: list[float]
    images: int
    samples: int
    each: Tensor = field(repr=False, compare=False)

    @classmethod
    def of(cls, images: Tensor, samples: int) -> BoundReport:
        """Returns the report of the bounds of images, [n, 3 + T] from `image_bounds`."""
        kl, nll, log_weight, steps = images.split([1, 1, 1, images.shape[1] - 3], 1)
        bound = (kl + nll).squeeze(1)
        return cls(
            bound=Estimate.of(bound),
            importance=Estimate.of(-log_weight.squeeze(1)),
            kl=Estimate.of(kl.squeeze(1)),
            nll=Estimate.of(nll.squeeze(1)),
            kl_steps=steps.mean(0).tolist(),
            images=len(images),
            samples=samples,
            each=bound,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        estimates = {k: v.to_dict() for k, v in vars(self).items() if isinstance(v, Estimate)}
        return {**estimates, "kl_steps": self.kl_steps, "images": self.images, "samples": self.samples}


def image_bounds(bound: Bound) -> Tensor:
    """Returns KL, NLL, log weight and the KL of each step of each image, [B, 3 + T]."""
    return torch.cat([torch.stack([bound.kl, bound.nll, bound.log_weight], 1), bound.kl_steps], 1)


def clipped(sharpen: Callable[[Tensor], Tensor], epsilon: float = EPSILON) -> Callable[[Tensor], Tensor]:
    """Returns a sharpener for `Model.bound`: its images are clipped to [ε, 1 − ε], in float64.

    Raises:
        ValueError: ε is not above 0 and below 1/2.
    """
    if not 0 < epsilon < 0.5:
        raise ValueError(f"epsilon must be above 0 and below 0.5, got {epsilon!r}")
    return lambda images: sharpen(images).double().clamp(epsilon, 1 - epsilon)


@torch.no_grad()
def estimate_bound(
    model: Model,
    examples: Examples,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    *,
    sharpen: Sharpen | None = None,
    epsilon: float = EPSILON,
    on_batch: Callable[[int], object] = lambda images: None,
) -> BoundReport:
    """Returns the bound of a model on examples.

    With a sharpener, that of the sharpened pictures (section 3.3, Table 3).

    After sharpening, the sharpened picture, clipped to [ε, 1 − ε], gives the means of the pixels: a mean of 0 or 1
    would make any other pixel impossible. The KL stays that of the latents.

    Args:
        model: on any device.
        examples: pictures with captions.
        samples: L of Eq. 15, and of the importance-weighted bound.
        seed: of the noise: image i always gets the same, whatever the batch size.
        batch_size: images per batch.
        sharpen: maps captions and σ(c_T) to sharp images.
        epsilon: ε, above 0 and below 1/2.
        on_batch: called with the number of images just done.

    Raises:
        ValueError: no examples, samples or batch_size below 1, or ε out of range.
    """
    check_int("examples", len(examples), 1)
    parts = []
    for part in each_bound(model, examples, samples, seed, batch_size, sharpen=sharpen, epsilon=epsilon):
        parts.append(image_bounds(part))
        on_batch(len(parts[-1]))
    return BoundReport.of(torch.cat(parts), samples)


@torch.no_grad()
def each_bound(
    model: Model,
    examples: Examples,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    *,
    sharpen: Sharpen | None = None,
    epsilon: float = EPSILON,
    positions: range | None = None,
) -> Iterator[Bound]:
    """Yields the bounds of batches, whose means `estimate_bound` returns; arguments as there.

    Args:
        positions: of the examples to use; None for all.
    """
    for name, value in (("samples", samples), ("batch_size", batch_size)):
        check_int(name, value, 1)
    check_seed(seed)
    refine, device = None, model.canvas.device
    wanted = range(len(examples)) if positions is None else positions
    for start in range(wanted.start, wanted.stop, batch_size):
        block = slice(start, min(start + batch_size, wanted.stop))
        images, words, lengths = (t.to(device) for t in to_tensors(examples, block))
        generator = [stream(seed, i) for i in range(block.start, block.stop)]
        if sharpen is not None:
            texts = [text for text in examples.captions(block) for _ in range(samples)]
            refine = clipped(partial(sharpen, texts), epsilon)
        yield model(images, words, lengths, generator=generator, samples=samples, refine=refine)
