"""The sprites of scenes: objects and scenery as flat shapes.

A sprite is a list of shapes, later ones over earlier ones. x runs to the right and y up, in units of half an object's
width; an object stands on y = 0 and is centred on x = 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Red, green, blue. The first three stand for the colour of an object in a picture: plain, darker and lighter.
PAINTS = {
    "main": (0, 0, 0),
    "shade": (0, 0, 0),
    "light": (0, 0, 0),
    "black": (26, 26, 30),
    "grey": (120, 122, 128),
    "steel": (176, 182, 190),
    "white": (248, 248, 248),
    "glass": (176, 220, 240),
    "wood": (112, 68, 36),
    "roof": (96, 50, 44),
    "gold": (250, 200, 60),
    "leaf": (40, 120, 44),
    "blade": (46, 112, 40),
    "foam": (222, 240, 250),
    "ripple": (206, 170, 104),
    "frost": (204, 216, 234),
    "tar": (62, 62, 68),
}


class Shape(NamedTuple):
    """A polygon of three points or more, or an ellipse: its centre and its half axes."""

    paint: str
    points: tuple[tuple[float, float], ...]


Sprite = Sequence[Shape]


def _fill(paint: str, points: str) -> Shape:
    """Returns a polygon from "x,y x,y …"."""
    return Shape(paint, _points(points))


def _disc(paint: str, x: float, y: float, a: float, b: float | None = None) -> Shape:
    return Shape(paint, ((x, y), (a, a if b is None else b)))


def _box(paint: str, left: float, bottom: float, right: float, top: float) -> Shape:
    return Shape(paint, ((left, bottom), (right, bottom), (right, top), (left, top)))


def _stroke(paint: str, width: float, points: str | Sequence[tuple[float, float]]) -> list[Shape]:
    """Returns a line with round ends and joints."""
    line = _points(points) if isinstance(points, str) else tuple(points)
    shapes = [_disc(paint, x, y, width / 2) for x, y in line]
    for (x1, y1), (x2, y2) in zip(line, line[1:]):
        length = math.sqrt((x2 - x1) ** 2 + (y2 - y1) ** 2)
        across, up = (y1 - y2) / length * width / 2, (x2 - x1) / length * width / 2
        ends = ((x1 + across, y1 + up), (x2 + across, y2 + up), (x2 - across, y2 - up), (x1 - across, y1 - up))
        shapes.append(Shape(paint, ends))
    return shapes


def _edged(*shapes: Shape, paint: str = "shade", width: float = 0.12) -> list[Shape]:
    """Returns shapes with one outline around them all, half of its width outside, against any background."""
    rims: list[Shape] = []
    for shape in shapes:
        if len(shape.points) == 2:
            (x, y), (a, b) = shape.points
            rims.append(_disc(paint, x, y, a + width / 2, b + width / 2))
        else:
            rims += _stroke(paint, width, (*shape.points, shape.points[0]))
    return [*rims, *shapes]


def _points(text: str) -> tuple[tuple[float, float], ...]:
    pairs = (pair.split(",") for pair in text.split())
    return tuple((float(x), float(y)) for x, y in pairs)


def _circle(radius: float, count: int) -> tuple[tuple[float, float], ...]:
    """Returns points on a circle, counterclockwise from the right."""
    angles = [2 * math.pi * i / count for i in range(count)]
    return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _wheels(radius: float, *places: float) -> list[Shape]:
    return [
        shape for x in places for shape in (_disc("black", x, radius, radius), _disc("steel", x, radius, radius * 0.45))
    ]


def _boxes(paint: str, bottom: float, top: float, *sides: tuple[float, float]) -> list[Shape]:
    return [_box(paint, left, bottom, right, top) for left, right in sides]


OBJECTS: dict[str, Sprite] = {
    "bus": [
        *_edged(_fill("main", "-1,.2 -1,1.1 -.92,1.18 .5,1.18 .58,1.1 .62,.66 .95,.62 1,.54 1,.2")),
        *_boxes("glass", 0.7, 1.02, (-0.9, -0.6), (-0.5, -0.2), (-0.1, 0.2), (0.3, 0.5)),
        _box("black", -1, 0.46, 0.98, 0.56),
        _box("gold", 0.9, 0.32, 1, 0.46),
        *_wheels(0.23, -0.58, 0.55),
    ],
    "car": [
        *_edged(_fill("main", "-1,.2 -1,.55 -.66,.6 -.4,.98 .32,.98 .62,.6 .94,.52 1,.4 1,.2")),
        _fill("glass", "-.5,.62 -.33,.88 -.08,.88 -.08,.62"),
        _fill("glass", ".04,.62 .04,.88 .28,.88 .46,.62"),
        _box("gold", 0.9, 0.36, 1, 0.48),
        *_wheels(0.24, -0.56, 0.56),
    ],
    "plane": [
        *_edged(
            _fill("main", "-.05,.66 -.35,1.1 -.14,1.1 .3,.66"), _fill("main", "-.96,.62 -1,1.12 -.78,1.12 -.5,.66")
        ),
        *_edged(_fill("main", "-.98,.66 -.9,.46 -.6,.38 .7,.38 .92,.44 1,.54 .9,.68 .72,.76 -.6,.76")),
        *_edged(_fill("light", ".25,.5 -.2,.5 -.62,.02 -.4,.02")),
        *(_disc("glass", x, 0.64, 0.07) for x in (-0.4, -0.15, 0.1, 0.35)),
        _fill("glass", ".66,.6 .66,.7 .8,.7 .88,.6"),
    ],
    "boat": [
        *_stroke("wood", 0.1, "0,.4 0,1.7"),
        *_edged(_fill("white", "-.09,.52 -.09,1.6 -.78,.52"), paint="grey", width=0.08),
        *_edged(_fill("main", ".1,.52 .1,1.5 .72,.52")),
        *_edged(_fill("main", "-1,.42 1,.42 .66,.02 -.7,.02")),
        _box("light", -0.9, 0.3, 0.9, 0.38),
    ],
    "bird": [
        *_stroke("black", 0.09, "-.08,.3 -.08,.03 .1,.03"),
        *_stroke("black", 0.09, ".16,.3 .16,.03 .34,.03"),
        *_edged(_fill("main", "-.35,.6 -1,.86 -1,.5 -.3,.4"), _disc("main", 0, 0.58, 0.56, 0.34)),
        *_edged(_disc("main", 0.56, 0.92, 0.28)),
        _fill("gold", ".8,1.02 1.12,.88 .8,.8"),
        _disc("black", 0.63, 0.97, 0.08),
        *_edged(_fill("light", ".28,.66 -.2,.5 -.62,1.36 -.3,1.3")),
    ],
    "house": [
        *_edged(_box("main", -0.8, 0.02, 0.8, 0.9)),
        _box("roof", 0.4, 1.1, 0.6, 1.6),
        _fill("roof", "-1.02,.84 0,1.66 1.02,.84"),
        _box("wood", -0.16, 0, 0.16, 0.5),
        *_edged(*_boxes("glass", 0.36, 0.66, (-0.62, -0.34), (0.34, 0.62)), paint="white", width=0.1),
    ],
    "tree": [
        _fill("wood", "-.16,0 .16,0 .12,.9 -.12,.9"),
        *_edged(
            _disc("main", -0.42, 1, 0.42),
            _disc("main", 0.42, 1, 0.42),
            _disc("main", 0, 1.42, 0.5),
            _disc("main", 0, 0.95, 0.4),
        ),
        *(_disc("light", x, y, 0.11) for x, y in ((-0.45, 1.08), (0.1, 1.55), (0.4, 0.92), (-0.05, 1.1))),
    ],
    "ball": [
        *_edged(_disc("main", 0, 0.72, 0.7)),
        *_edged(_disc("white", 0, 0.72, 0.4, 0.7), width=0.07),
        *_edged(_disc("main", 0, 0.72, 0.14, 0.7), width=0.07),
        _disc("white", 0, 1.32, 0.17, 0.1),
    ],
    "kite": [
        *_stroke("black", 0.07, "0,.75 .2,.5 -.15,.28 .1,.02"),
        _fill("light", ".2,.5 .42,.62 .38,.38"),
        _fill("light", "-.15,.28 -.38,.4 -.34,.14"),
        *_edged(_fill("main", "0,2.1 .68,1.5 0,.72 -.68,1.5")),
        _fill("light", "0,2.1 .68,1.5 0,1.5"),
        _fill("light", "0,.72 -.68,1.5 0,1.5"),
    ],
    "elephant": [
        *_stroke("shade", 0.08, "-.85,.85 -.98,.5"),
        *_edged(
            _disc("main", -0.2, 0.86, 0.66, 0.46),
            _box("main", -0.78, 0.04, -0.5, 0.7),
            _box("main", -0.06, 0.04, 0.24, 0.7),
        ),
        *_boxes("shade", 0.04, 0.45, (-0.5, -0.44), (-0.12, -0.06)),
        *_stroke("shade", 0.32, ".72,.86 .86,.5 .86,.2 1,.14"),
        *_edged(_disc("main", 0.52, 1.02, 0.38)),
        *_stroke("main", 0.2, ".72,.86 .86,.5 .86,.2 1,.14"),
        *_stroke("white", 0.09, ".6,.72 .72,.5"),
        *_edged(_disc("light", 0.26, 0.98, 0.24, 0.34), width=0.09),
        _disc("black", 0.64, 1.12, 0.07),
    ],
    "stop sign": [
        *_stroke("grey", 0.16, "0,.06 0,1"),
        *_edged(
            _fill("white", "-.3,.66 .3,.66 .72,1.08 .72,1.68 .3,2.1 -.3,2.1 -.72,1.68 -.72,1.08"),
            paint="grey",
            width=0.06,
        ),
        _fill("main", "-.25,.78 .25,.78 .6,1.13 .6,1.63 .25,1.98 -.25,1.98 -.6,1.63 -.6,1.13"),
        *_boxes("white", 1.24, 1.52, (-0.5, -0.34), (-0.22, -0.06), (0.06, 0.22), (0.34, 0.5)),
    ],
    "toilet": [
        *_edged(_box("main", -0.86, 0.72, -0.46, 1.5)),
        _box("light", -0.92, 1.46, -0.4, 1.6),
        *_edged(_fill("main", "-.56,.72 .72,.72 .6,.42 .3,.26 .34,.02 -.42,.02 -.38,.26 -.56,.5")),
        *_edged(_fill("light", "-.4,.84 -.24,.84 -.06,1.62 -.26,1.62"), width=0.08),
        *_edged(_disc("white", 0.14, 0.78, 0.62, 0.17)),
        _disc("grey", 0.16, 0.78, 0.4, 0.08),
    ],
    "balloon": [
        *_stroke("black", 0.05, "-.5,.9 -.18,.3"),
        *_stroke("black", 0.05, ".5,.9 .18,.3"),
        *_edged(_box("wood", -0.2, 0.02, 0.2, 0.3), paint="black", width=0.06),
        *_edged(_disc("main", 0, 1.35, 0.74), _fill("main", "-.66,1.02 .66,1.02 .2,.52 -.2,.52")),
        _disc("light", 0, 1.35, 0.42, 0.74),
        _fill("light", "-.38,1.06 .38,1.06 .12,.54 -.12,.54"),
        _disc("main", 0, 1.35, 0.16, 0.74),
    ],
    "umbrella": [
        *_stroke("wood", 0.11, "0,1 0,.2 .08,.08 .22,.08 .3,.2"),
        *_stroke("wood", 0.1, "0,1.7 0,1.86"),
        *_edged(
            _fill(
                "main",
                "-1,.92 -.92,1.22 -.7,1.5 -.38,1.68 0,1.74 .38,1.68 .7,1.5 .92,1.22 1,.92 "
                ".67,1.02 .33,.92 0,1.02 -.33,.92 -.67,1.02",
            )
        ),
        _fill("light", "-.33,.92 0,1.02 .33,.92 .24,1.3 0,1.72 -.24,1.3"),
    ],
    "flower": [
        *_stroke("leaf", 0.12, "0,.02 0,1"),
        _disc("leaf", 0.3, 0.42, 0.28, 0.1),
        _disc("leaf", -0.3, 0.28, 0.28, 0.1),
        *_edged(*(_disc("main", x, 1.32 + y, 0.27) for x, y in _circle(0.42, 6))),
        _disc("gold", 0, 1.32, 0.25),
    ],
    "cat": [
        *_stroke("shade", 0.26, "-.62,.2 -.9,.5 -.8,.95"),
        *_stroke("main", 0.15, "-.62,.2 -.9,.5 -.8,.95"),
        *_edged(_fill("main", "-.7,.04 -.62,.5 -.2,.85 .4,.8 .52,.04")),
        _box("shade", 0.12, 0.04, 0.18, 0.4),
        *_edged(
            _fill("main", ".02,1.2 .0,1.75 .3,1.5"),
            _fill("main", ".78,1.2 .8,1.75 .5,1.5"),
            _disc("main", 0.4, 1.16, 0.44, 0.4),
        ),
        _disc("black", 0.24, 1.24, 0.08),
        _disc("black", 0.56, 1.24, 0.08),
        _fill("light", ".3,1.08 .5,1.08 .4,.98"),
    ],
}


def _repeated(columns: Iterable[float], shapes: Sprite) -> list[Shape]:
    """Returns copies of shapes, moved to the right."""
    return [
        Shape(paint, tuple((x + column * (len(points) != 2 or not i), y) for i, (x, y) in enumerate(points)))
        for column in columns
        for paint, points in shapes
    ]


# In pixels, y up; shadow and surf are as wide as the object.
SCENERY: dict[str, Sprite] = {
    "nothing": [],
    "sun": [_disc("gold", 0, 0, 2.6)],
    "low sun": [Shape("gold", _circle(4.5, 24)[:13])],
    "moon": [_fill("white", "0,2.4 1.2,2.1 2.2,1 2.3,-.4 1.7,-1.6 .6,-2.3 -.6,-2.3 .5,-1.4 1,-.2 .8,1.2")],
    "cloud": [
        *(_disc("main", x, y, a, b) for x, y, a, b in ((-2.4, 0, 2.2, 1.3), (0, 0.8, 2.5, 1.9), (2.5, 0.1, 2.2, 1.4)))
    ],
    "stars": _repeated(
        (-30, 0, 30),
        [_disc("white", x, y, 0.45) for x, y in _points("-13,-8 -10,-1 -7,-5 -4,1 -1,-7 2,-2 5,-9 8,-4 11,0 14,-6")],
    ),
    "grass": _repeated(
        range(-22, 22, 4),
        [*_stroke("blade", 0.5, "-.5,1.6 0,0 .6,1.8"), *_stroke("blade", 0.5, "1.4,-2.6 2,-4.4 2.7,-2.4")],
    ),
    "sand": _repeated(
        range(-24, 24, 8),
        [*_stroke("ripple", 0.5, "0,-1 1.5,-.6 3,-1"), *_stroke("ripple", 0.5, "4,-4.5 5.5,-4 7,-4.5")],
    ),
    "sea": _repeated(
        range(-24, 24, 6),
        [*_stroke("foam", 0.6, "0,-.6 1.2,.1 2.4,-.6"), *_stroke("foam", 0.6, "3,-4.2 4.2,-3.4 5.4,-4.2")],
    ),
    "snow": _repeated(range(-28, 28, 14), [_disc("frost", 0, -2.5, 5, 0.8), _disc("frost", 7, -6.5, 5, 0.8)]),
    "road": [_box("white", -40, 1, 40, 1.7), *_repeated(range(-24, 24, 8), [_box("white", 0, -4.4, 4.5, -3.4)])],
    "shadow": [_disc("shade", 0, 0, 0.95, 0.17)],
    "surf": _repeated(
        range(-3, 3), [_fill("main", "0,-.5 0,.9 .5,1.5 1,.9 1,-.5"), _fill("foam", "0,.9 .5,1.5 1,.9 .5,1")]
    ),
}
