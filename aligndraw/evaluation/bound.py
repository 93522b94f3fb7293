"""The variational bound of a set of examples, with standard errors (Eq. 9, 14, 15)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aligndraw.data import Examples, to_tensors
from aligndraw.model import Model
from aligndraw.model.noise import stream


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its standard error, in nats an image."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Of one value an image [n]; one image has no standard error, which is then not a number."""
        values = values.double()
        spread = values.std().item() if len(values) > 1 else math.nan
        return cls(values.mean().item(), spread / math.sqrt(len(values)))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.error:.2f}"


@dataclass(frozen=True)
class BoundReport:
    """What `estimate_bound` found, in nats an image; lower is better for `bound`, `kl` and `nll`.

    `bound` is KL + NLL, an upper bound of −log p(x | y); `importance` is minus the importance-weighted bound of
    `samples` samples (Burda et al., 2016), tighter in expectation.
    """

    bound: Estimate
    importance: Estimate
    kl: Estimate
    nll: Estimate
    kl_steps: list[float]
    images: int
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        estimates = {
            k: {"mean": v.mean, "error": v.error} for k, v in vars(self).items() if isinstance(v, Estimate)
        }
        return {**estimates, "kl_steps": self.kl_steps, "images": self.images, "samples": self.samples}


@torch.no_grad()
def estimate_bound(
    model: Model,
    examples: Examples,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    *,
    on_batch: Callable[[int], object] = lambda images: None,
) -> BoundReport:
    """The bound of a model on examples.

    Args:
        model: on any device.
        examples: pictures with captions.
        samples: L of Eq. 15, and of the importance-weighted bound.
        seed: of the noise: image i always gets the same, whatever the batch size.
        batch_size: images at a time.
        on_batch: called with the number of images just done.

    Raises:
        ValueError: no examples, or samples or batch_size below 1.
    """
    if len(examples) == 0 or samples < 1 or batch_size < 1:
        raise ValueError(
            f"examples, samples and batch_size must be at least 1, got {len(examples)}, {samples} and {batch_size}"
        )
    device, parts = model.canvas.device, []
    for start in range(0, len(examples), batch_size):
        images, *captions = to_tensors(examples, slice(start, start + batch_size))
        generators = [stream(seed, start + i) for i in range(len(images))]
        parts.append(model(images.to(device), *(c.to(device) for c in captions), generator=generators, samples=samples))
        on_batch(len(images))
    kl, nll, log_weight, steps = (
        torch.cat([getattr(p, name) for p in parts]) for name in ("kl", "nll", "log_weight", "kl_steps")
    )
    return BoundReport(
        bound=Estimate.of(kl + nll),
        importance=Estimate.of(-log_weight),
        kl=Estimate.of(kl),
        nll=Estimate.of(nll),
        kl_steps=steps.mean(0).tolist(),
        images=len(kl),
        samples=samples,
    )
