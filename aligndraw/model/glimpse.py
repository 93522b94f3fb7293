"""The read and write operators: a window and, for writing, a patch, both from the drawing state (Eq. 4, 8, 10, 11)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw import ops
from aligndraw.model.recurrent import Head


def released_window(window: Tensor, size: int, height: int, width: int) -> Tensor:
    """The window whose grid stands where the authors' released code puts it.

    Their pixels count from 0 and their grid starts half a step to a whole step early: g becomes
    g + 1 − δ (1 + ⌊p/2⌋ − p/2).
    """
    spacing = (max(height, width) - 1) / (size - 1) if size > 1 else 0.0
    shift = 1 - spacing * window[:, 3:4].exp() * (1 + size // 2 - size / 2)
    scale = window.new_tensor([2 / (width + 1), 2 / (height + 1)])
    return torch.cat([window[:, :2] + shift * scale, window[:, 2:]], 1)


class GlimpseRead(nn.Module):
    """r = read(x, x̂, h): a p x p glimpse of the image, and of the error image when there is a canvas.

    Args:
        units: of the state h that looks.
        size: p.
        conventions: "paper", or "released" for the window grid of the authors' released code.
    """

    def __init__(self, units: int, size: int, conventions: str = "paper") -> None:
        super().__init__()
        self.size, self.conventions = size, conventions
        self.window = Head(units, 5)

    def forward(self, h: Tensor, image: Tensor, canvas: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h [B, n], image and canvas [B, C, H, W] -> glimpse [B, C or 2C, p, p], window [B, 5]."""
        window = self.window(h)
        if self.conventions == "released":
            window = released_window(window, self.size, *image.shape[-2:])
        return ops.read(image, window, self.size, canvas), window


class GlimpseWrite(nn.Module):
    """write(h): a patch K and the window through which it is added to the canvas.

    Args:
        units: of the state h that draws.
        size: p.
        channels: C.
        conventions: "paper", or "released" for the window grid of the authors' released code.
    """

    def __init__(self, units: int, size: int, channels: int, conventions: str = "paper") -> None:
        super().__init__()
        self.size, self.channels, self.conventions = size, channels, conventions
        self.window = Head(units, 5)
        self.patch = nn.Linear(units, channels * size * size)

    def forward(self, h: Tensor, canvas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h [B, n], canvas [B, C, H, W] -> new canvas [B, C, H, W], patch [B, C, p, p], window [B, 5]."""
        window = self.window(h)
        if self.conventions == "released":
            window = released_window(window, self.size, *canvas.shape[-2:])
        patch = self.patch(h).unflatten(1, (self.channels, self.size, self.size))
        return ops.write(patch, window, canvas), patch, window
