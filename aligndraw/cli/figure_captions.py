"""The default captions of each figure: of scenes, of MNIST with captions, and the paper's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from aligndraw.cli.failure import Failure
from aligndraw.data import VOCABULARY, Scenes
from aligndraw.text import UNKNOWN, CaptionError, Vocabulary


class FigureCaption(NamedTuple):
    """A caption of a figure, with a remark."""

    caption: str
    remark: str = ""


Groups = Sequence[Sequence[FigureCaption]]


def _swapped(sentence: str, *words: str) -> list[FigureCaption]:
    """Returns a sentence with each of the words in its gap."""
    return [FigureCaption(sentence.format(word)) for word in words]


_SCENES: Mapping[str, Groups] = {
    "novel": [
        [
            FigureCaption(
                "a large green school bus is parked on the sand under a blue sky", "training has no green bus"
            ),
            FigureCaption(
                "a large red stop sign is flying over the grass under a blue sky", "training has none in the sky"
            ),
            FigureCaption(
                "a large white toilet seat sits open on the grass on a sunny day", "training has none on grass"
            ),
            FigureCaption("a large red elephant is standing on the sand at sunset", "training has no red elephant"),
            FigureCaption(
                "a large yellow house is flying over the sea under grey clouds", "training has no house in the sky"
            ),
            FigureCaption("a large pink cat sits on the road at night", "training has no pink cat"),
        ]
    ],
    "swap": [
        _swapped("a large {} school bus is parked on the sand under a blue sky", "yellow", "red", "green", "blue"),
        _swapped("a large red {} stands on the grass under a blue sky", "car", "house", "umbrella", "tree"),
    ],
    "background": [
        _swapped("a large red plane is flying over the sea {}", "under a blue sky", "at sunset"),
        _swapped("a large red bus is parked on the {} under a cloudy sky", "road", "grass"),
    ],
    "attention": [
        _swapped("a large red car is parked on the {} under a blue sky", "sand", "road"),
        _swapped("a large red plane is flying over the sea {}", "under a blue sky", "at night"),
    ],
    "models": [[FigureCaption("a large red bus is parked on the road under a blue sky")]],
}
_MNIST: Mapping[str, Groups] = {
    "novel": [
        [
            FigureCaption("the digit six is at the top left of the image", "training has no six there"),
            FigureCaption("the digit one is at the top right of the image", "training has no one there"),
            FigureCaption("the digit four is at the bottom right of the image", "training has no four there"),
            FigureCaption("the digit two is on the left of the digit seven", "training has no two on the left"),
            FigureCaption("the digit eight is at the top of the digit zero", "training has no eight at the top"),
            FigureCaption("the digit three is at the bottom of the digit one", "training has no three at the bottom"),
        ]
    ],
    "swap": [
        _swapped("the digit {} is at the top right of the image", "zero", "three", "five", "seven"),
        _swapped("the digit seven is at the {} of the image", "top left", "top right", "bottom left", "bottom right"),
    ],
    "background": [
        _swapped("the digit seven is at the {} of the image", "top left", "bottom right"),
        _swapped("the digit three is on the {} of the digit zero", "left", "right"),
    ],
    "attention": [
        [
            FigureCaption("the digit three is at the top of the digit one"),
            FigureCaption("the digit eight is at the top of the digit zero", "training has no eight at the top"),
        ],
        [
            FigureCaption("the digit seven is at the bottom left of the image"),
            FigureCaption("the digit six is at the top left of the image", "training has no six there"),
        ],
    ],
    "models": [[FigureCaption("the digit three is at the top of the digit one")]],
}
_PAPER: Mapping[str, Groups] = {
    "novel": [
        [
            FigureCaption("a stop sign is flying in blue skies"),
            FigureCaption("a herd of elephants flying in the blue skies"),
            FigureCaption("a toilet seat sits open in the grass field"),
            FigureCaption("a person skiing on sand clad vast desert"),
        ]
    ],
    "swap": [
        _swapped("a {} school bus parked in a parking lot", "yellow", "red", "green", "blue"),
        _swapped("{} is on the table", "the decadent chocolate desert", "a bowl of bananas"),
        _swapped("a vintage photo of a {}", "cat", "dog"),
    ],
    "background": [
        _swapped("a very large commercial plane flying in {} skies", "blue", "rainy"),
        _swapped("a herd of elephants walking across a {} grass field", "dry", "green"),
    ],
    "attention": [
        _swapped("a rider on a blue motorcycle in the {}", "desert", "forest"),
        _swapped("a surfer , a woman , and a child walk on the {}", "beach", "sun"),
    ],
    "models": [[FigureCaption("a group of people walk on a beach with surf boards")]],
}
_SAME = {"sharpening": "background"}  # figures with the captions of another
FIGURES = (*_PAPER, "sharpening")


def default_captions(figure: str, vocabulary: Vocabulary) -> Groups:
    """Returns the captions of a figure: of scenes or digits for a model with their vocabulary, else the paper's.

    Raises:
        Failure: the model does not know the words of the paper's captions.
    """
    words = set(vocabulary.words) - {UNKNOWN}
    for captions, known in ((_SCENES, Scenes.vocabulary), (_MNIST, VOCABULARY), (_PAPER, vocabulary)):
        with suppress(CaptionError):
            if words <= set(known.words):
                groups = captions[_SAME.get(figure, figure)]
                vocabulary.check_known([entry.caption for group in groups for entry in group])
                return groups
    raise Failure("--caption or --captions-file must be given: the model does not know the words of the paper's", 2)
