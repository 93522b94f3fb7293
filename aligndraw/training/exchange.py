"""The sum of the gradients of several processes, each of which has computed that of its rows of a batch.

The sum of a part of the model starts as soon as the part's gradients are there, while the backward of the other parts
goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 2**20  # at least this many bytes of a model's parts are summed together


class GradientExchange:
    """The exchange of a single process, which has all rows: nothing is exchanged."""

    def finish(self, metrics: Tensor) -> tuple[Tensor, Tensor]:
        """Waits until every `.grad` is the sum over all processes.

        Returns:
            the sum of their metrics; marks of the processes, those of `aligndraw.training.guards.NotFinite`.
        """
        return metrics, metrics.new_empty(0)


class GroupExchange(GradientExchange):
    """The exchange of the default group of torch.distributed.

    Dense gradients of a bucket are summed in one buffer. Sparse gradients, which only CPUs have, are summed one by one.
    The buckets are summed in one order in all processes, whichever is ready first.

    Args:
        model: whose parameters have the gradients.
        rank, count: of this process, and of all.
        waiting: a context that names errors of the exchange.
    """

    def __init__(
        self, model: nn.Module, rank: int, count: int, waiting: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._rank, self._count, self._waiting = rank, count, waiting
        self._buckets = buckets(model)
        self._bucket_of = {p: i for i, bucket in enumerate(self._buckets) for p in bucket}
        self._missing = [len(bucket) for bucket in self._buckets]
        self._launched: list[tuple[list[Tensor], Tensor, Any]] = []  # parameters, their sum, its handle
        self._own: list[Tensor] = []  # norms of what this process gives
        self._next = 0
        for parameter in self._bucket_of:
            parameter.register_post_accumulate_grad_hook(self._on_gradient)

    def finish(self, metrics: Tensor) -> tuple[Tensor, Tensor]:
        with self._waiting():
            while self._next < len(self._buckets):  # those with parameters that have no gradient
                self._launch()
            own = mark([*self._own, metrics], self._rank, self._count)
            sums = torch.cat([metrics, own.to(metrics)])
            dist.all_reduce(sums)
            for parameters, total, handle in self._launched:
                handle.wait()
                _set_gradients(parameters, total)
        self._launched.clear()
        self._own.clear()
        self._next, self._missing = 0, [len(bucket) for bucket in self._buckets]
        return sums[: len(metrics)], sums[len(metrics) :]

    def _on_gradient(self, parameter: Tensor) -> None:
        self._missing[self._bucket_of[parameter]] -= 1
        with self._waiting():
            while self._next < len(self._buckets) and not self._missing[self._next]:
                self._launch()

    def _launch(self) -> None:
        """Starts the sum of the next bucket."""
        found = [p for p in self._buckets[self._next] if p.grad is not None]
        self._next += 1
        dense = [p for p in found if not p.grad.is_sparse]  # type: ignore[union-attr]
        parts = [[p] for p in found if p.grad.is_sparse]  # type: ignore[union-attr]
        for part in [dense, *parts] if dense else parts:
            grads = [p.grad for p in part if p.grad is not None]
            total = grads[0].coalesce() if grads[0].is_sparse else torch.cat([g.flatten() for g in grads])
            self._own.append(torch.linalg.vector_norm(total.values() if total.is_sparse else total))
            self._launched.append((part, total, dist.all_reduce(total, async_op=True)))


def mark(numbers: Sequence[Tensor], rank: int, count: int) -> Tensor:
    """Returns [count] numbers for a sum over all processes: 1 at `rank` where a number is not finite, else 0."""
    marks = torch.zeros(count, device=numbers[0].device)
    marks[rank] = ~torch.cat([n.flatten() for n in numbers]).isfinite().all()
    return marks


def buckets(model: nn.Module) -> list[list[Tensor]]:
    """Returns a model's parameters in the order in which backward makes their gradients: the last part's come first.

    A bucket holds whole parts of the model, its children, and at least BUCKET_BYTES unless it is the last one.
    """
    found: list[list[Tensor]] = [[]]
    part = None
    for name, parameter in reversed(list(model.named_parameters())):
        if not parameter.requires_grad:
            continue
        begins = name.partition(".")[0] != part
        part = name.partition(".")[0]
        if begins and sum(p.nbytes for p in found[-1]) >= BUCKET_BYTES:
            found.append([])
        found[-1].append(parameter)
    return found


@torch.no_grad()
def _set_gradients(parameters: list[Tensor], total: Tensor) -> None:
    if total.is_sparse:
        parameters[0].grad = total
        return
    for parameter, gradient in zip(parameters, split(total, parameters)):
        parameter.grad = gradient


def split(total: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Returns the parts of a flat tensor in the shapes of others."""
    return [part.view(t.shape) for part, t in zip(total.split([t.numel() for t in like]), like)]
