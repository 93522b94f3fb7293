"""The two building blocks of all parts of the model: an LSTM cell and a full-precision linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw import ops


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


class Head(nn.Linear):
    """A linear map in full precision under autocast too: windows and Gaussian parameters do not survive bfloat16."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))
