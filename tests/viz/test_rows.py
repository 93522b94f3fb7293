"""Rows of pictures: every pixel in its place, every label whole, and the words marked that differ."""

import numpy as np
import pytest

from aligndraw.viz import Group, Row, changed_words, rows_figure
from aligndraw.viz.rows import MIN_LABEL
from aligndraw.viz.sheet import GAP, INK, MARGIN, PAPER, REMARK, line_height

LINE = line_height()


def pictures(n, channels=3, side=32):
    return np.random.default_rng(n).random((n, channels, side, side), np.float32)


def colours(pixels):
    return {tuple(p) for p in pixels.reshape(-1, 3).tolist()}


def test_pictures_stand_to_the_right_of_their_label():
    shown = [pictures(3), pictures(2)]
    sheet = np.asarray(rows_figure("a heading", [Group([Row("one", shown[0]), Row("two", shown[1])], "a title")]))
    top = MARGIN + LINE + MARGIN + LINE + GAP
    for row, part in enumerate(shown):
        for i, picture in enumerate(part):
            left = MARGIN + MIN_LABEL + MARGIN + i * (96 + GAP)
            block = sheet[top + row * (96 + GAP) :, left:][:96, :96]
            wanted = np.rint(picture * 255).transpose(1, 2, 0).repeat(3, 0).repeat(3, 1)
            assert (block == wanted).all()
    assert sheet.shape[:2] == (top + 2 * 96 + GAP + MARGIN, MARGIN + MIN_LABEL + MARGIN + 3 * 102 - GAP + MARGIN)


def test_texts_are_all_there_and_nothing_is_clipped():
    word = "supercalifragilisticexpialidocious" * 2
    row = Row(f"{word} " + "bus " * 200, np.zeros((1, 1, 60, 60)), "remark " * 50)
    sheet = np.asarray(rows_figure("heading " * 100, [Group([row], "title " * 100)]))
    assert sheet.shape[0] > 20 * LINE
    for margin in (sheet[:MARGIN], sheet[-MARGIN:], sheet[:, :MARGIN], sheet[:, -MARGIN:]):
        assert colours(margin) == {PAPER}
    assert {INK, REMARK} <= colours(sheet)


def test_rows_of_pictures_of_several_sizes():
    sheet = rows_figure("", [Group([Row("a", pictures(1, 1, 60)), Row("b", pictures(1, 3, 16))])])
    assert sheet.size == (MARGIN + MIN_LABEL + MARGIN + 120 + MARGIN, 2 * MARGIN + 120 + GAP + 96 + MARGIN)


def test_marked_words_are_in_colour():
    def shown(*marked):
        rows = [Row("red bus stands", np.zeros((1, 1, 60, 60)), marked=frozenset(marked))]
        return np.asarray(rows_figure("", [Group(rows)])).astype(int)

    plain = shown()
    assert REMARK not in colours(plain)
    columns = []
    for i in range(3):
        changed = np.argwhere((plain != shown(i)).any(2))
        assert (shown(i)[tuple(changed.T)] != PAPER).any()
        columns.append((changed[:, 1].min(), changed[:, 1].max()))
    assert columns == sorted(columns) and columns[0][1] < columns[1][0] and columns[1][1] < columns[2][0]


@pytest.mark.parametrize(
    ("captions", "marked"),
    [
        (["a red bus", "a blue bus"], [{1}, {1}]),
        (["a red bus", "a red school bus"], [set(), {2}]),
        (["at night", "under a blue sky"], [{0, 1}, {0, 1, 2, 3}]),
        (["a cat", "a dog", "the cat"], [{0, 1}, {0, 1}, {0, 1}]),
        (["a cat", "a cat"], [set(), set()]),
        (["a cat"], [set()]),
    ],
)
def test_changed_words(captions, marked):
    assert changed_words(captions) == marked


def test_refused():
    with pytest.raises(ValueError, match="at least one row, got none"):
        rows_figure("", [])
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        rows_figure("", [Group([Row("a", np.full((1, 1, 4, 4), 2.0))])])
