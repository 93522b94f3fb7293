"""The precision of large matrix products and of convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aligndraw.ops import rounds_fast


def resolve_precision(device: torch.device, wanted: str) -> str:
    """Returns "float32", "tf32" or "bf16": the precision on a device that a configuration asks for.

    A trainer calls this once, and passes the result to its optimizer and its networks.

    Args:
        device: of the networks.
        wanted: one of `aligndraw.config.PRECISIONS`; "auto" is resolved here.

    Raises:
        ValueError: the device has no TF32.
    """
    if wanted == "auto":
        return "bf16" if rounds_fast(device.type) else "float32"
    if wanted == "tf32" and device.type != "cuda":
        raise ValueError(f"precision tf32 is for NVIDIA GPUs, the model is on {device}: take float32, bf16 or auto")
    return wanted


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Sets whether a GPU rounds the factors of float32 products and convolutions to TF32 (10 bits of fraction).

    PyTorch's own settings hold again after the block. By itself PyTorch rounds the factors of convolutions.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def autocast_to(precision: str, device: torch.device) -> torch.autocast:
    """Returns autocast to bfloat16 on a device; a context that does nothing unless `precision` is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
