"""Guards against numbers that are not finite: what a trainer checks in each update, and how it says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

NAMED = 8  # examples of a batch that a message lists


class NotFinite(FloatingPointError):
    """A loss, a gradient or a parameter of an update is not finite. All processes of a training raise it together.

    Args:
        what: "loss", "gradient" or "parameter"; more words may follow.
        index: of the update, from 0.
        batch: its examples, for the message.
        measured: figures of the update, for the message.
        option: that makes the steps smaller.
        marks: of the processes that share the training, for the message: above 0 for a process whose numbers are not
            finite, before their sum with those of the others. Empty in a single process.

    Attributes:
        index: of the update, from 0.
        skippable: whether the parameters are still finite, so that a training can go on with the next update.
    """

    def __init__(
        self,
        what: str,
        index: int,
        batch: str,
        measured: str,
        option: str = "learning_rate",
        marks: Sequence[float] = (),
    ) -> None:
        marked = [str(rank) for rank, mark in enumerate(marks) if mark > 0]
        place = f", in process{'es' * (len(marked) > 1)} {', '.join(marked)}" if marked else ""
        fault = f"the {what} of update {index + 1} is not finite ({measured}) on {batch}{place}"
        super().__init__(f"{fault}: lower {option}")
        self.index, self.skippable = index, not what.startswith("parameter")


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Returns whether all numbers of floating-point tensors are finite, by one look at the device."""
    norms = torch._foreach_norm([t.detach() for t in tensors])
    return not norms or bool(torch.stack(norms).isfinite().all())


def check_finite(
    tensors: Iterable[Tensor],
    loss: Tensor,
    index: int,
    batch: str,
    what: str = "gradient",
    option: str = "learning_rate",
    marks: Tensor | None = None,
) -> None:
    """Raises NotFinite where the loss of an update, or one of its tensors, is not finite.

    Args:
        tensors: the gradients, or the parameters after the step. They and the loss are those of all processes together.
        what: the name of the tensors.
        index, batch, option, marks: as for `NotFinite`.
    """
    if not loss.isfinite():
        what = what.replace("gradient", "loss")
    elif all_finite(tensors):
        return
    raise NotFinite(what, index, batch, f"loss {loss.item():g}", option, () if marks is None else marks.tolist())


@contextmanager
def kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Restores tensors, such as the statistics of batch normalisation, where the block raises."""
    present = [tensor.detach() for tensor in tensors]
    before = [tensor.clone() for tensor in present]
    try:
        yield
    except BaseException:
        for tensor, value in zip(present, before):
            tensor.copy_(value)
        raise


def listed(kind: str, numbers: Sequence[int]) -> str:
    """Returns a kind of examples with the first of their numbers, each once: "images 3, 7 and 12 more (from 0)"."""
    found = list(dict.fromkeys(numbers))
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{kind} {', '.join(map(str, found[:NAMED]))}{more} (from 0)"
