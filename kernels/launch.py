"""How every Triton kernel is started."""

from typing import Any

import torch
from torch import Tensor


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, like: Tensor, **constants: int) -> None:
    """Runs a grid of programs on the device and stream of `like`; none where the grid is empty."""
    if 0 not in grid:
        with torch.cuda.device_of(like):
            kernel[grid](*args, **constants)
