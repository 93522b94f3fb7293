"""What is drawn instead of held-out digits, counted by hand."""

import json

import torch

from aligndraw.data import BANS, PLACES, STRICT, all_placements, caption
from aligndraw.evaluation.confusion import OUTCOMES, Confusion

NONE = 10
BY_TEXT = {caption(*p): p for p in all_placements()}


def confusion(cases, bans=STRICT):
    readings = [[held.get(place, NONE) for place in PLACES] for _, held in cases]
    return Confusion.of(torch.tensor(readings), [BY_TEXT[text] for text, _ in cases], bans)


def counts(**given):
    return {**dict.fromkeys(OUTCOMES, 0), **given}


def test_one_digit():
    """9 is held out at the bottom left, where training shows every other digit."""
    text = "the digit 9 is at the bottom left of the image ."
    cases = [
        (text, {"bottom left": 9}),
        (text, {"bottom left": 9, "top": 1}),  # unfaithful, and the held-out digit is right all the same
        (text, {"bottom left": 4}),
        (text, {"bottom left": 4, "top": 7}),
        (text, {"bottom left": 7}),
        (text, {"top": 9}),
        (text, {"bottom left": 4, "left": 9}),  # the digit is there, at another place
        (text, {}),
        (text, {"top": 1}),
        ("the digit 8 is at the bottom left of the image .", {"bottom left": 3}),  # seen in training: not counted
    ]
    found = confusion(cases)
    assert found.outcomes == counts(right=2, another=3, elsewhere=2, unreadable=2)
    assert found.instead == {("bottom left", 9): {4: 3, 7: 1, 9: 2, NONE: 3}}
    assert found.count == 9


def test_two_digits():
    """2 is held out at the left, 5 at the right: one of them, or both."""
    cases = [
        ("the digit 2 is on the left of the digit 7 .", {"left": 7, "right": 2}),
        ("the digit 2 is on the left of the digit 2 .", {"left": 3, "right": 2}),  # the other 2 is where it should be
        ("the digit 5 is on the right of the digit 2 .", {"left": 2, "right": 3}),
        ("the digit 5 is on the right of the digit 2 .", {"left": 5, "right": 2}),
    ]
    found = confusion(cases)
    assert found.outcomes == counts(right=1, another=2, elsewhere=3)
    assert found.instead == {("left", 2): {2: 1, 3: 1, 5: 1, 7: 1}, ("right", 5): {2: 1, 3: 1}}


def test_other_bans():
    """Under the authors' a digit is held out in one wording of a picture alone: 9 at the left, 0 at the top."""
    cases = [
        ("the digit 9 is on the left of the digit 7 .", {"left": 4, "right": 7}),  # 7 is held out, too
        ("the digit 7 is on the right of the digit 9 .", {"left": 4, "right": 1}),
        ("the digit 3 is at the bottom of the digit 0 .", {"top": 0, "bottom": 3}),
        ("the digit 0 is at the top of the digit 4 .", {"bottom": 4}),
    ]
    found = confusion(cases, BANS["authors"])
    assert found.outcomes == counts(right=2, another=1)
    assert found.instead == {("left", 9): {4: 1}, ("right", 7): {7: 1}, ("top", 0): {0: 1}}


def test_text_and_json():
    text = "the digit 9 is at the bottom left of the image ."
    found = confusion([(text, {"bottom left": 4}), (text, {"bottom left": 4}), (text, {"bottom left": 9}), (text, {})])
    lines = str(found).splitlines()
    assert [line.split()[-1] for line in lines[1:5]] == ["25.0", "0.0", "50.0", "25.0"]
    assert lines[6] == "    9 at bottom left   4 50, 9 25, none 25"
    assert json.loads(json.dumps(found.to_dict())) == {
        "outcomes": counts(right=1, another=2, unreadable=1),
        "instead": {"9 at bottom left": {"4": 2, "9": 1, "none": 1}},
    }


def test_nothing_held_out():
    found = confusion([("the digit 8 is at the bottom left of the image .", {"bottom left": 8})])
    assert found.count == 0 and found.outcomes == counts() and found.instead == {}
