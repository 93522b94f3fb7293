"""Shapes on pictures: both forms against the definition, each other, and their errors."""

import re

import numpy as np
import pytest

from aligndraw.data.painting import paint, paint_reference

try:
    from aligndraw._host import paint as paint_host
except ModuleNotFoundError:
    paint_host = None

needs_host = pytest.mark.skipif(paint_host is None, reason="aligndraw._host is not built")
forms = pytest.mark.parametrize(
    "form", [paint_reference, pytest.param(paint_host, marks=needs_host)], ids=["numpy", "c++"]
)


def rows(batch=1):
    return np.zeros((batch, 4, 3), np.uint8)


def given(points, shapes, colours, background=None):
    """Arguments, with points in pixels."""
    background = rows() if background is None else background
    points = np.array(np.multiply(points, 64), np.int16).reshape(-1, 2)
    shapes, colours = np.array(shapes, np.int64).reshape(-1, 3), np.array(colours, np.uint8).reshape(-1, 3)
    return background, points, shapes, colours, 4


SQUARE = [(1, 1), (3, 1), (3, 2.5), (1, 2.5)]


@forms
def test_definition(form):
    """A later shape covers an earlier one, and a pixel that is covered by half is half of it."""
    points = [*SQUARE, (2, 1), (4, 1), (4, 2), (2, 2)]
    pictures = form(*given(points, [(0, 0, 4), (0, 4, 4)], [(100, 200, 0), (0, 50, 7)]))
    assert pictures.dtype == np.uint8 and pictures.shape == (1, 3, 4, 4)
    assert pictures[0, 0].tolist() == [[0, 0, 0, 0], [0, 100, 0, 0], [0, 50, 50, 0], [0, 0, 0, 0]]
    assert pictures[0, 1].tolist() == [[0, 0, 0, 0], [0, 200, 50, 50], [0, 100, 100, 0], [0, 0, 0, 0]]
    assert pictures[0, 2].tolist() == [[0, 0, 0, 0], [0, 0, 7, 7], [0, 0, 0, 0], [0, 0, 0, 0]]


@forms
def test_rows_are_the_background(form):
    background = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pictures = form(*given([], [], [], background))
    assert (pictures == background.transpose(0, 2, 1)[..., None]).all()


@forms
def test_even_odd_rule(form):
    """What a polygon goes round twice is outside: here the inner of two squares that one line draws."""
    points = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (3, 1), (3, 3), (1, 3), (1, 1)]
    picture = form(*given(points, [(0, 0, 10)], [(9, 9, 9)]))[0, 0]
    assert picture.tolist() == [[9, 9, 9, 9], [9, 0, 0, 9], [9, 0, 0, 9], [9, 9, 9, 9]]


@forms
def test_area_of_an_ellipse(form):
    """π a b of its colour, to one part in a hundred, wherever it is."""
    for x, y, a, b in ((50, 50, 30, 20), (40.3, 51.9, 8.7, 33.1)):
        points = np.array([(x, y), (a, b)])
        background = np.zeros((1, 100, 3), np.uint8)
        points, shapes = np.rint(points * 64).astype(np.int16), np.array([[0, 0, 2]])
        picture = form(background, points, shapes, np.full((1, 3), 255, np.uint8), 100)[0, 0] / 255
        assert picture.sum() == pytest.approx(np.pi * a * b, rel=0.01)
        assert picture.sum(0) @ (np.arange(100) + 0.5) / picture.sum() == pytest.approx(x, abs=0.1)


@needs_host
@pytest.mark.parametrize("reach", [40, 2000, 32767])
def test_forms_agree_bit_for_bit(reach):
    """Random shapes, also far beyond the picture and of no extent."""
    rng = np.random.default_rng(reach)
    corners = rng.integers(2, 9, 60)
    points = rng.integers(-reach, reach, (corners.sum(), 2), endpoint=True).astype(np.int16)
    points[rng.integers(0, len(points), 20)] = 0
    shapes = np.column_stack([np.sort(rng.integers(0, 5, 60)), np.cumsum(corners) - corners, corners])
    arguments = rng.integers(0, 256, (6, 13, 3), np.uint8), points, shapes, rng.integers(0, 256, (60, 3), np.uint8), 9
    got, want = paint_host(*arguments), paint_reference(*arguments)
    assert got.shape == want.shape == (6, 3, 13, 9) and got.tobytes() == want.tobytes()
    assert got.std() > 10


@needs_host
def test_the_compiled_form_is_used_where_it_is_built():
    assert paint is paint_host


GOOD = dict(zip(("rows", "points", "shapes", "colours", "width"), given(SQUARE, [(0, 0, 4)], [(1, 2, 3)])))


@forms
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "rows",
            np.zeros((1, 4, 4), np.uint8),
            "rows must be a C-contiguous uint8 array [B, H, 3], got uint8 [1, 4, 4]",
        ),
        ("points", np.zeros((4, 2)), "points must be a C-contiguous int16 array [P, 2], got float64 [4, 2]"),
        ("shapes", [[0, 0, 4]], "shapes must be a C-contiguous int64 array [S, 3], got list"),
        ("colours", np.zeros((2, 3), np.uint8), "colours must be a C-contiguous uint8 array [1, 3], got uint8 [2, 3]"),
        ("width", 0, "width must be at least 1, got 0"),
        ("shapes", np.array([[1, 0, 4]]), "shapes[0] must be of a picture in 0…0, in their order, got 1"),
        ("shapes", np.array([[-1, 0, 4]]), "shapes[0] must be of a picture in 0…0, in their order, got -1"),
        ("shapes", np.array([[0, 0, 1]]), "shapes[0] must have 2 or more points in 0…3, got 1 from 0 on"),
        ("shapes", np.array([[0, 1, 4]]), "shapes[0] must have 2 or more points in 0…3, got 4 from 1 on"),
        ("shapes", np.array([[0, -1, 4]]), "shapes[0] must have 2 or more points in 0…3, got 4 from -1 on"),
        ("shapes", np.array([[0, 2, 2**62]]), f"2 or more points in 0…3, got {2**62} from 2 on"),
        ("rows", np.zeros((0, 4, 3), np.uint8), "shapes[0] must be of a picture in 0…-1, in their order, got 0"),
    ],
)
def test_errors(form, name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        form(**{**GOOD, name: value})


@forms
def test_the_pictures_of_shapes_ascend(form):
    arguments = given([*SQUARE, *SQUARE], [(1, 0, 4), (0, 4, 4)], [(1, 2, 3)] * 2, rows(2))
    with pytest.raises(ValueError, match=r"shapes\[1\] must be of a picture in 1…1, in their order, got 0"):
        form(*arguments)
