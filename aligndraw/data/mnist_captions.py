"""MNIST with captions (alignDRAW, appendix A): one or two digits on a 60x60 canvas.

Each epoch draws template, digits and offsets by the rule of the paper's authors: the template uniformly from eight,
both digits uniformly from the split, and all of them again until the placement is of the wanted kind. The digits of a
template stand at *places* (`PLACES`).

A placement is **held out** if it shows a digit that its template bans (`Bans`): a model must then combine a known digit
with a known place. See docs/data.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from aligndraw.arguments import check_int, check_seed
from aligndraw.data.compositing import composite, composite_tensors
from aligndraw.data.digits import Digits
from aligndraw.text import Vocabulary

CANVAS = 60
Split = Literal["train", "validation", "test"]
Placements = Literal["seen", "held_out"]

# The last 2,000 digits are never trained on.
SPLITS = {
    "train": slice(None, -2000),
    "validation": slice(-2000, -1000),
    "test": slice(-1000, None),
}

_WORDS = "0 1 2 3 4 5 6 7 8 9 the digit is on at left right bottom top of image ."
VOCABULARY = Vocabulary(tuple(_WORDS.split()))
_DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Place(NamedTuple):
    """The positions of a digit at a place: inclusive ranges of its top row and left column in pixels."""

    rows: tuple[int, int]
    columns: tuple[int, int]


PLACES = {
    "left": Place((16, 18), (0, 4)),
    "right": Place((16, 18), (28, 32)),
    "top": Place((0, 2), (16, 18)),
    "bottom": Place((30, 32), (16, 18)),
    "top left": Place((0, 2), (0, 4)),
    "bottom right": Place((30, 32), (28, 32)),
    "top right": Place((0, 2), (28, 32)),
    "bottom left": Place((30, 32), (0, 4)),
}


class Template(NamedTuple):
    """A sentence about digit a and, where it has a second place, digit b."""

    sentence: str
    first: str  # the place of a
    second: str | None = None  # the place of b


TEMPLATES = (
    Template("the digit {a} is on the left of the digit {b} .", "left", "right"),
    Template("the digit {b} is on the right of the digit {a} .", "left", "right"),
    Template("the digit {a} is at the top of the digit {b} .", "top", "bottom"),
    Template("the digit {b} is at the bottom of the digit {a} .", "top", "bottom"),
    Template("the digit {a} is at the top left of the image .", "top left"),
    Template("the digit {a} is at the bottom right of the image .", "bottom right"),
    Template("the digit {a} is at the top right of the image .", "top right"),
    Template("the digit {a} is at the bottom left of the image .", "bottom left"),
)

_NO_PLACE = Place((0, 0), (0, 0))
_WHERE = [(PLACES[t.first], PLACES[t.second] if t.second else _NO_PLACE) for t in TEMPLATES]
_ROWS = np.array([[place.rows for place in pair] for pair in _WHERE])  # [8, 2, (first, last)]
_COLUMNS = np.array([[place.columns for place in pair] for pair in _WHERE])
_TWO_DIGITS = np.array([t.second is not None for t in TEMPLATES])  # [8]
# Two digits side by side share their row, two stacked digits their column.
_SAME_ROW = (_ROWS[:, 0] == _ROWS[:, 1]).all(1) & _TWO_DIGITS
_SAME_COLUMN = (_COLUMNS[:, 0] == _COLUMNS[:, 1]).all(1) & _TWO_DIGITS


@dataclass(frozen=True)
class Bans:
    """The digits that training never shows, by template.

    Attributes:
        name: its key in `BANS`.
        slots: the authors' twelve: the banned a and b of templates 0 to 3, then the banned a of templates 4 to 7;
            10 bans nothing.
    """

    name: str
    slots: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.slots) != 12 or not all(0 <= digit <= 10 for digit in self.slots):
            raise ValueError(f"slots must be 12 numbers in 0…10, got {list(self.slots)}")

    @classmethod
    def at_places(cls, name: str, *digits: int) -> Bans:
        """Returns one banned digit per place, in the order of `PLACES`; both wordings of a picture share their bans."""
        left, right, top, bottom, *corners = digits
        return cls(name, (left, right, left, right, top, bottom, top, bottom, *corners))

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """The banned a and b of each template [8, 2], 10 for none."""
        pairs, corners = self.slots[:8], self.slots[8:]
        return np.array([*zip(pairs[::2], pairs[1::2]), *((digit, 10) for digit in corners)])


# The sets of one digit per place ban different digits at each place: they add 3, 5 or 7, modulo 10, to those of the
# first. "authors" is one draw of the authors' rule, np.random.default_rng(0).integers(11, size=12).
_BANS = (
    Bans.at_places("strict", 2, 5, 8, 3, 6, 4, 1, 9),
    Bans("authors", (9, 7, 5, 2, 3, 0, 0, 0, 1, 8, 7, 10)),
    Bans.at_places("sifting", 7, 0, 3, 8, 1, 9, 6, 4),
    Bans.at_places("rotated-3", 5, 8, 1, 6, 9, 7, 4, 2),
    Bans.at_places("rotated-7", 9, 2, 5, 0, 3, 1, 8, 6),
)
BANS = {bans.name: bans for bans in _BANS}
STRICT = BANS["strict"]


def bans_named(name: str) -> Bans:
    """Returns the bans of a name. Raises ValueError where there are none."""
    _check_choice("bans", name, tuple(BANS))
    return BANS[name]


def caption(template: int, a: int, b: int = -1, words: bool = False) -> str:
    """Returns the caption of a placement, its words separated by spaces.

    Args:
        template: 0…7, a position in `TEMPLATES`.
        a: the first digit.
        b: the second digit, -1 for a template of one digit.
        words: "seven" instead of "7".
    """
    _check_placement(template, a, b)
    names = _DIGIT_WORDS if words else VOCABULARY.words
    return TEMPLATES[template].sentence.format(a=names[a], b=names[b])


def is_held_out(template: ArrayLike, a: ArrayLike, b: ArrayLike = -1, bans: Bans = STRICT) -> NDArray[np.bool_]:
    """Returns whether placements are kept out of training; arguments as in `caption`, or arrays [n]."""
    _check_placement(template, a, b)
    banned = bans.table[np.asarray(template)]
    return np.asarray(np.equal(a, banned[..., 0]) | np.equal(b, banned[..., 1]))


def all_placements(placements: Placements | Literal["all"] = "all", bans: Bans = STRICT) -> list[tuple[int, int, int]]:
    """Returns every (template, a, b), with b = -1 for none: under the strict bans 360 seen and 80 held out."""
    _check_choice("placements", placements, ("seen", "held_out", "all"))
    return [
        (k, a, b)
        for k, template in enumerate(TEMPLATES)
        for a in range(10)
        for b in (range(10) if template.second else (-1,))
        if placements == "all" or is_held_out(k, a, b, bans) == (placements == "held_out")
    ]


def all_captions(
    placements: Placements | Literal["all"] = "all", words: bool = False, bans: Bans = STRICT
) -> list[str]:
    """Returns the captions of `all_placements(placements, bans)`, in its order."""
    return [caption(*placement, words=words) for placement in all_placements(placements, bans)]


@cache
def _caption_ids() -> NDArray[np.int64]:
    """Returns word ids by template, a and b [8, 10, 11, 12]; b = -1 counts from the end."""
    ids = np.zeros((len(TEMPLATES), 10, 11, 12), np.int64)
    for placement in all_placements():
        ids[placement] = VOCABULARY.encode(caption(*placement))
    return ids


@dataclass(frozen=True, eq=False)
class MNISTExamples:
    """n pictures with captions, composed batch by batch.

    Args:
        images: uint8 [·, 28, 28], indexed by `digits`.
        template: int64 [n].
        digits: int64 [n, 2], -1 for no second digit.
        labels: int64 [n, 2], the digits shown, -1 for none.
        rows: int64 [n, 2], top rows in pixels.
        columns: int64 [n, 2], left columns.
    """

    images: NDArray[np.uint8]
    template: NDArray[np.int64]
    digits: NDArray[np.int64]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.template)

    def batch(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Returns pictures uint8 [B, 1, 60, 60], word ids int64 [B, 12] and lengths int64 [B], all 12."""
        digits, rows, columns = self.parts(index)
        first, second = (np.ascontiguousarray(digits[:, which]) for which in (0, 1))
        pictures = composite(self.images, first, second, rows, columns, CANVAS, CANVAS)
        return pictures[:, None], *self.texts(index)

    def texts(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns word ids int64 [B, 12] and lengths int64 [B], all 12."""
        labels = self.labels[index]
        words = _caption_ids()[self.template[index], labels[:, 0], labels[:, 1]]
        return words, np.full(len(words), words.shape[1])

    def parts(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """As `Resident.parts`: digits, rows and columns, int64 [B, 2]."""
        return tuple(np.ascontiguousarray(x[index]) for x in (self.digits, self.rows, self.columns))

    @staticmethod
    def compose(images: Tensor, *parts: Tensor) -> Tensor:
        """As `Resident.compose`."""
        digits, rows, columns = parts
        return composite_tensors(images, digits, rows, columns, CANVAS, CANVAS)[:, None]

    def captions(self, index: slice = slice(None)) -> list[str]:
        """Returns the captions as text."""
        pairs = zip(self.template[index].tolist(), self.labels[index].tolist(), strict=True)
        return [caption(k, a, b) for k, (a, b) in pairs]


class MNISTCaptions:
    """A source of examples: one split of the digits, one kind of placement.

    Args:
        digits: more than 2,000; the last 2,000 are never in "train".
        split: "train", "validation" (1,000 digits) or "test" (1,000 digits).
        placements: "seen", the placements to train on, or "held_out".
        bans: the rule of held-out placements.
    """

    vocabulary = VOCABULARY

    def __init__(
        self, digits: Digits, split: Split = "train", placements: Placements = "seen", bans: Bans = STRICT
    ) -> None:
        _check_choice("split", split, get_args(Split))
        _check_choice("placements", placements, get_args(Placements))
        if len(digits) <= 2000:
            raise ValueError(
                f"digits must number more than 2000, the last 2000 being kept from training, got {len(digits)}"
            )
        self.digits = digits
        self.split = split
        self.placements = placements
        self.bans = bans
        self._range = SPLITS[split].indices(len(digits))[:2]
        present = {-1, *digits.labels[SPLITS[split]].tolist()}
        if not any({a, b} <= present for _, a, b in all_placements(placements, bans)):
            raise ValueError(
                f"digits must allow a {placements} placement, "
                f"got only the labels {sorted(present - {-1})} in split {split!r}"
            )

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> MNISTExamples:
        """Returns `size` examples, fully determined by (seed, epoch) and the digits."""
        check_seed(seed)
        check_int("epoch", epoch, 0)
        check_int("size", size, 1)
        rng = np.random.default_rng([seed, epoch])
        template, digits, labels = self._draw_placements(rng, size)
        return MNISTExamples(self.digits.images, template, digits, labels, *_draw_offsets(rng, template))

    def for_placements(self, placements: Sequence[tuple[int, int, int]], seed: int = 0) -> MNISTExamples:
        """Returns one example per placement, with random digits of the split.

        Args:
            placements: triples of template, a and b, held out or not.
            seed: of the digits and of their positions.

        Raises:
            ValueError: there is no such placement, or the split has no such digit.
        """
        template, *wanted = np.array(placements, dtype=np.int64).reshape(-1, 3).T
        _check_placement(template, *wanted)
        rng = np.random.default_rng(seed)
        labels = np.stack(wanted, 1)
        digits = np.full_like(labels, -1)
        present = self.digits.labels[slice(*self._range)]
        for label in np.unique(labels[labels >= 0]):
            found = np.flatnonzero(present == label) + self._range[0]
            if not len(found):
                raise ValueError(f"digits must have a {label} in split {self.split!r}, got none")
            digits[labels == label] = rng.choice(found, int((labels == label).sum()))
        return MNISTExamples(self.digits.images, template, digits, labels, *_draw_offsets(rng, template))

    def all_captions(self) -> list[str]:
        """Returns the captions of all placements that an epoch may hold."""
        return all_captions(self.placements, bans=self.bans)

    def _draw_placements(
        self, rng: np.random.Generator, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns templates [n], digits [n, 2] and labels [n, 2], by rejection of whole draws."""
        drawn: list[NDArray[np.int64]] = []
        missing = size
        while missing > 0:
            template = rng.integers(len(TEMPLATES), size=size)
            digits = rng.integers(*self._range, size=(size, 2))
            labels = self.digits.labels[digits].astype(np.int64)
            one = ~_TWO_DIGITS[template]
            digits[one, 1] = labels[one, 1] = -1
            held_out = is_held_out(template, labels[:, 0], labels[:, 1], self.bans)
            kept = held_out == (self.placements == "held_out")
            drawn.append(np.column_stack([template, digits, labels])[kept])
            missing -= len(drawn[-1])
        template, digits, labels = np.split(np.concatenate(drawn)[:size], [1, 3], axis=1)
        return template[:, 0], digits, labels


def _draw_offsets(rng: np.random.Generator, template: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns top rows and left columns [n, 2] for templates [n]."""
    rows, columns = (rng.integers(x[template, :, 0], x[template, :, 1], endpoint=True) for x in (_ROWS, _COLUMNS))
    for axis, same in ((rows, _SAME_ROW), (columns, _SAME_COLUMN)):
        axis[:, 1] = np.where(same[template], axis[:, 0], axis[:, 1])
    return rows, columns


def evaluation_sets(
    digits: Digits, split: Split = "test", seed: int = 0, size: int = 1000, bans: Bans = STRICT
) -> dict[str, MNISTExamples]:
    """Returns the fixed evaluation sets of `size` examples each: "seen" and "held_out"."""
    return {
        placements: MNISTCaptions(digits, split, placements, bans).epoch(seed, size=size)
        for placements in get_args(Placements)
    }


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _check_placement(template: ArrayLike, a: ArrayLike, b: ArrayLike) -> None:
    k, first, second = np.broadcast_arrays(template, a, b)
    for name, value, last in (("template", k, len(TEMPLATES) - 1), ("a", first, 9)):
        wrong = (value < 0) | (value > last)
        if wrong.any():
            raise ValueError(f"{name} must be in 0…{last}, got {value[wrong][0]}")
    two = _TWO_DIGITS[k]
    wrong = np.where(two, (second < 0) | (second > 9), second != -1)
    if wrong.any():
        rule = "in 0…9" if two[wrong][0] else "-1, for it speaks of one digit"
        raise ValueError(f"b of template {k[wrong][0]} must be {rule}, got {second[wrong][0]}")
