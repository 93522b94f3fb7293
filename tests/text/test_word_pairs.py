"""Word pairs of training captions: which captions are like them."""

import pytest

from aligndraw.text import WordPairs

CAPTIONS = [f"the {colour} {thing} is {place}".split() for colour in ("red", "green", "blue")
            for thing in ("car", "boat", "house") for place in ("here", "there")
            if (colour, thing) != ("green", "boat")]  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "unlike"),
    [
        ("the red car is here", []),
        ("the red car", []),
        ("the green boat is there", []),  # as "red boat" and "green car"
        ("red", [("", "red")]),
        ("the car is red", [("the", "car"), ("is", "red")]),
        ("the red car here", [("car", "here")]),
        ("the red tree is here", [("red", "tree"), ("tree", "is")]),
        ("a red car", [("", "a"), ("a", "red")]),
    ],
)
def test_captions_like_them_and_unlike(caption, unlike):
    assert WordPairs.of(CAPTIONS).unlike(caption.split()) == unlike


def test_free_captions_have_none():
    """Most of their pairs are new: a warning would say nothing."""
    words = [f"w{i}" for i in range(40)]
    captions = [[words[i * j % 40], words[(i + 7 * j) % 40], words[i % 40]] for i in range(20) for j in range(20)]
    assert WordPairs.closed(captions) is None and WordPairs.closed([]) is None
    assert WordPairs.closed([["a", "b"]] * 4) == WordPairs.of([["a", "b"]])


@pytest.mark.parametrize("data", [None, [], {"a": 1}, {"a": ["b"]}])
def test_a_foreign_form(data):
    with pytest.raises(ValueError, match="word_pairs must be an object of words, each with its following words"):
        WordPairs.from_dict(data)
