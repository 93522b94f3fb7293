"""Random streams: one per batch or one per image, so that a picture never depends on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aligndraw.arguments import check_seed

Generators = torch.Generator | Sequence[torch.Generator] | int | None


def stream(seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns random stream number `index` of a seed. Streams of different numbers are independent."""
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) >> 1)


def draw_noise(batch: int, size: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    """Returns standard normal noise [batch, *size] with the dtype and device of `like`.

    Raises:
        ValueError: a list of generators whose length is not the batch's, or a negative seed.
    """
    if generator is None or isinstance(generator, torch.Generator):
        device = like.device if generator is None else generator.device
        noise = torch.randn(batch, *size, generator=generator, device=device, dtype=like.dtype)
        return noise.to(like.device)
    if isinstance(generator, int):
        check_seed(generator)
        # on the CPU, so that a seed gives the same picture on every device
        generator = [stream(generator, i) for i in range(batch)]
    if len(generator) != batch:
        raise ValueError(f"generator must be a list with one generator per image, {batch}, got {len(generator)}")
    if batch == 0:
        return like.new_empty(0, *size)
    return torch.stack(
        [torch.randn(*size, generator=g, device=g.device, dtype=like.dtype).to(like.device) for g in generator]
    )
