"""The interface of all trainers: updates, and a state from which training resumes as if it had never stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from aligndraw.training.guards import NotFinite
from aligndraw.training.ranks import current


class Update(Protocol):
    """One update of a trainer."""

    @property
    def index(self) -> int:
        """From 0."""

    def numbers(self) -> dict[str, float]:
        """Returns the line of `metrics.jsonl`, without the number of the update."""


_U = TypeVar("_U", bound=Update, covariant=True)


class Resumable(ABC, Generic[_U]):
    """A trainer: parameters, optimizer state and the number of finished updates.

    Attributes:
        average: an exponential moving average of the parameters, by name; empty without one.
        auxiliary: a network trained beside the model by plain gradient descent, without optimizer state; or None.
        index: the number of updates done.
        precision: of large products and convolutions, "float32", "tf32" or "bf16".
        updates_in_flight: the number of updates that may run before the metrics of the oldest are read.
        SHARED: true for a trainer whose updates several processes can share.

    Raises:
        ValueError: there are several processes, and the trainer is for one.
    """

    updates_in_flight = 0
    SHARED: ClassVar[bool] = False

    def __init__(self, model: nn.Module, optimizer: Optimizer, precision: str = "float32") -> None:
        self.ranks = current()
        if self.ranks.count > 1 and not self.SHARED:
            raise ValueError(f"this training runs in one process, got {self.ranks.count}: start it without torchrun")
        self.model, self.optimizer, self.precision = model, optimizer, precision
        self.average: dict[str, Tensor] = {}
        self.auxiliary: nn.Module | None = None
        self.index = 0

    @property
    @abstractmethod
    def updates_per_epoch(self) -> int: ...

    @property
    @abstractmethod
    def total(self) -> int:
        """Updates in the whole training."""

    @abstractmethod
    def update(self) -> _U:
        """Runs one update.

        Raises:
            aligndraw.training.guards.NotFinite: a loss, a gradient or a parameter is not finite. Where it is no
                parameter, the trainer keeps its state.
        """

    def batch_name(self, index: int) -> str:
        """Returns which examples an update reads, for a message about it."""
        epoch, position = divmod(index, self.updates_per_epoch)
        return f"batch {position + 1} of epoch {epoch + 1}"

    def launch(self) -> Callable[[], _U]:
        """Starts one update; returns a function that waits for it. Errors are those of `update`."""
        update = self.update()
        return lambda: update

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Restores the state of before where the block raises NotFinite, for an update of several steps."""
        before = deepcopy(self.state_dict())
        try:
            yield
        except NotFinite:
            self.load_state_dict(before)
            raise

    def state_dict(self) -> dict[str, Any]:
        """Returns parameters, their average, the auxiliary network, optimizer state and the number of updates done."""
        return {
            "index": self.index,
            "model": self.model.state_dict(),
            "average": self.average,
            "auxiliary": {} if self.auxiliary is None else self.auxiliary.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a `state_dict`; the next update is then the one that followed it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(state["auxiliary"])
        self.index = state["index"]
