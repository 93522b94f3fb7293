"""The update rule of the paper's authors, gradient clipping, and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from aligndraw.config import TrainingConfig


class RMSprop(torch.optim.Optimizer):
    """v ← 0.9 v + 0.1 g²; p ← p − lr · g / √(v + 1e-6), as the authors run it.

    `torch.optim.RMSprop` differs: its ε stands outside the root.

    Args:
        params: as in any torch optimizer.
        lr: step size.
        decay: of v.
        eps: under the root.
    """

    def __init__(self, params: Any, lr: float = 1e-3, decay: float = 0.9, eps: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p]["v"] = torch.zeros_like(p)
            means = [self.state[p]["v"] for p in params]
            torch._foreach_mul_(means, group["decay"])
            torch._foreach_addcmul_(means, grads, grads, 1 - group["decay"])
            roots = torch._foreach_add(means, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, -group["lr"])
        return loss


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the configuration names, over all parameters of the model."""
    if config.optimizer == "rmsprop":
        return RMSprop(model.parameters(), lr=config.learning_rate)
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate)


def learning_rate(config: TrainingConfig, update: int) -> float:
    """The step size of update 0, 1, ...: constant and then a tenth ("step"), or a half cosine ("cosine")."""
    per_epoch = config.epoch_size // config.batch_size
    if config.schedule == "step":
        return config.learning_rate * (0.1 if update >= config.drop_epoch * per_epoch else 1.0)
    done = min(1.0, update / max(1, config.epochs * per_epoch))
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def clip_gradients(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> Tensor:
    """Scales gradients down to `clip_norm`, all together or each tensor alone; returns their global norm before."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(grads)
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    if config.clip_norm > 0:
        for grad, norm in zip(grads, norms):
            largest = total if config.clip == "global" else norm
            grad.mul_(config.clip_norm / largest.clamp(min=config.clip_norm))
    return total
