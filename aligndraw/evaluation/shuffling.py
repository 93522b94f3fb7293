"""Captions shuffled among pictures: how much a picture's own caption is worth to the bound."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aligndraw.data import Examples
from aligndraw.evaluation.bound import BoundReport, Estimate

_BLOCK = 1000  # examples whose captions are read together


def derangement(image_index: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Returns a permutation of examples in which every example has one of another image.

    The examples stand in a circle, those of an image side by side, images and examples in random order. Each takes the
    example as many places further as the image with the most examples has.

    Args:
        image_index: int64 [n], the image of each example.
        seed: of the order.

    Returns:
        int64 [n], the example that gives its caption to each.

    Raises:
        ValueError: more than half of the examples are of one image.
    """
    _, image, counts = np.unique(image_index, return_inverse=True, return_counts=True)
    most, count = int(counts.max(initial=1)), len(image)
    if 2 * most > count:
        raise ValueError(f"captions must be of several pictures to be shuffled, got {most} of {count} of one picture")
    rng = np.random.default_rng(seed)
    place = rng.permutation(len(counts))[image.reshape(-1)]
    circle = np.lexsort((rng.permutation(count), place))
    order = np.empty(count, np.int64)
    order[circle] = np.roll(circle, -most)
    return order


class Shuffled:
    """Examples whose pictures have the captions of others.

    Args:
        examples: any.
        order: int64 [n], as from `derangement`.
    """

    def __init__(self, examples: Examples, order: NDArray[np.int64]) -> None:
        self._examples, self._order = examples, order
        blocks = [examples.batch(slice(i, i + _BLOCK))[1:] for i in range(0, len(examples), _BLOCK)]
        width = max(words.shape[1] for words, _ in blocks)
        self._words = np.concatenate([np.pad(words, ((0, 0), (0, width - words.shape[1]))) for words, _ in blocks])
        self._lengths = np.concatenate([lengths for _, lengths in blocks])

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, index: slice) -> tuple[NDArray[np.uint8], NDArray[np.generic], NDArray[np.int64]]:
        """As `Examples`."""
        rows = self._order[index]
        return self._examples.batch(index)[0], self._words[rows], self._lengths[rows]

    def captions(self, index: slice = slice(None)) -> list[str]:
        """As `Examples`."""
        texts = self._examples.captions()
        return [texts[row] for row in self._order[index]]


def caption_gain(own: BoundReport, shuffled: BoundReport, image_index: NDArray[np.int64]) -> Estimate:
    """Returns the mean of shuffled − own bound over examples, in nats: above 0 where captions help.

    Both bounds have the same pictures and the same noise. So their difference has a smaller standard error than either.

    Args:
        own: the bound with the pictures' own captions.
        shuffled: with the captions of others, from the same seed.
        image_index: int64 [n], the image of each example. The standard error is that of independent images: the
            residuals of the examples of one image are added before they are squared.
    """
    difference = (shuffled.each - own.each).double().cpu().numpy()
    _, image = np.unique(image_index, return_inverse=True)
    sums = np.bincount(image.reshape(-1), difference - difference.mean())
    images = len(sums)
    error = math.sqrt((sums**2).sum() * images / (images - 1)) / len(difference) if images > 1 else math.nan
    return Estimate(float(difference.mean()), error)
