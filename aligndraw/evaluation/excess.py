"""The excess of held-out placements: their cost beyond the cost of their digits and wording. docs/evaluation.md.

Held-out placements have more pictures of two digits than seen ones, and other digits. These two causes alone make their
bound higher; the excess leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from aligndraw.data import STRICT, Bans, Digits, Examples, MNISTCaptions, all_placements, is_held_out
from aligndraw.data.mnist_captions import Split
from aligndraw.evaluation.bound import Estimate, each_bound
from aligndraw.model import Model


@dataclass(frozen=True)
class Excess:
    """Measured less expected costs: means over pictures of held-out placements, in nats per picture."""

    kl: Estimate
    nll: Estimate
    bound: Estimate

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """Returns plain numbers, ready for JSON."""
        return {name: estimate.to_dict() for name, estimate in vars(self).items()}


def score_excess(
    model: Model,
    digits: Digits,
    split: Split = "validation",
    n: int = 4,
    seed: int = 0,
    *,
    read: Callable[[Examples], Examples] = lambda examples: examples,
    bans: Bans = STRICT,
    batch_size: int = 100,
    on_batch: Callable[[int], object] = lambda pictures: None,
) -> Mapping[str, Excess]:
    """Returns the excess of "one_digit" and "two_digits" placements, where bans hold some out.

    Measures the bound on n pictures of each placement, 2n where it has one digit. Least squares on the seen placements
    models the cost as a sum of three numbers, of template, digit a and digit b. This sum is the expected cost of a
    held-out placement. The standard errors are those of the choice of held-out pictures.

    Args:
        model: of grey pictures of 60 x 60 pixels, on any device.
        digits: the digits that it was trained with.
        split: of the digits.
        n: pictures per placement.
        seed: of the pictures and of the noise.
        read: converts examples with word ids to the form that the model takes.
        bans: the rule of held-out placements.
        batch_size: pictures per batch.
        on_batch: called with the number of pictures just done.

    Raises:
        ValueError: n is below 1, the split lacks a digit, or the bans leave a held-out digit seen nowhere.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    placements = excess_placements(n)
    examples = read(MNISTCaptions(digits, split, bans=bans).for_placements(placements, seed))
    parts = []
    for part in each_bound(model, examples, seed=seed, batch_size=batch_size):
        parts.append(torch.stack([part.kl, part.nll, part.kl + part.nll], 1))
        on_batch(len(part.kl))
    return excess_of(torch.cat(parts).double().cpu().numpy(), placements, bans)


def excess_placements(n: int) -> list[tuple[int, int, int]]:
    """Returns the placements of the pictures that `score_excess` measures, with repetitions."""
    return [placement for placement in all_placements() for _ in range(n if placement[2] >= 0 else 2 * n)]


def excess_of(
    measured: NDArray[np.float64], placements: list[tuple[int, int, int]], bans: Bans
) -> Mapping[str, Excess]:
    """Returns the excess of KL, NLL and bound [P, 3], measured on pictures of P placements."""
    template, a, b = np.array(placements).T
    two, held_out = b >= 0, is_held_out(template, a, b, bans)
    pictures = np.arange(len(template))
    terms = np.zeros((len(template), 28))  # 8 templates, 10 digits a, 10 digits b
    terms[pictures, template] = 1
    terms[pictures, 8 + a] = 1
    terms[pictures[two], 18 + b[two]] = 1
    found = {}
    for name, group in (("one_digit", ~two), ("two_digits", two)):
        selected = group & held_out
        if not selected.any():
            continue
        seen = terms[group & ~held_out]
        costs, _, rank, _ = np.linalg.lstsq(seen, measured[group & ~held_out], rcond=None)
        if np.linalg.matrix_rank(np.concatenate([seen, terms[selected]])) > rank:
            raise ValueError(f"bans must leave each digit seen in some template, got {bans.name}: {list(bans.slots)}")
        beyond = torch.from_numpy(measured[selected] - terms[selected] @ costs)
        found[name] = Excess(*(Estimate.of(column) for column in beyond.unbind(1)))
    return found
