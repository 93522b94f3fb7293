"""Updates that change nothing where a gradient is not finite, without the host's knowing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def skipping(
    found_inf: Tensor | None, gradients: list[Tensor], rate: Tensor | float, decay: float
) -> tuple[list[Tensor], Tensor | float, Tensor | float]:
    """Returns gradients, step size and decay by which an update changes nothing where found_inf is 1; else as given."""
    if found_inf is None:
        return gradients, rate, decay
    skipped = found_inf.to(gradients[0].dtype)
    flat = torch.where(found_inf > 0, 0.0, _flatten_dense_tensors(gradients))  # a NaN times 0 would be one
    return list(_unflatten_dense_tensors(flat, gradients)), rate * (1 - skipped), decay + (1 - decay) * skipped
