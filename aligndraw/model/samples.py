"""The result of a model's sampling: pictures, and the steps in which they were drawn."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from aligndraw import ops


class Samples:
    """Pictures drawn from captions, with the steps in which they were drawn.

    Attributes:
        images: σ(c_T), [B, C, H, W] in [0, 1].
        weights: α, [B, T, N]; None for a model without align.
        windows: of the writes, [B, T, 5]; None for a model that does not draw in steps.
        patches: [B, T, C, p, p], with opacity [B, T, C + 1, p, p]; None for a model that does not draw in steps.
    """

    def __init__(
        self,
        first: Tensor,
        last: Tensor,
        patches: Tensor | None = None,
        windows: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self._first = first
        self._canvases: Tensor | None = None
        self.images = last.sigmoid()
        self.patches, self.windows, self.weights = patches, windows, weights

    @property
    def canvases(self) -> Tensor:
        """c_1 ... c_T, [B, T, C, H, W] before the sigmoid; computed on first access.

        Raises:
            ValueError: the model does not draw in steps.
        """
        if self.patches is None or self.windows is None:
            raise ValueError("a model must draw in steps for there to be canvases, and this one does not")
        if self._canvases is None:
            canvas, frames = self._first, []
            draw = ops.write if self.patches.shape[2] == canvas.shape[-3] else ops.cover
            for patch, window in zip(self.patches.unbind(1), self.windows.unbind(1)):
                canvas = draw(patch, window, canvas)
                frames.append(canvas)
            self._canvases = torch.stack(frames, 1)
        return self._canvases

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Returns several as one; the attention weights of shorter captions are padded with 0."""
        new = copy.copy(parts[0])
        new._canvases = None
        weights = [part.weights for part in parts if part.weights is not None]
        if weights:
            longest = max(w.shape[-1] for w in weights)
            new.weights = torch.cat([functional.pad(w, (0, longest - w.shape[-1])) for w in weights])
        for name in ("images", "patches", "windows"):
            values = [getattr(part, name) for part in parts]
            setattr(new, name, None if values[0] is None else torch.cat(values))
        if new.patches is not None:
            new._first = torch.cat([p._first.expand(len(p.images), *p._first.shape[-3:]) for p in parts])
        return new

    def cloned(self, words: int) -> Samples:
        """Returns a copy with its own memory, with the attention weights of the first `words` words."""
        new = copy.copy(self)
        new._canvases = None
        for name in ("_first", "images", "patches", "windows"):
            value = getattr(self, name)
            setattr(new, name, None if value is None else value.clone())
        new.weights = None if self.weights is None else self.weights[..., :words].clone()
        return new
