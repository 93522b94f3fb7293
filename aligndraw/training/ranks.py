"""The processes that share one training.

Every process holds the whole model. Each takes its rows of every batch, and all take the same step by the sum of their
gradients. Process 0, the first, alone writes. `current()` returns the processes of this training; by default there is
one, for which all of this does nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from textwrap import shorten
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from aligndraw.training.exchange import GradientExchange, GroupExchange, mark, split

STEP_TIMEOUT = timedelta(minutes=10)  # for another process's share of an update
FIRST_TIMEOUT = timedelta(hours=2)  # for the first process's work alone, such as sheets and checkpoints


class RanksError(Exception):
    """The processes of a training cannot go on together; the message is one line."""


class Ranks:
    """The only process of a training.

    Attributes:
        rank: of this process, from 0.
        count: of processes.
    """

    rank, count = 0, 1

    @property
    def first(self) -> bool:
        """True in the process that writes and prints."""
        return self.rank == 0

    def rows(self, count: int) -> range:
        """Returns this process's share of `count` rows: a contiguous one, in the order of the processes."""
        return range(self.rank * count // self.count, (self.rank + 1) * count // self.count)

    def share(self, rows: range) -> slice:
        """Returns this process's share of consecutive rows."""
        own = self.rows(len(rows))
        return slice(rows.start + own.start, rows.start + own.stop)

    def weight(self, count: int) -> float:
        """Returns the weight of the mean over this process's rows in the mean over all `count` rows."""
        return len(self.rows(count)) / count

    def dropout(self, count: int, times: int = 1) -> AbstractContextManager[object]:
        """Returns a context in which the masks of dropout do not depend on the number of processes.

        Args:
            count, times: the input of dropout has this process's rows of `times` batches of `count` rows each.
        """
        return nullcontext()

    def summed(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        """Returns the sums of tensors over all processes, and marks as of `GradientExchange.finish`."""
        return tensors, tensors[0].new_empty(0)

    def exchange(self, model: nn.Module) -> GradientExchange:
        """Returns the exchange of the gradients of a model."""
        return GradientExchange()

    def joined(self, rows: Tensor, count: int) -> Tensor:
        """Returns all `count` rows of a tensor on the CPU, of which each process gives its share."""
        return rows

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is true in any process."""
        return flag

    def on_first(self, work: Callable[[], Any]) -> Any:
        """Runs work in the first process alone; the others wait.

        Returns:
            its result in all processes; outside of the first one as JSON keeps it.

        Raises:
            RanksError: the work failed in the first process, which raises the error of the work.
        """
        return work()

    def bytes_of_first(self, work: Callable[[], bytes]) -> bytes:
        """As `on_first`, for work that returns bytes."""
        return work()

    def check_same(self, values: Callable[[], Mapping[str, Any]]) -> None:
        """Raises RanksError in all processes where one has other values, of JSON's types, than the first."""


_current = Ranks()


def current() -> Ranks:
    """Returns the processes of this training."""
    return _current


def restarted() -> bool:
    """Returns whether torchrun has started this process again after a failure."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def launched() -> bool:
    """Returns whether torchrun, or another launcher with its environment variables, started this process."""
    return None not in (os.environ.get("RANK"), os.environ.get("WORLD_SIZE"))


@contextmanager
def started(device: str) -> Iterator[Ranks]:
    """Joins the processes that a launcher has started; without a launcher there is one process.

    The processes meet by torchrun's environment variables. They exchange gradients by NCCL on GPUs and by gloo on CPUs.
    An error in the block ends all of them: the first one that fails raises its error, and the others raise SystemExit.

    Args:
        device: "cpu" or "cuda"; process k of a machine takes GPU k.

    Raises:
        RanksError: the processes do not meet, or this one has no GPU.
    """
    global _current
    if not launched():
        yield _current
        return
    group = _Group(device)
    before, _current = _current, group
    try:
        yield group
    except BaseException as error:
        if not isinstance(error, SystemExit) and not group.fails_first():
            raise SystemExit(1) from None
        raise
    finally:
        _current = before
        group.leave()


class _Group(Ranks):
    """Several processes, by torch.distributed."""

    def __init__(self, device: str) -> None:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if device == "cuda":
            if local >= torch.cuda.device_count():
                raise RanksError(f"process {local} of this machine has no GPU: it has {torch.cuda.device_count()}")
            torch.cuda.set_device(local)
        backend = "nccl" if device == "cuda" else "gloo"
        try:
            store, self.rank, self.count = next(iter(dist.rendezvous("env://", timeout=STEP_TIMEOUT)))  # type: ignore[attr-defined]
            # torchrun keeps the store when it starts the processes again: names of their own for each start.
            prefixed = dist.PrefixStore  # type: ignore[attr-defined]
            restart = prefixed(f"aligndraw-{os.environ.get('TORCHELASTIC_RESTART_COUNT')}-{self.count}", store)
            self._store = prefixed(str((restart.add("processes", 1) - 1) // self.count), restart)
            dist.init_process_group(
                backend, store=self._store, rank=self.rank, world_size=self.count, timeout=STEP_TIMEOUT
            )
            # Of the hosts: decisions and small messages, which wait for the first process's work.
            self._hosts = dist.new_group(backend="gloo", timeout=FIRST_TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise RanksError(f"the processes of this training do not meet: {_first_sentence(error)}") from error
        self._failed: bool | None = None

    def dropout(self, count: int, times: int = 1) -> AbstractContextManager[object]:
        own = self.rows(count)
        return _WholeDropout([batch * count + row for batch in range(times) for row in own], times * count)

    def summed(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        marks = mark(torch._foreach_norm(list(tensors)), self.rank, self.count)
        total = torch.cat([*(tensor.flatten() for tensor in tensors), marks.to(tensors[0])])
        with self.waiting():
            dist.all_reduce(total)
        *sums, marks = split(total, [*tensors, marks])
        return sums, marks

    def exchange(self, model: nn.Module) -> GradientExchange:
        return GroupExchange(model, self.rank, self.count, self.waiting)

    def joined(self, rows: Tensor, count: int) -> Tensor:
        whole = rows.new_zeros((count, *rows.shape[1:]), device="cpu")
        own = self.rows(count)
        whole[own.start : own.stop] = rows
        with self.waiting():
            dist.all_reduce(whole, group=self._hosts)
        return whole

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([flag], dtype=torch.uint8)
        with self.waiting():
            dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._hosts)
        return bool(flags.item())

    def on_first(self, work: Callable[[], Any]) -> Any:
        result: list[Any] = []

        def encoded() -> bytes:
            result.append(work())
            return json.dumps(result[0]).encode()

        message = self.bytes_of_first(encoded)
        return result[0] if self.first else json.loads(message)

    def bytes_of_first(self, work: Callable[[], bytes]) -> bytes:
        if not self.first:
            return self._broadcast(None)
        try:
            message = work()
        except BaseException:
            self.fails_first()  # before the others learn of it
            self._broadcast(None)
            raise
        return self._broadcast(message)

    def _broadcast(self, message: bytes | None) -> bytes:
        """Returns the first process's message in all; None there says that its work failed."""
        size = torch.tensor([-1 if message is None else len(message)])
        with self.waiting():
            dist.broadcast(size, 0, group=self._hosts)
            if size < 0:
                if self.first:
                    return b""
                raise RanksError("the first process of this training has failed")
            content = torch.empty(int(size), dtype=torch.uint8)
            if message:
                content.copy_(torch.frombuffer(bytearray(message), dtype=torch.uint8))
            dist.broadcast(content, 0, group=self._hosts)
        return content.numpy().tobytes() if message is None else message

    def check_same(self, values: Callable[[], Mapping[str, Any]]) -> None:
        own = dict(values())
        firsts = json.loads(self.bytes_of_first(json.dumps(own).encode))
        other = [name for name in {**firsts, **own} if firsts.get(name) != own.get(name)]
        if other:
            self.fails_first()  # before the others learn of it
        if self.any(bool(other)):
            name = other[0] if other else "settings"
            both = f"process {self.rank} has {own.get(name)}, process 0 has {firsts.get(name)}"
            raise RanksError(f"all processes must have the same {name}: {shorten(both, 200)}")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Turns an error of torch.distributed in the block into a RanksError."""
        try:
            yield
        except RuntimeError as error:
            raise RanksError(
                f"another process of this training has ended or does not answer: {_first_sentence(error)}"
            ) from error

    def fails_first(self) -> bool:
        """Returns whether this process is the first one to fail, by the store in which the processes met."""
        if self._failed is None:
            try:
                self._failed = self._store.add("failed", 1) == 1
            except RuntimeError:  # the store's process has ended too
                self._failed = True
        return self._failed

    def leave(self) -> None:
        """Ends the exchange, and its threads: one that outlives Python's interpreter may abort the process."""
        dist.destroy_process_group()
        del self._hosts, self._store  # the last references


class _WholeDropout(TorchFunctionMode):
    """Draws the masks of dropout for whole batches, and applies their rows."""

    def __init__(self, rows: list[int], count: int) -> None:
        super().__init__()
        self._rows, self._count = rows, count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.dropout:
            return func(*args, **(kwargs or {}))
        mask = func(args[0].new_ones((self._count, *args[0].shape[1:])), *args[1:], **(kwargs or {}))
        return args[0] * mask[self._rows]


def _first_sentence(error: Exception) -> str:
    """Returns the first sentence of an error of torch.distributed, without the place in its source."""
    line = str(error).strip().splitlines()[0]
    return re.sub(r"^\[\S+\] ", "", line).split(". ")[0]
