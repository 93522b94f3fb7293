"""The read and write operators: glimpses, patches and their windows, from the drawing state (Eq. 4, 8, 10, 11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw import ops
from aligndraw.model.beside import widen
from aligndraw.model.recurrent import Head
from aligndraw.model.shapes import SCALE, MirroredMaps, WordTints


def released_window(window: Tensor, size: int, height: int, width: int) -> Tensor:
    """Returns the window whose grid lies where the authors' released code puts it.

    Their pixels count from 0, and their grid starts half a step to a whole step early: g becomes
    g + 1 − δ (1 + ⌊p/2⌋ − p/2).
    """
    spacing = (max(height, width) - 1) / (size - 1) if size > 1 else 0.0
    shift = 1 - spacing * window[:, 3:4].exp() * (1 + size // 2 - size / 2)
    scale = window.new_tensor([2 / (width + 1), 2 / (height + 1)])
    return torch.cat([window[:, :2] + shift * scale, window[:, 2:]], 1)


class WindowHead(Head):
    """The window of a state: g̃_X, g̃_Y, log σ², log δ̃, log γ, linear in h.

    With `span` the grid has a fixed size, and only g̃_X, g̃_Y and log γ are learned. A patch then reaches no further
    than its window, so that the window alone places it.

    Args:
        units: of the state h.
        size: p, filters per axis.
        span: distance from the first to the last filter, over the distance from the first to the last pixel of the
            longer side of the image; 0 for a learned size.
        side: pixels of the longer side.
    """

    def __init__(self, units: int, size: int, span: float = 0.0, side: int = 1) -> None:
        super().__init__(units, 3 if span else 5)
        # σ is half the spacing δ.
        self.log_size = (2 * math.log(span * (side - 1) / (size - 1) / 2), math.log(span)) if span else None

    def affine(self) -> tuple[Tensor, Tensor]:
        """Returns weight [5, n] and bias [5] of all five numbers."""
        if self.log_size is None:
            return self.weight, self.bias
        weight, bias = self.weight, self.bias
        return (
            torch.cat([weight[:2], weight.new_zeros(2, weight.shape[1]), weight[2:]]),
            torch.cat([bias[:2], bias.new_tensor(self.log_size), bias[2:]]),
        )

    def forward(self, input: Tensor) -> Tensor:
        """h [B, n] -> window [B, 5], in full precision under autocast too."""
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(input.to(self.weight.dtype), *self.affine())


class GlimpseRead(nn.Module):
    """r = read(x, x̂, h): a p x p glimpse of the image and, given a canvas, of the error image.

    Args:
        units: of the state h.
        size: p.
        conventions: "paper", or "released" for the window grid of the authors' released code.
        span, side: as for `WindowHead`.
        own: whether the window has a head of its own. Else it is that of the last write with log γ = 1.
    """

    def __init__(
        self, units: int, size: int, conventions: str = "paper", span: float = 0.0, side: int = 1, own: bool = True
    ) -> None:
        super().__init__()
        self.size, self.conventions = size, conventions
        self.window = WindowHead(units, size, span, side) if own else None

    def affine(self, write: WindowHead) -> tuple[Tensor, Tensor]:
        """Returns weight [5, n] and bias [5] of the window, given the head of the write window."""
        if self.window is not None:
            return self.window.affine()
        weight, bias = write.affine()
        return (
            torch.cat([weight[:4], weight.new_zeros(1, weight.shape[1])]),
            torch.cat([bias[:4], bias.new_ones(1)]),
        )

    def forward(
        self, h: Tensor, image: Tensor, canvas: Tensor | None = None, write: WindowHead | None = None
    ) -> tuple[Tensor, Tensor]:
        """h [B, n], image and canvas [B, C, H, W] -> glimpse [B, C or 2C, p, p], window [B, 5].

        Raises:
            ValueError: the window is that of the last write, and its head `write` is not given.
        """
        if self.window is not None:
            window = self.window(h)
        elif write is not None:
            written = write(h)
            window = torch.cat([written[:, :4], torch.ones_like(written[:, 4:])], 1)
        else:
            raise ValueError("write must be the head of the write window where the glimpse has none of its own")
        if self.conventions == "released":
            window = released_window(window, self.size, *image.shape[-2:])
        return ops.read(image, window, self.size, canvas), window


class GlimpseWrite(nn.Module):
    """write(h): a patch K, and the window through which it is added to the canvas.

    Args:
        units: n, of the state h.
        size: p.
        channels: C.
        conventions: "paper", or "released" for the window grid of the authors' released code.
        span, side: as for `WindowHead`.
        tints: masks that are multiplied by a colour each and added to the patch. The shape and the colour of an object
            then come from numbers of their own.
        opacity: whether the patch has a channel more, its opacity, and covers the canvas (`ops.cover`).
        shape_units: k, of a `ShapeUnits`. The patch, its opacity and the mask of the first tint are linear in them, so
            that a word has one shape, wherever the state puts it and whatever colour it gives it. 0 for shapes that are
            linear in h.
    """

    def __init__(
        self,
        units: int,
        size: int,
        channels: int,
        conventions: str = "paper",
        span: float = 0.0,
        side: int = 1,
        tints: int = 0,
        opacity: bool = False,
        shape_units: int = 0,
    ) -> None:
        super().__init__()
        self.size, self.channels, self.conventions = size, channels, conventions
        self.units = units
        self.window = WindowHead(units, size, span, side)
        self.patch = self._maps(units, shape_units, channels)
        self.tints: nn.Linear | WordTints | None = None
        if tints and shape_units:
            self.tints = WordTints(units, shape_units, tints, channels, size)
        elif tints:
            self.tints = nn.Linear(units, tints * (size**2 + channels))
        self.opacity = self._maps(units, shape_units, 1) if opacity else None

    def _maps(self, units: int, shape_units: int, count: int) -> nn.Linear:
        if shape_units:
            return MirroredMaps(shape_units, count, self.size)
        return nn.Linear(units, count * self.size**2)

    def affine(self) -> list[tuple[Tensor, Tensor]]:
        """Returns weight and bias of patch, tints and opacity.

        The columns of the weights are h, and the shape units in the form of `ShapeUnits.beside`.
        """
        heads = []
        for head in (self.patch, self.tints, self.opacity):
            if isinstance(head, WordTints):
                heads.append(head.affine())
            elif isinstance(head, MirroredMaps):
                heads.append((widen(head.columns() * SCALE, before=self.units), head.bias))
            elif head is not None:
                heads.append((head.weight, head.bias))
        return heads

    def forward(self, h: Tensor, canvas: Tensor, shapes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """h [B, n], canvas [B, C, H, W] -> new canvas [B, C, H, W], patch [B, C, p, p], window [B, 5].

        With opacity, the last channel of the patch [B, C + 1, p, p]. `shapes` are the shape units [B, 2k], if any.

        Raises:
            ValueError: shapes are given where there are no shape units, or not given where there are some.
        """
        if (shapes is None) == isinstance(self.patch, MirroredMaps):
            raise ValueError("shapes must be given where there are shape units, and nowhere else")
        window = self.window(h)
        if self.conventions == "released":
            window = released_window(window, self.size, *canvas.shape[-2:])
        source = h if shapes is None else shapes
        none = h.new_empty(len(h), 0)
        if self.tints is None:
            tints = none
        else:
            tints = self.tints(h, source) if isinstance(self.tints, WordTints) else self.tints(h)
        opacity = none if self.opacity is None else self.opacity(source).sigmoid()
        patch = ops.drawn_patch(self.patch(source), tints, opacity, self.channels, self.size)
        draw = ops.write if self.opacity is None else ops.cover
        return draw(patch, window, canvas), patch, window
