"""The optimizers, gradient clipping and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.optim.adam import adam

from aligndraw.backends import backend_for
from aligndraw.config import TrainingConfig
from aligndraw.model import Model
from aligndraw.ops import rounds_fast


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
                factors = torch.ones(len(dense)) if scales is None else torch.stack([scales[p] for p in dense])
                squares, grads = [self.state[p]["v"] for p in dense], [p.grad for p in dense]
                _update(dense, squares, grads, factors, found_inf=self.found_inf, **rule)
        return loss


def _update(
    params: list[Tensor],
    squares: list[Tensor],
    grads: list[Tensor],
    scales: Tensor,
    lr: Tensor | float,
    decay: float,
    eps: float,
    found_inf: Tensor | None,
) -> None:
    """Applies the rule to dense gradients: in one pass over the memory in C++, in several in PyTorch."""
    everything = [*params, *squares, *grads]
    plain = all(t.dtype == torch.float32 and t.is_contiguous() and t.device.type == "cpu" for t in everything)
    if plain and isinstance(lr, float) and backend_for("unroll", "cpu") == "cpp":
        torch.ops.aligndraw.rmsprop_(params, squares, grads, scales.float(), lr, decay, eps)
        return
    scaled = list(torch._foreach_mul(grads, list(scales.to(params[0].device, params[0].dtype).unbind())))
    scaled, lr, kept = _halting(found_inf, scaled, lr, decay)
    torch._foreach_mul_(squares, kept)
    torch._foreach_addcmul_(squares, scaled, scaled, 1 - decay)
    roots = torch._foreach_add(squares, eps)
    torch._foreach_sqrt_(roots)
    if isinstance(lr, Tensor):
        torch._foreach_div_(scaled, roots)
        torch._foreach_mul_(scaled, lr)
        torch._foreach_sub_(params, scaled)
    else:
        torch._foreach_addcdiv_(params, scaled, roots, -lr)


def _halting(
    found_inf: Tensor | None, grads: list[Tensor], lr: Tensor | float, decay: float
) -> tuple[list[Tensor], Tensor | float, Tensor | float]:
    """Returns gradients, step size and decay with which a step changes nothing where found_inf is 1; else as given."""
    if found_inf is None:
        return grads, lr, decay
    halted = found_inf.to(grads[0].dtype)
    flat = torch.where(found_inf > 0, 0.0, _flatten_dense_tensors(grads))  # NaN · 0 is NaN
    return list(_unflatten_dense_tensors(flat, grads)), lr * (1 - halted), decay + (1 - decay) * halted


def _update_rows(
    p: Tensor, state: dict[str, Tensor], scale: Tensor | float, lr: float, decay: float, eps: float
) -> None:
    """Applies the rule to the rows of a sparse gradient.

    `late` counts the updates that the v of each row has missed.
    """
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
    large as one of Adam's (Liu et al., 2025); twice that trains faster here (docs/training.md).

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
        grads, lr, kept = _halting(self.found_inf, grads, lr, 0.95)
        steps = [lr * 0.4 * max(p.shape) ** 0.5 for p in matrices]
        if self._dtype and all(p.is_cpu and p.dtype == torch.float32 for p in matrices) and rounds_fast("cpu"):
            isa = torch.ops.aligndraw.isa()
            torch.ops.aligndraw.muon_(matrices, momenta, [g.contiguous() for g in grads], kept, steps, isa)
            return
        torch._foreach_mul_(momenta, kept)
        torch._foreach_add_(momenta, grads, alpha=0.05)
        for p, ahead, step in zip(matrices, torch._foreach_lerp(grads, momenta, 0.95), steps):
            p.sub_(orthogonal(ahead, self._dtype) * step)


def orthogonal(g: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Returns approximately U Vᵀ of the singular value decomposition g = U S Vᵀ, with products in `dtype` (None.

    That of g).

    Five steps of X ← a X + (b X Xᵀ + c (X Xᵀ)²) X from g over its norm, with the coefficients of Jordan et al., bring
    all singular values to between 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g.mT if g.shape[0] > g.shape[1] else g).to(dtype or g.dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if g.shape[0] > g.shape[1] else x).to(g.dtype)


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
