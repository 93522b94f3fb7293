"""Fidelity: the share of pictures that show their captions, by the digit reader.

A picture is *faithful* when every place that its caption names holds the named digit, and every other place is empty.
See docs/evaluation.md.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from aligndraw.arguments import check_int, check_seed
from aligndraw.data import (
    PLACES,
    STRICT,
    TEMPLATES,
    VOCABULARY,
    Bans,
    CaptionReader,
    Digits,
    MNISTCaptions,
    all_placements,
    as_images,
    caption,
    is_held_out,
)
from aligndraw.data.mnist_captions import CANVAS, Placements, Split
from aligndraw.evaluation.confusion import Confusion
from aligndraw.evaluation.reader import NOTHING, DigitReader
from aligndraw.model import Model
from aligndraw.noise import stream
from aligndraw.printable import counted
from aligndraw.text import Vocabulary

Placement = tuple[int, int, int]  # template, a, b, as `aligndraw.data.all_placements` gives them

GROUPS = {
    "all": "all captions",
    "one_digit": "one digit",
    "two_digits": "two digits",
    "seen": "seen placements",
    "seen_one_digit": "seen placements, one digit",
    "seen_two_digits": "seen placements, two digits",
    "held_out": "held-out placements",
    "held_out_one_digit": "held-out placements, one digit",
    "held_out_two_digits": "held-out placements, two digits",
}
# Groups of the same captions under all bans. The reader's record has accuracies under the strict bans alone.
_FREE_OF_BANS = ("all", "one_digit", "two_digits")


@dataclass(frozen=True)
class Share:
    """`hits` out of `count`."""

    hits: int
    count: int

    @property
    def mean(self) -> float:
        """p = hits / count; NaN for a count of 0."""
        return self.hits / self.count if self.count else math.nan

    @property
    def error(self) -> float:
        """The binomial standard error √(p (1 − p) / count): 0 where p is 0 or 1."""
        return math.sqrt(self.mean * (1 - self.mean) / self.count) if self.count else math.nan

    def __str__(self) -> str:
        """Returns mean ± error in per cent."""
        return f"{100 * self.mean:.1f} ± {100 * self.error:.1f}" if self.count else "–"

    def to_dict(self) -> dict[str, float | int | None]:
        """Returns plain numbers, ready for JSON: a NaN is None."""
        known = self.count > 0
        return {
            "mean": self.mean if known else None,
            "error": self.error if known else None,
            "hits": self.hits,
            "count": self.count,
        }


@dataclass(frozen=True)
class Fidelity:
    """How well pictures show their captions.

    Attributes:
        faithful: the share of faithful pictures, by group: the keys of `GROUPS`.
        places: by place, the share of pictures that show the digit which their caption names there.
        digits: by digit, the share of pictures that show it at the place which their caption names.
        empty: the share of places not named by captions that are empty.
        accuracy: the share of real pictures that the reader finds faithful, by group, which a perfect model would
            reach. Empty where the reader's record has none. Groups that depend on the bans are known under the strict
            ones alone.
        confusion: readings at the places of held-out digits.
    """

    faithful: Mapping[str, Share]
    places: Mapping[str, Share]
    digits: Mapping[str, Share]
    empty: Share
    accuracy: Mapping[str, Share]
    confusion: Confusion

    @classmethod
    def of(
        cls,
        readings: Tensor,
        placements: Sequence[Placement],
        record: Mapping[str, Any] | None = None,
        bans: Bans = STRICT,
    ) -> Fidelity:
        """Returns the fidelity of a reader's readings.

        Args:
            readings: int64 [P, 8], of P pictures.
            placements: P, from the captions of the pictures.
            record: of the reader (`DigitReader.record`).
            bans: the rule of held-out placements.

        Raises:
            ValueError: the numbers of readings and placements differ, or are 0.
        """
        if not placements or readings.shape != (len(placements), len(PLACES)):
            raise ValueError(
                f"readings must be [P, {len(PLACES)}] for P placements, P at least 1, "
                f"got {list(readings.shape)} for {len(placements)}"
            )
        wanted = torch.tensor([_wanted(*placement) for placement in placements])
        right, named = readings == wanted, wanted != NOTHING
        faithful = right.all(1)
        template, a, b = np.array(placements).T
        held_out, two = torch.from_numpy(is_held_out(template, a, b, bans)), torch.from_numpy(b >= 0)
        groups = {
            "all": torch.ones_like(two),
            "one_digit": ~two,
            "two_digits": two,
            "seen": ~held_out,
            "seen_one_digit": ~held_out & ~two,
            "seen_two_digits": ~held_out & two,
            "held_out": held_out,
            "held_out_one_digit": held_out & ~two,
            "held_out_two_digits": held_out & two,
        }
        accuracy = (record or {}).get("accuracy", {})
        return cls(
            faithful={group: _share(faithful, groups[group]) for group in GROUPS},
            places={place: _share(right[:, i], named[:, i]) for i, place in enumerate(PLACES)},
            digits={str(digit): _share(right, wanted == digit) for digit in range(10)},
            empty=_share(right, ~named),
            accuracy={
                group: Share(s["hits"], s["count"])
                for group, s in accuracy.items()
                if bans == STRICT or group in _FREE_OF_BANS
            },
            confusion=Confusion.of(readings, placements, bans),
        )

    def __str__(self) -> str:
        """Returns tables in per cent, with the shares of real pictures beside the model's."""
        lines = [f"  {'':<34}{'this model':>12}{'real pictures':>22}"]
        for group, text in GROUPS.items():
            real = self.accuracy.get(group, "unknown")
            lines.append(f"  {text:<34}{self.faithful[group]!s:>12}{real!s:>22}")
        lines.append("  real pictures: the shares of real pictures, as the digit reader reads them")
        lines.append("  named digits that stand at their place, by place and by digit:")
        for place, digit in zip_longest(self.places.items(), self.digits.items(), fillvalue=("", "")):
            lines.append(f"    {place[0]:<14}{place[1]!s:>12}{digit[0]:>8}{digit[1]!s:>14}")
        lines.append(f"  other places that are empty: {self.empty}")
        if self.confusion.count:
            lines.append(str(self.confusion))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        tables = ("faithful", "places", "digits", "accuracy")
        return {
            **{t: {k: v.to_dict() for k, v in getattr(self, t).items()} for t in tables},
            "empty": self.empty.to_dict(),
            "confusion": self.confusion.to_dict(),
        }


def _wanted(template: int, a: int, b: int) -> list[int]:
    """Returns the readings of the eight places in a faithful picture."""
    wanted = dict.fromkeys(PLACES, NOTHING)
    wanted[TEMPLATES[template].first] = a
    second = TEMPLATES[template].second
    if second is not None:
        wanted[second] = b
    return list(wanted.values())


def _share(hits: Tensor, among: Tensor) -> Share:
    return Share(int((hits & among).sum()), int(among.sum()))


def check_mnist_model(model: Model) -> None:
    """Raises ValueError unless the model is of pictures of MNIST with captions."""
    got = (model.config.channels, *model.config.image_size)
    if got != (1, CANVAS, CANVAS):
        raise ValueError(f"model must be of pictures [1, {CANVAS}, {CANVAS}] for MNIST with captions, got {list(got)}")


def score_fidelity(
    model: Model,
    captions: CaptionReader = VOCABULARY,
    placements: Placements | Literal["all"] = "all",
    n: int = 10,
    seed: int = 0,
    *,
    bans: Bans = STRICT,
    reader: DigitReader | None = None,
    batch_size: int = 100,
    on_batch: Callable[[int], object] = lambda pictures: None,
) -> Fidelity:
    """Draws n pictures of every caption of MNIST with captions and reads them.

    Picture i of a caption comes from a random stream of its own: it depends neither on n, nor on the other captions,
    nor on the batch size.

    Args:
        model: of grey pictures of 60 x 60 pixels, on any device.
        captions: the reader of captions, such as the model's vocabulary.
        placements: "seen", "held_out", or "all" 440.
        n: pictures per caption.
        seed: of the noise.
        bans: the rule of held-out placements.
        reader: on the model's device; by default the one that ships with the package.
        batch_size: pictures per batch.
        on_batch: called with the number of pictures just scored.

    Raises:
        ValueError: a number out of range; a model of other pictures; a vocabulary without one of the words.
    """
    for name, value in (("n", n), ("batch_size", batch_size)):
        check_int(name, value, 1)
    check_seed(seed)
    check_mnist_model(model)
    device = model.canvas.device
    if isinstance(captions, Vocabulary):
        captions.check_known(caption(*placement) for placement in all_placements(placements, bans))
    reader = reader or DigitReader.load().to(device)
    stream_of = {placement: i for i, placement in enumerate(all_placements())}
    jobs = [
        (placement, stream_of[placement] + len(stream_of) * i)
        for placement in all_placements(placements, bans)
        for i in range(n)
    ]
    # The language model of the released conventions mixes the captions of a batch.
    group_size = n if model.mixes_captions else batch_size
    readings = []
    for start in range(0, len(jobs), group_size):
        batch = jobs[start : start + group_size]
        ids, lengths = captions.encode_batch([caption(*placement) for placement, _ in batch])
        drawing = model.sample(ids.to(device), lengths.to(device), generator=[stream(seed, i) for _, i in batch])
        readings.append(reader.read(drawing.images.float()).cpu())
        on_batch(len(batch))
    return Fidelity.of(torch.cat(readings), [placement for placement, _ in jobs], reader.record, bans)


def score_reader(reader: DigitReader, digits: Digits, split: Split = "test", n: int = 10, seed: int = 0) -> Fidelity:
    """Returns the fidelity of n real pictures of every caption: the share that the reader reads right.

    Args:
        reader: on the CPU.
        digits: composed into the pictures.
        split: of the digits.
        n: pictures per caption.
        seed: of the choice of digits and of their offsets.

    Raises:
        ValueError: n or seed out of range, or a digit of which the split has too few.
    """
    check_int("n", n, 1)
    readings, shown = [], []
    for placements in get_args(Placements):
        # Enough for n pictures of a caption with a probability of 1/2,000 per draw.
        examples = MNISTCaptions(digits, split, placements).epoch(seed, size=2000 * (n + 10))
        found: dict[Placement, list[int]] = defaultdict(list)
        for i, (k, (a, b)) in enumerate(zip(examples.template.tolist(), examples.labels.tolist())):
            found[k, a, b].append(i)
        for placement in all_placements(placements):
            selected = found[placement][:n]
            if len(selected) < n:
                raise ValueError(
                    f"digits must have enough of each digit in the {split} split, "
                    f"got {len(selected)} of {counted(n, 'picture')} of {caption(*placement)!r}"
                )
            pictures, *_ = examples.batch(np.array(selected))
            readings.append(reader.read(as_images(torch.from_numpy(pictures))))
            shown += [placement] * n
    return Fidelity.of(torch.cat(readings), shown)
