"""The outcomes of held-out digits: drawings of digits at places where training never showed them.

Docs/evaluation.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aligndraw.data import PLACES, TEMPLATES, Bans
from aligndraw.evaluation.reader import NOTHING

# The outcomes of a digit held out at its place; the first that applies counts.
OUTCOMES = {
    "right": "the digit at its place",
    "elsewhere": "the digit at another place",
    "another": "another digit, seen there in training",
    "unreadable": "no readable digit",
}


@dataclass(frozen=True)
class Confusion:
    """Readings at the places of held-out digits; a picture of two such digits counts twice.

    Attributes:
        outcomes: counts of `OUTCOMES`. "elsewhere": the digit is missing at its place and stands at a place that should
            not hold it. "another": the place holds another digit, which training has shown there, as bans keep one
            digit from a place of a template.
        instead: counts of readings, 0…9 or `NOTHING`, by place and held-out digit.
    """

    outcomes: Mapping[str, int]
    instead: Mapping[tuple[str, int], Mapping[int, int]]

    @property
    def count(self) -> int:
        """The number of held-out digits at their places."""
        return sum(self.outcomes.values())

    @classmethod
    def of(cls, readings: Tensor, placements: Sequence[tuple[int, int, int]], bans: Bans) -> Confusion:
        """Returns the confusion of a reader's readings.

        Args:
            readings: int64 [P, 8], of P pictures.
            placements: P triples of template, a and b, from the captions of the pictures.
            bans: the rule of held-out placements.
        """
        places = list(PLACES)
        outcomes = dict.fromkeys(OUTCOMES, 0)
        instead: dict[tuple[str, int], Counter[int]] = {}
        for (template, a, b), reading in zip(placements, readings.tolist()):
            named = _named(template, a, b)
            for (place, digit), banned in zip(named, bans.table[template]):
                if digit != banned:
                    continue
                found = reading[places.index(place)]
                if found == digit:
                    outcome = "right"
                elif any(held == digit and (at, digit) not in named for at, held in zip(places, reading)):
                    outcome = "elsewhere"
                elif found == NOTHING:
                    outcome = "unreadable"
                else:
                    outcome = "another"
                outcomes[outcome] += 1
                instead.setdefault((place, digit), Counter())[found] += 1
        return cls(outcomes, {key: dict(sorted(found.items())) for key, found in instead.items()})

    def __str__(self) -> str:
        """Returns the outcomes in per cent, and the most frequent readings of each place."""
        lines = ["  outcomes of held-out digits at their places, in per cent:"]
        lines += [
            f"    {text:<42}{100 * self.outcomes[outcome] / self.count:>6.1f}" for outcome, text in OUTCOMES.items()
        ]
        lines.append("  readings at these places, in per cent:")
        for (place, digit), found in self.instead.items():
            total = sum(found.values())
            commonest = sorted(found.items(), key=lambda item: -item[1])[:4]
            cells = (f"{'none' if held == NOTHING else held} {100 * times / total:.0f}" for held, times in commonest)
            lines.append(f"    {digit} at {place:<14}{', '.join(cells)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON.

        Keys of `instead` are as "2 at left", readings "0" to "9" or "none".
        """
        return {
            "outcomes": dict(self.outcomes),
            "instead": {
                f"{digit} at {place}": {"none" if held == NOTHING else str(held): n for held, n in found.items()}
                for (place, digit), found in self.instead.items()
            },
        }


def _named(template: int, a: int, b: int) -> list[tuple[str, int]]:
    """Returns the places that a caption names, each with its digit."""
    first, second = TEMPLATES[template].first, TEMPLATES[template].second
    return [(first, a)] if second is None else [(first, a), (second, b)]
