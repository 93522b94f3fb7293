"""Scenes: 32x32 colour pictures of one object before a sky and a ground, with captions in several wordings.

Each epoch draws object, colour, sky, ground, size, side and flying uniformly, and all of them again until the
combination is of the wanted kind. A combination is **held out** if the object has the colour, or is at the place, that
`HELD_OUT` lists for it: no training picture shows it. See docs/data.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from aligndraw.arguments import check_int, check_seed
from aligndraw.data.painting import UNIT, paint
from aligndraw.data.ragged import ranges
from aligndraw.data.scene import ATTRIBUTES, COLOURS, GROUNDS, HELD_OUT, HORIZON, SIDE, SIDES, SIZES, SKIES, Scene
from aligndraw.data.scene_captions import EARLIER, VOCABULARY, caption
from aligndraw.data.sprites import OBJECTS, PAINTS, SCENERY, Shape
from aligndraw.text import Vocabulary

Split = Literal["train", "validation", "test"]
Combinations = Literal["seen", "held_out"]


_CHOICES = 10  # of `caption`
_OPTIONS = 5040  # each choice is below it; a multiple of every number of wordings
_JITTER = 12  # largest change of red, green and blue from the named colour


@dataclass(frozen=True, eq=False)
class SceneExamples:
    """n scenes with captions, painted batch by batch.

    L layers are painted over each other: light, other things in the sky, ground, shadow, object, surf.

    Args:
        attributes: int64 [n, 7], positions of a `Scene`'s values in `ATTRIBUTES`.
        choices: int64 [n, 10], the wording of each caption.
        rows: uint8 [n, 32, 3], the colours of sky and ground in each row of a picture.
        sprites: int64 [n, L], positions in `sprites.OBJECTS` followed by `sprites.SCENERY`.
        origins: float64 [n, L, 2], the position of a sprite's (0, 0), x before y, in pixels from the top left corner.
        scales: float64 [n, L, 2], pixels per unit of a sprite, to the right and down.
        colours: float64 [n, L, 3], the main colour of each sprite, 0 to 255.
        vocabulary: of the captions, `VOCABULARY` or `EARLIER`.
    """

    attributes: NDArray[np.int64]
    choices: NDArray[np.int64]
    rows: NDArray[np.uint8]
    sprites: NDArray[np.int64]
    origins: NDArray[np.float64]
    scales: NDArray[np.float64]
    colours: NDArray[np.float64]
    vocabulary: Vocabulary = VOCABULARY

    @classmethod
    def of(cls, scenes: Sequence[Scene], seed: int = 0) -> SceneExamples:
        """Returns pictures and captions of given scenes; the seed determines all that a scene leaves open."""
        for scene in scenes:
            for (name, values), value in zip(ATTRIBUTES.items(), scene):
                _check_choice(name, value, values)
        rows = [[values.index(value) for values, value in zip(ATTRIBUTES.values(), scene)] for scene in scenes]
        attributes = np.array(rows, np.int64).reshape(-1, len(ATTRIBUTES))
        return _compose(np.random.default_rng(seed), attributes)

    def __len__(self) -> int:
        return len(self.attributes)

    def batch(self, index: slice | NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Returns pictures uint8 [B, 3, 32, 32], word ids int64 [B, N] padded with 0, and lengths int64 [B]."""
        ids, lengths = self.vocabulary.encode_batch(self.captions(index))
        return self.pictures(index), ids.numpy(), lengths.numpy()

    def scenes(self, index: slice | NDArray[np.int64] = slice(None)) -> list[Scene]:
        """Returns the scenes."""
        return [
            Scene(*(values[i] for values, i in zip(ATTRIBUTES.values(), row)))
            for row in self.attributes[index].tolist()
        ]

    def captions(self, index: slice | NDArray[np.int64] = slice(None)) -> list[str]:
        """Returns the captions as text."""
        told = zip(self.scenes(index), self.choices[index].tolist())
        return [caption(*both, earlier=self.vocabulary == EARLIER) for both in told]

    def in_words(self, vocabulary: Vocabulary) -> SceneExamples:
        """Returns the same pictures with captions in the words of `VOCABULARY` or `EARLIER`."""
        return dataclasses.replace(self, vocabulary=vocabulary)

    def reworded(self, seed: int) -> SceneExamples:
        """Returns the same pictures with captions in other words."""
        choices = np.random.default_rng(seed).integers(0, _OPTIONS, self.choices.shape)
        return dataclasses.replace(self, choices=choices)

    def pictures(self, index: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns pictures uint8 [B, 3, 32, 32] of a slice or of positions."""
        # One array each for the sprites, shapes and points of all pictures.
        table, sprite = _sprites(), self.sprites[index].reshape(-1)
        number = np.diff(table.first_shape)[sprite]
        shape = ranges(table.first_shape[sprite], number)
        layer = np.arange(len(sprite)).repeat(number)
        corners = np.diff(table.first_point)[shape]
        point = ranges(table.first_point[shape], corners)
        origin, scale = (a[index].reshape(-1, 2)[layer.repeat(corners)] for a in (self.origins, self.scales))
        axes = table.is_axes[point][:, None]
        places = np.where(axes, abs(scale), scale) * table.points[point] + np.where(axes, 0, origin)
        main = self.colours[index].reshape(-1, 3)[layer]
        paint_number = table.paint[shape][:, None]
        colours = np.select(
            [paint_number == 0, paint_number == 1, paint_number == 2],
            [main, 0.55 * main, 0.55 * main + 0.45 * 255],
            _PAINTS[paint_number[:, 0]],
        )
        pictures: NDArray[np.uint8] = paint(
            np.ascontiguousarray(self.rows[index]),
            np.rint(places * UNIT).astype(np.int16),
            np.column_stack([layer // self.sprites.shape[1], np.cumsum(corners) - corners, corners]),
            np.rint(colours).astype(np.uint8),
            SIDE,
        )
        return pictures


class Scenes:
    """A source of examples: one split, one kind of combination.

    Args:
        split: "train", "validation" or "test", which differ in their random draws alone.
        combinations: "seen", those to train on, or "held_out".
        vocabulary: of the captions, `VOCABULARY` or `EARLIER`.
    """

    vocabulary = VOCABULARY

    def __init__(
        self, split: Split = "train", combinations: Combinations = "seen", vocabulary: Vocabulary = VOCABULARY
    ) -> None:
        _check_choice("split", split, get_args(Split))
        _check_choice("combinations", combinations, get_args(Combinations))
        self.split, self.combinations, self.vocabulary = split, combinations, vocabulary

    def epoch(self, seed: int, epoch: int = 0, size: int = 10_000) -> SceneExamples:
        """Returns `size` examples, fully determined by (seed, epoch) and the split."""
        check_seed(seed)
        check_int("epoch", epoch, 0)
        check_int("size", size, 1)
        rng = np.random.default_rng([get_args(Split).index(self.split), seed, epoch])
        attributes = self._draw_attributes(rng, size)
        return _compose(rng, attributes).in_words(self.vocabulary)

    def all_captions(self) -> None:
        """Returns None: there are too many to list."""

    def _draw_attributes(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """Returns attributes [size, 7], by rejection of whole draws."""
        drawn: list[NDArray[np.int64]] = []
        missing = size
        while missing > 0:
            attributes = rng.integers(0, [len(values) for values in ATTRIBUTES.values()], (size, len(ATTRIBUTES)))
            held_out = np.any(list(new_to_objects(attributes).values()), 0)
            drawn.append(attributes[held_out == (self.combinations == "held_out")])
            missing -= len(drawn[-1])
        return np.concatenate(drawn)[:size]


def evaluation_scenes(split: Split = "test", seed: int = 0, size: int = 1000) -> dict[str, SceneExamples]:
    """Returns the fixed evaluation sets of `size` examples each: "seen" and "held_out"."""
    return {kind: Scenes(split, kind).epoch(seed, size=size) for kind in get_args(Combinations)}


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


_PAINTS = np.array(list(PAINTS.values()), np.float64)


def new_to_objects(attributes: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Returns where scenes, attributes [n, 7], hold a "colour", a "ground" or a "sky" that training never shows.

    Each is bool [n], and a matter of the object. "sky": the object flies. A colour and a place may both be new.
    """
    places = (*GROUNDS, "sky")
    pairs = (HELD_OUT[name] for name in OBJECTS)
    banned = np.array([(list(COLOURS).index(colour), places.index(place)) for colour, place in pairs])
    object_, colour, _, ground, _, _, flying = attributes.T
    place = np.where(flying, places.index("sky"), ground)
    new_place = place == banned[object_, 1]
    return {
        "colour": colour == banned[object_, 0],
        "ground": new_place & (flying == 0),
        "sky": new_place & (flying == 1),
    }


class _Sprites(NamedTuple):
    """All sprites as tables: the shapes of each sprite, the points of each shape, and the points."""

    numbers: dict[str, int]
    heights: NDArray[np.float64]  # of the objects
    first_shape: NDArray[np.int64]  # [sprites + 1]
    first_point: NDArray[np.int64]  # [shapes + 1]
    paint: NDArray[np.int64]  # [shapes], a position in PAINTS
    points: NDArray[np.float64]  # [points, 2], y down
    is_axes: NDArray[np.bool_]  # [points]: true for the half axes of an ellipse


@cache
def _sprites() -> _Sprites:
    table = {**OBJECTS, **SCENERY}
    shapes = [shape for sprite in table.values() for shape in sprite]
    number = [len(points) for _, points in shapes]
    is_axes = [count == 2 and i == 1 for count in number for i in range(count)]
    points = np.array([point for _, points in shapes for point in points])
    points[:, 1] *= np.where(is_axes, 1, -1)
    return _Sprites(
        {name: i for i, name in enumerate(table)},
        np.array([max(map(_top, sprite)) for sprite in OBJECTS.values()]),
        np.cumsum([0, *map(len, table.values())]),
        np.cumsum([0, *number]),
        np.array([list(PAINTS).index(paint) for paint, _ in shapes]),
        points,
        np.array(is_axes),
    )


def _top(shape: Shape) -> float:
    """Returns the height of the top of a shape."""
    heights = [y for _, y in shape.points]
    return sum(heights) if len(heights) == 2 else max(heights)


def _compose(rng: np.random.Generator, attributes: NDArray[np.int64]) -> SceneExamples:
    """Draws all that the attributes leave open: the wording, and places, sizes and colours of all layers."""
    n, numbers = len(attributes), _sprites().numbers
    choices = rng.integers(0, _OPTIONS, (n, _CHOICES))
    object_, colour, sky, ground, size, side, flying = attributes.T

    def between(ranges: NDArray[np.float64]) -> NDArray[np.float64]:
        return rng.uniform(ranges[..., 0], ranges[..., 1], n)

    def varied(table: list[tuple[int, int, int]], which: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.clip(np.array(table)[which] + rng.uniform(-_JITTER, _JITTER, (n, 3)), 0, 255)

    horizon = between(np.array(HORIZON))
    scale = between(np.array(list(SIZES.values()))[size])
    x = between(np.array(list(SIDES.values()))[side])
    # A flying object stays inside the picture, and above the ground if it fits.
    highest = _sprites().heights[object_] * scale + 1
    lowest = np.maximum(horizon - 1.5, highest)
    y = np.where(flying, rng.uniform(highest, lowest), np.minimum(horizon + rng.uniform(3.5, 8, n), 30.5))
    facing = rng.choice([-1.0, 1.0], n)

    far, near = (varied([g[i] for g in GROUNDS.values()], ground) for i in (0, 1))  # type: ignore[misc]
    top, bottom, cloud = (varied([getattr(s, f) for s in SKIES.values()], sky) for f in ("top", "bottom", "colour"))
    rows = _rows(horizon, top, bottom, far, near)

    layers = max(len(s.others) for s in SKIES.values()) + 5
    sprites = np.full((n, layers), numbers["nothing"])
    origins, scales, colours = np.zeros((n, layers, 2)), np.ones((n, layers, 2)), np.zeros((n, layers, 3))
    sprites[:, 0] = np.array([numbers[s.light] for s in SKIES.values()])[sky]
    origins[:, 0, 0] = rng.uniform(4, 28, n)
    low = sprites[:, 0] == numbers["low sun"]
    origins[:, 0, 1] = np.where(low, horizon, rng.uniform(3, 7, n))
    for k in range(1, layers - 4):
        others = [numbers[s.others[k - 1] if k <= len(s.others) else "nothing"] for s in SKIES.values()]
        sprites[:, k] = np.array(others)[sky]
        origins[:, k] = rng.uniform((1, 2), (31, 9), (n, 2))
        colours[:, k] = cloud
    on_water = (ground == list(GROUNDS).index("sea")) & ~flying.astype(bool)
    over, shadow, thing, surf = range(layers - 4, layers)
    sprites[:, over] = np.array([numbers[g[2]] for g in GROUNDS.values()])[ground]
    origins[:, over] = np.column_stack([rng.uniform(13, 19, n), horizon + 2.5])
    sprites[:, shadow] = np.where(flying | on_water, numbers["nothing"], numbers["shadow"])
    sprites[:, thing] = object_
    sprites[:, surf] = np.where(on_water, numbers["surf"], numbers["nothing"])
    origins[:, shadow:] = np.column_stack([x, y])[:, None]
    scales[:, shadow] = scale[:, None]
    scales[:, thing] = np.column_stack([facing * scale, scale])
    scales[:, surf, 0] = scale / 2.6
    colours[:, shadow] = near
    colours[:, thing] = varied(list(COLOURS.values()), colour)
    colours[:, surf] = near
    return SceneExamples(attributes, choices, rows, sprites, origins, scales, colours)


def _rows(horizon: NDArray[np.float64], *colours: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns the colours of the rows [n, 32, 3]: sky from the top to the horizon [n], ground from far to near."""
    top, bottom, far, near = (c[:, None] for c in colours)
    middle, edge = np.arange(SIDE)[:, None] + 0.5, horizon[:, None, None]
    up = np.clip(middle / edge, 0, 1)
    down = np.clip((middle - edge) / (SIDE - edge), 0, 1)
    covered = np.clip(middle + 0.5 - edge, 0, 1)  # by the ground
    sky, ground = top + up * (bottom - top), far + down * (near - far)
    return np.rint(sky + covered * (ground - sky)).astype(np.uint8)
