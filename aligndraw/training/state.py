"""What every training has in common: a state from which it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Resumable:
    """Parameters, what the optimizer keeps of each, and the number of updates done.

    Attributes:
        average: a running mean of the parameters by name; empty where none is kept.
        opponent: what is trained beside the model by plain gradient descent, which keeps nothing.
        index: the number of updates done.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.average: dict[str, Tensor] = {}
        self.opponent: nn.Module | None = None
        self.index = 0

    def state_dict(self) -> dict[str, Any]:
        """Parameters, their running mean, the opponent's, optimizer state and the number of updates done."""
        return {
            "index": self.index,
            "model": self.model.state_dict(),
            "average": self.average,
            "opponent": {} if self.opponent is None else self.opponent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to what `state_dict` returned; the next update is then the one that followed it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        if self.opponent is not None:
            self.opponent.load_state_dict(state["opponent"])
        self.index = state["index"]


def check_finite(what: str, tensors: Sequence[Tensor], update: int, loss: Tensor) -> None:
    """Raises a FloatingPointError where the gradients, or the parameters, of an update are not finite numbers."""
    if not torch.stack(torch._foreach_norm(list(tensors))).isfinite().all():
        raise FloatingPointError(
            f"the {what} of update {update} are not finite (loss {loss.item():g}): lower learning_rate"
        )
