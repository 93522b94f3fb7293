"""Reconstructions of training images by a drawing model: inputs for a sharpener, as blurry as the model's drawings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.arguments import check_seed
from aligndraw.data import CaptionReader
from aligndraw.lapgan.examples import CaptionedExamples
from aligndraw.model import Model
from aligndraw.noise import stream

_BATCH_SIZE = 200  # images


@torch.no_grad()
def reconstruct(
    model: Model,
    captions: CaptionReader,
    examples: CaptionedExamples,
    seed: int = 0,
    on_images: Callable[[int], object] = lambda images: None,
) -> NDArray[np.uint8]:
    """Returns σ(c_T) of each example's image, for one sample of the posterior's latents.

    Args:
        model: on any device.
        captions: encodes captions for the model.
        examples: n images with captions.
        seed: of the noise; example i has random stream i.
        on_images: called with the number of images just reconstructed.

    Returns:
        uint8 [n, C, H, W], 255 · σ(c_T) rounded.

    Raises:
        ValueError: the model has another image shape, or its captions depend on their batch; `CaptionError`, for a
            caption that it cannot read.
    """
    check_seed(seed)
    if model.mixes_captions:
        raise ValueError("model must read each caption by itself, got one of the released conventions")
    device, count = next(model.parameters()).device, len(examples)
    shape = [model.config.channels, *model.config.image_size]
    got = list(examples.batch(np.arange(1))[0].shape[1:])
    if got != shape:
        raise ValueError(
            f"images must be those of the model, [C, H, W] = {shape}, got {got}: give a model of such images"
        )
    reconstructions = np.empty((count, *shape), np.uint8)
    means: list[Tensor] = []

    def capture(mean: Tensor) -> Tensor:
        means[:] = [mean]
        return mean

    for start in range(0, count, _BATCH_SIZE):
        rows = np.arange(start, min(start + _BATCH_SIZE, count))
        images, texts = examples.batch(rows)
        words, lengths = captions.encode_batch(texts)
        streams = [stream(seed, i) for i in rows.tolist()]
        model(images.to(device), words.to(device), lengths.to(device), generator=streams, refine=capture)
        reconstructions[rows] = (means[0] * 255).round().to("cpu", torch.uint8).numpy()
        on_images(len(rows))
    return reconstructions
