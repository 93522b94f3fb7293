"""The building blocks of all parts of the model: an LSTM cell, linear units beside it, and a full-precision map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw import ops


def widen(weight: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """Returns a weight [..., k] with columns of zeros before and after its own."""
    return functional.pad(weight, (before, after)) if before or after else weight


class LSTMCell(nn.Module):
    """An LSTM with forget gates; its first hidden state is learned, its first cell state is zero.

    The order of the gates is i, f, g, o. Parameters: `weight_ih` [4n, k], `weight_hh` [4n, n], `bias` [4n], `h0` [n].
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * units, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))
        self.h0 = nn.Parameter(torch.zeros(units))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `torch.nn.LSTMCell`: uniform in ±1/√n; h₀ = 0."""
        for parameter in (self.weight_ih, self.weight_hh, self.bias):
            nn.init.uniform_(parameter, -(self.h0.shape[0] ** -0.5), self.h0.shape[0] ** -0.5)
        nn.init.zeros_(self.h0)

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """Returns h [B, n] and c [B, n] before the first step."""
        return self.h0.expand(batch, -1), self.h0.new_zeros(batch, self.h0.shape[0])

    def forward(self, input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """input [B, k], state (h [B, n], c [B, n]) -> the next state."""
        return ops.lstm_cell(input, state, self.weight_ih, self.weight_hh, self.bias)


class LinearUnits(nn.Linear):
    """h = W x + b, as units of an LSTM: h = 64 tanh(tanh((W x + b) / 64)), which differs by (W x + b)² / 6144 of it.

    These units take all in, forget all that was before, give all out, and stay where tanh is straight.

    Args:
        inputs: size of x.
        units: n.
    """

    SCALE = 64  # a power of two: it rounds nothing

    def beside(self, cell: LSTMCell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns weight_ih, weight_hh, bias and h0 of one LSTM: the units of a cell, then these, whose h is h / 64.

        These see the last inputs of the cell.
        """
        weight, bias = self.weight / self.SCALE, self.bias / self.SCALE
        units, own, unseen = cell.h0.shape[0], self.out_features, cell.weight_ih.shape[1] - self.in_features
        shut = torch.zeros_like(weight)
        weight = torch.stack([shut, shut, weight, shut])
        # i, f, g, o. σ(100) is 1 in floating point; σ(-100) is below 1e-43, and a cell state below 1.
        ends = torch.full_like(bias, 100)
        bias = torch.stack([ends, -ends, bias, ends])
        return (
            torch.cat([cell.weight_ih.view(4, units, -1), widen(weight, unseen)], 1).flatten(0, 1),
            functional.pad(cell.weight_hh.view(4, units, units), (0, own, 0, own)).flatten(0, 1),
            torch.cat([cell.bias.view(4, units), bias], 1).flatten(),
            widen(cell.h0, after=own),
        )

    def forward(self, input: Tensor) -> Tensor:
        """x [B, k] -> h [B, n]."""
        return (super().forward(input) / self.SCALE).tanh().tanh() * self.SCALE


class Head(nn.Linear):
    """A linear map in full precision under autocast too: windows and Gaussian parameters do not survive bfloat16."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))
