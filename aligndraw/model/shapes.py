"""Shapes that the words of a step decide: units that are linear in the context, and the maps that they draw."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw.model.beside import OPEN, SHUT, Units, widen
from aligndraw.model.recurrent import LSTMCell

# The loops run the shape units as units of an LSTM, in the range where its tanh is straight: they are u / SCALE there.
# tanh(tanh(x)) differs from x by 2/3 x² of it. A power of two rounds nothing.
SCALE = 64


class ShapeUnits(nn.Module):
    """u = W s + b, once for each of two sides: [σ(a) u, (1 − σ(a)) u], where a is linear in the latent and the state.

    a says which way a thing looks: of the second half each map is mirrored (`MirroredMaps`). The paper has
    none.

    Args:
        latent_units: z.
        words: d, of the context s; of a longer one the first d numbers.
        units: n, of the state h.
        shape_units: k.
    """

    def __init__(self, latent_units: int, words: int, units: int, shape_units: int) -> None:
        super().__init__()
        self.words = nn.Linear(words, shape_units)
        self.side = nn.Linear(latent_units + units, 1)

    def beside(self, cell: LSTMCell) -> Units:
        """Returns these units [2k] by `SCALE`, for the loops' LSTM.

        They forget all, and take in all of u. Their output gates are σ(a) and 1 − σ(a).
        """
        units, own = cell.h0.shape[0], self.words.out_features
        inputs, latents = cell.weight_ih.shape[1], self.side.in_features - units

        def of_sides(row: Tensor) -> Tensor:
            """[c] -> [2k, c]: as it is for the first half, with the other sign for the second."""
            return torch.stack([row, -row]).repeat_interleave(own, 0)

        words = widen(self.words.weight / SCALE, latents, inputs - latents - self.words.in_features).repeat(2, 1)
        side_z, side_h = self.side.weight[0].split([latents, units])
        side_z, side_h = of_sides(widen(side_z, after=inputs - latents)), of_sides(side_h)
        zeros_z, zeros_h, ends = torch.zeros_like(words), torch.zeros_like(side_h), cell.bias.new_ones(2 * own)
        return Units(
            torch.stack([zeros_z, zeros_z, words, side_z]),
            torch.stack([zeros_h, zeros_h, zeros_h, side_h]),
            None,
            torch.stack(
                [OPEN * ends, SHUT * ends, (self.words.bias / SCALE).repeat(2), of_sides(self.side.bias)[:, 0]]
            ),
            cell.h0.new_zeros(2 * own),
        )

    def forward(self, z: Tensor, context: Tensor, h: Tensor) -> Tensor:
        """z [B, z], s [B, d or more] and h before the step [B, n] -> [B, 2k]."""
        u = (self.words(context[:, : self.words.in_features]) / SCALE).tanh().tanh() * SCALE
        a = self.side(torch.cat([z, h], 1))
        return torch.cat([a.sigmoid() * u, (-a).sigmoid() * u], 1)


class MirroredMaps(nn.Linear):
    """Maps of p x p pixels, linear in the first half of shape units; and their mirror images, in the second half.

    Args:
        shape_units: k.
        count: of the maps.
        size: p.
    """

    def __init__(self, shape_units: int, count: int, size: int) -> None:
        super().__init__(shape_units, count * size**2)
        self.size = size

    def columns(self) -> Tensor:
        """Returns the weight of both halves, [count · p · p, 2k]."""
        mirrored = self.weight.view(-1, self.size, self.in_features).flip(1).flatten(0, 1)
        return torch.cat([self.weight, mirrored], 1)

    def forward(self, input: Tensor) -> Tensor:
        """[B, 2k] -> [B, count · p · p]."""
        one, other = input.chunk(2, 1)
        mirrored: Tensor = functional.linear(other, self.weight).unflatten(1, (-1, self.size)).flip(2).flatten(1)
        return functional.linear(one, self.weight, self.bias) + mirrored


class WordTints(nn.Module):
    """K masks and their colours: the first mask comes from shape units, the others are learned and always the same.

    The colours are linear in the state, so that it cannot choose among the shapes of a word.

    Args:
        units: n, of the state h.
        shape_units: k.
        tints: K, at least 1.
        channels: C.
        size: p.
    """

    def __init__(self, units: int, shape_units: int, tints: int, channels: int, size: int) -> None:
        super().__init__()
        self.mask = MirroredMaps(shape_units, 1, size)
        self.masks = nn.Parameter(torch.zeros(tints - 1, size, size)) if tints > 1 else None
        self.colours = nn.Linear(units, tints * channels)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Returns weight [K·(p·p + C), n + 2k] and bias [K·(p·p + C)], in the order of `ops.drawn_patch`."""
        mask, masks, colours, units = self.mask.columns(), self.mask.bias[None], self.colours, self.colours.in_features
        if self.masks is not None:
            masks = torch.cat([masks, self.masks.flatten(1)])
        count = len(masks)
        mask_weight = functional.pad(mask[None] * SCALE, (units, 0, 0, 0, 0, count - 1))
        colour_weight = widen(colours.weight.view(count, -1, units), after=mask.shape[1])
        return (
            torch.cat([mask_weight, colour_weight], 1).flatten(0, 1),
            torch.cat([masks, colours.bias.view(count, -1)], 1).flatten(),
        )

    def forward(self, h: Tensor, shapes: Tensor) -> Tensor:
        """h [B, n], shape units [B, 2k] -> [B, K·(p·p + C)]."""
        masks = self.mask(shapes)[:, None]
        if self.masks is not None:
            masks = torch.cat([masks, self.masks.flatten(1).expand(len(h), -1, -1)], 1)
        return torch.cat([masks, self.colours(h).unflatten(1, (masks.shape[1], -1))], 2).flatten(1)
