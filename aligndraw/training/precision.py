"""In what precision large products and convolutions are formed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aligndraw.ops import rounds_fast


def precision_on(device: torch.device, wanted: str) -> str:
    """What a configuration's precision is on a device: "float32", "tf32" or "bf16".

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
    """Inside, a GPU forms products and convolutions of float32 of factors rounded to TF32 (10 bits of fraction), or of
    the factors as they are, whichever PyTorch is set to outside: by itself it rounds those of convolutions."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
