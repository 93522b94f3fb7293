"""The optimizers, gradient clipping and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from aligndraw.config import TrainingConfig
from aligndraw.model import Model
from aligndraw.ops import muon_, rmsprop_


class RMSprop(torch.optim.Optimizer):
    """v ← 0.9 v + 0.1 g²; p ← p − lr · g / √(v + 1e-6), as the paper's authors run it.

    `torch.optim.RMSprop` adds ε outside the root. A sparse gradient (of a table of words) costs time in proportion to
    its rows: the other rows keep their values, and their v catches up when they next have a gradient.

    Args:
        params: as for any torch optimizer.
        lr: step size.
        decay: of v.
        eps: added under the root.

    Attributes:
        found_inf: as for torch's fused optimizers. Where it is a tensor of 1, a step changes nothing, whatever the
            gradients, and without a look from the host.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Any, lr: float = 1e-3, decay: float = 0.9, eps: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, scales: Mapping[Tensor, Tensor] | None = None
    ) -> float | None:
        """Updates every parameter that has a gradient.

        Args:
            closure: recomputes the loss.
            scales: factors of the gradients by parameter, instead of scaled gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rule = {k: group[k] for k in ("lr", "decay", "eps")}
            dense = []
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["v"] = torch.zeros_like(p)
                if p.grad.is_sparse:
                    _update_rows(p, state, 1.0 if scales is None else scales[p], **rule)
                else:
                    dense.append(p)
            if dense:
                ones = torch.ones(len(dense), device=dense[0].device)
                factors = ones if scales is None else torch.stack([scales[p] for p in dense])
                squares, grads = [self.state[p]["v"] for p in dense], [p.grad for p in dense]
                rmsprop_(dense, squares, grads, factors, found_inf=self.found_inf, **rule)
        return loss


def _update_rows(
    p: Tensor, state: dict[str, Tensor], scale: Tensor | float, lr: float, decay: float, eps: float
) -> None:
    """The rule for the rows of a sparse gradient; `late` has how many updates each row's v has missed."""
    assert p.grad is not None
    if "late" not in state:
        state["late"] = p.new_zeros(len(p))
    grad = p.grad.coalesce()
    rows, g = grad.indices()[0], grad.values() * scale
    missed = decay ** state["late"][rows].to(p.dtype)
    v = state["v"][rows] * (decay * missed)[:, None] + (1 - decay) * g * g
    state["v"][rows] = v
    p[rows] -= lr * g / (v + eps).sqrt()
    state["late"] += 1
    state["late"][rows] = 0


class Muon(torch.optim.Optimizer):
    """Muon for matrices (Jordan et al., 2024), Adam for all other parameters (Kingma and Ba, 2015).

    m ← 0.95 m + 0.05 g; W ← W − lr · 0.4 √max(rows, columns) · O, where O is the orthogonal factor of 0.05 g + 0.95 m,
    by five steps of a Newton–Schulz iteration, which bring all singular values near 1. With 0.2 √… a step would be as
    large as one of Adam's (Liu et al., 2025); twice that trains faster here (docs/measurements/quick.md).

    With `bf16`, matrices on a CPU with AVX512_BF16 or AMX take a step in one call of C++ (csrc/cpu/muon.cpp).

    Args:
        params: as for any torch optimizer.
        matrices: those of them that Muon updates, [rows, columns] each.
        lr: step size.
        bf16: forms the products of the iteration in bfloat16, which it tolerates.

    Attributes:
        found_inf: as `RMSprop.found_inf`.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Any, matrices: Iterable[Tensor], lr: float = 1e-3, bf16: bool = False) -> None:
        # "fused" makes a loaded count of Adam's steps follow the parameters to their device.
        super().__init__(params, {"lr": lr, "fused": True})
        self._matrices = set(matrices)
        self._dtype = torch.bfloat16 if bf16 else None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_grads = [p for p in group["params"] if p.grad is not None]
            self._step_matrices([p for p in with_grads if p in self._matrices], group["lr"])
            others = [p for p in with_grads if p not in self._matrices]
            for p in others:
                if not self.state[p]:
                    zeros = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                    self.state[p].update(zeros, step=torch.zeros((), device=p.device))
            kept = {key: [self.state[p][key] for p in others] for key in ("exp_avg", "exp_avg_sq", "step")}
            adam(
                others, [p.grad for p in others], kept["exp_avg"], kept["exp_avg_sq"], [], kept["step"], fused=True,
                found_inf=self.found_inf, amsgrad=False, beta1=0.9, beta2=0.999, lr=group["lr"], weight_decay=0.0,
                eps=1e-8, maximize=False,
            )  # fmt: skip
        return loss

    def _step_matrices(self, matrices: list[Tensor], lr: float | Tensor) -> None:
        if not matrices:
            return
        for p in matrices:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in matrices]
        grads = [p.grad for p in matrices if p.grad is not None]
        steps = [lr * 0.4 * max(p.shape) ** 0.5 for p in matrices]
        muon_(matrices, momenta, grads, 0.95, steps, self._dtype, self.found_inf)


def build_optimizer(model: Model, config: TrainingConfig, precision: str) -> torch.optim.Optimizer:
    """Returns the optimizer that a configuration names, over all parameters of a model.

    RMSprop on a CPU makes the words' gradients sparse where a batch holds few of the vocabulary's words. On a GPU they
    stay dense: CUDA graphs cannot record sparse ones.

    Args:
        precision: the resolved one, of `aligndraw.training.precision.resolve_precision`; Muon's products follow it.
    """
    if model.language is not None:
        large = model.config.vocabulary_size > 4 * config.batch_size
        model.make_sparse(config.optimizer == "rmsprop" and large and model.canvas.is_cpu)
    if config.optimizer == "rmsprop":
        return RMSprop(model.parameters(), lr=config.learning_rate)
    if config.optimizer == "muon":
        tables_and_windows = ("words", "window.weight")
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and not name.endswith(tables_and_windows)]
        return Muon(model.parameters(), matrices, config.learning_rate, precision == "bf16")
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)


def learning_rate(config: TrainingConfig, update: int) -> float:
    """Returns the step size of update 0, 1, ...: constant and then a tenth ("step"), or a half cosine ("cosine")."""
    if config.schedule == "step":
        return config.learning_rate * (0.1 if update >= config.drop_epoch * config.updates_per_epoch else 1.0)
    done = min(1.0, update / max(1, config.epochs * config.updates_per_epoch))
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def clip_scales(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> tuple[Tensor, dict[Tensor, Tensor]]:
    """Returns the global norm of the gradients, and by parameter the factor that clips its gradient to `clip_norm`.

    `config.clip` is "global" for one norm of all gradients, or "per_tensor" for a norm per gradient.
    """
    with_grads, grads = [], []
    for p in parameters:
        if p.grad is not None:
            p.grad = p.grad.coalesce() if p.grad.is_sparse else p.grad
            with_grads.append(p)
            grads.append(p.grad.values() if p.grad.is_sparse else p.grad)
    norms = torch.stack(torch._foreach_norm(grads))
    total: Tensor = torch.linalg.vector_norm(norms)
    if config.clip_norm > 0:
        largest = total.expand_as(norms) if config.clip == "global" else norms
        scales = config.clip_norm / largest.clamp(min=config.clip_norm)
    else:
        scales = torch.ones_like(norms)
    return total, dict(zip(with_grads, scales.unbind()))
