"""Units that the loops run beside those of an LSTM cell: their gates are held open or shut."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from aligndraw.model.recurrent import LSTMCell

# σ(100) and tanh(100) are 1 in floating point. σ(-100) is below 1e-43, and the cell states are at most 1 in size.
OPEN, SHUT = 100.0, -100.0
ONE = math.tanh(1)  # h of a unit of the clock that is on


def widen(weight: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """Returns a weight [..., k] with columns of zeros before and after its own."""
    return functional.pad(weight, (before, after)) if before or after else weight


class Units(NamedTuple):
    """u units for an LSTM of k inputs, beside a cell of n units. The gates are i, f, g, o."""

    weight_ih: Tensor  # [4, u, k]
    of_cell: Tensor  # [4, u, n], the columns of the cell in weight_hh
    of_themselves: Tensor | None  # [4, u, u], their own columns; None for zeros
    bias: Tensor  # [4, u]
    h0: Tensor  # [u]


def clock(steps: int, cell: LSTMCell) -> Units:
    """Units that tell the step, one for each: h of unit t is `ONE` before step t, and h of the others is 0.

    Each unit forgets all, and takes in 1 where the unit before it is on: its input gate is σ(200 h - 100) of that one.
    """
    bias, inputs, units = cell.bias, cell.weight_ih.shape[1], cell.h0.shape[0]
    succession = torch.diag(bias.new_full((steps - 1,), 2 * OPEN), -1)
    nothing = torch.zeros_like(succession)
    h0 = torch.cat([bias.new_full((1,), ONE), bias.new_zeros(steps - 1)])
    return Units(
        bias.new_zeros(4, steps, inputs),
        bias.new_zeros(4, steps, units),
        torch.stack([succession, nothing, nothing, nothing]),
        torch.stack([bias.new_full((steps,), value) for value in (SHUT, SHUT, OPEN, OPEN)]),
        h0,
    )


def lstm_with(cell: LSTMCell, others: list[Units]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns weight_ih, weight_hh, bias and h0 of one LSTM: the units of a cell, then the others in their order."""
    if not others:
        return cell.weight_ih, cell.weight_hh, cell.bias, cell.h0
    units = cell.h0.shape[0]
    counts = [len(other.h0) for other in others]
    rows = [widen(cell.weight_hh.view(4, units, units), after=sum(counts))]
    for i, (other, count) in enumerate(zip(others, counts)):
        before, after = sum(counts[:i]), sum(counts[i + 1 :])
        own = other.weight_ih.new_zeros(4, count, count) if other.of_themselves is None else other.of_themselves
        rows.append(torch.cat([other.of_cell, widen(own, before, after)], 2))
    return (
        torch.cat([cell.weight_ih.view(4, units, -1), *(other.weight_ih for other in others)], 1).flatten(0, 1),
        torch.cat(rows, 1).flatten(0, 1),
        torch.cat([cell.bias.view(4, units), *(other.bias for other in others)], 1).flatten(),
        torch.cat([cell.h0, *(other.h0 for other in others)]),
    )
