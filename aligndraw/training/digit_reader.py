"""Trains the digit reader that ships with the package, in minutes on one core:

    python -m aligndraw.training.digit_reader

The training windows are composed from the training digits alone. Most show a digit at their place, some of them with a
piece of a digit from a neighbouring place. The others show no digit: nothing, a piece of a neighbour, or a *smudge*,
which is ink that forms no digit. See docs/evaluation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import aligndraw
from aligndraw.data import PLACES, Digits, as_images, load_digits
from aligndraw.data.digits import SIDE
from aligndraw.data.mnist_captions import SPLITS
from aligndraw.evaluation.fidelity import GROUPS, Share, score_reader
from aligndraw.evaluation.reader import NOTHING, SHIPPED, WINDOW, DigitReader, readings
from aligndraw.printable import escape
from aligndraw.training.reader import train_reader

EVALUATION_PICTURES = 20  # per caption, and hundreds of windows, that the reader is measured on

_MIDDLES = torch.tensor([(sum(p.columns) / 2, sum(p.rows) / 2) for p in PLACES.values()])  # [8, (x, y)]


class Windows(NamedTuple):
    """Windows with their targets."""

    pictures: Tensor  # [M, 1, 32, 32] in [0, 1]
    targets: Tensor  # int64 [M], the digit or NOTHING
    smudged: Tensor  # bool [M], true where the place holds a smudge


class Composer:
    """Composes random windows, fully determined by the digits and a seed.

    Args:
        images: uint8 [n, 28, 28].
        labels: uint8 [n].
        seed: of all random choices.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int) -> None:
        self.images = as_images(torch.from_numpy(images))
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self._generator = torch.Generator().manual_seed(seed)

    def batch(self, count: int) -> Windows:
        """Returns `count` new windows: 70 % with a digit, 15 % with a smudge.

        Half of them with a piece of a neighbour.
        """
        kind = self._uniform(count)
        named, smudged = kind < 0.7, kind > 0.85
        index, beside = self._integers(len(self.labels), 2, count)
        pieces = self.images[index]
        pieces[smudged] = self._smudges(index[smudged])
        place, other = self._integers(len(PLACES), 2, count)
        away = _MIDDLES[other] - _MIDDLES[place]
        # Overlapping digits would make the target ambiguous.
        near = away.abs().amax(1) < (SIDE * named).clamp(min=1)
        neighbours = self.images[beside] * ((self._uniform(count) < 0.5) & ~near)[:, None, None]
        pictures = self._set(pieces * (named | smudged)[:, None, None], torch.zeros(count, 2))
        pictures = pictures.maximum(self._set(neighbours, away))
        pictures = blur(pictures, self._uniform(count, low=-1.0, high=1.2).clamp(min=0.1))
        noise = torch.randn(pictures.shape, generator=self._generator)
        pictures = (pictures + noise * self._uniform(count, 1, 1, high=0.04)).clamp(0, 1)
        return Windows(pictures[:, None], self.labels[index].where(named, NOTHING), smudged)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self._generator)

    def _integers(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=self._generator)

    def _smudges(self, index: Tensor) -> Tensor:
        """Returns a smudge [28, 28] for each digit [M].

        A digit made faint, blurred, torn apart, or blended with another.
        """
        digits = self.images[index]
        # Without fading, the edges of its box would give a blurred digit away.
        fading = 1 - torch.linspace(-1, 1, SIDE) ** 2
        torn = digits.roll((SIDE // 2, SIDE // 2), (1, 2))
        second = self._integers(len(self.labels), len(index))
        alike = (self.labels[second] == self.labels[index])[:, None, None]
        kinds = torch.stack(
            [
                digits * self._uniform(len(index), 1, 1, high=0.2),
                blur(digits, self._uniform(len(index), low=3.5, high=6.0)) * 2 * fading * fading[:, None],
                torn,
                torn.where(alike, (digits + self.images[second]) / 2),
            ]
        )
        return kinds[self._integers(len(kinds), len(index)), torch.arange(len(index))]

    def _set(self, pieces: Tensor, away: Tensor) -> Tensor:
        """Returns windows with pieces [M, 28, 28], distorted and dimmed, at offsets `away` [M, (x, y)] in pixels."""
        count = len(pieces)
        turn, slant = self._uniform(2, count, low=-0.2, high=0.2)
        stretch = self._uniform(count, 2, low=-0.12, high=0.12).exp() * (WINDOW / SIDE)
        shift = away + self._uniform(count, 2, low=-1, high=1) * torch.tensor([3.0, 2.0])
        # affine_grid takes the map from window to piece, both from -1 to 1.
        matrix = torch.stack([turn.cos(), slant - turn.sin(), turn.sin(), turn.cos()], 1)
        matrix = matrix.unflatten(1, (2, 2)) * stretch[:, :, None]
        matrix = torch.cat([matrix, -matrix @ (shift / (WINDOW / 2))[:, :, None]], 2)
        grid = functional.affine_grid(matrix, [count, 1, WINDOW, WINDOW], align_corners=False)
        windows = functional.grid_sample(pieces[:, None], grid, align_corners=False)[:, 0]
        return windows ** self._uniform(count, 1, 1, low=0.7, high=1.4) * self._uniform(count, 1, 1, low=0.6)


def blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Returns pictures [M, S, S], each convolved with a Gaussian of its own sigma [M] in pixels."""
    i = torch.arange(pictures.shape[1])
    kernel = torch.exp(-0.5 * ((i[:, None] - i) / sigma[:, None, None]) ** 2)
    kernel = kernel / kernel.sum(2, keepdim=True)
    return kernel @ pictures @ kernel.mT


def train_digit_reader(
    digits: Digits, updates: int = 6000, batch_size: int = 128, rate: float = 4e-3, seed: int = 0
) -> DigitReader:
    """Returns a new reader, with an exponential moving average of the trained weights.

    Args:
        digits: only those of the training split are used.
        updates: of AdamW; the rate rises to `rate` and falls to zero (one cycle).
        batch_size: windows per update.
        rate: the highest learning rate.
        seed: of the parameters and the windows.
    """
    training = SPLITS["train"]
    composer = Composer(digits.images[training], digits.labels[training], seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        reader = DigitReader()

        def loss_of(update: int) -> Tensor:
            windows = composer.batch(batch_size)
            return functional.cross_entropy(reader.layers(windows.pictures), windows.targets)

        return train_reader(reader, loss_of, updates, rate)


@torch.no_grad()
def robustness(reader: DigitReader, digits: Digits, batches: int) -> dict[str, Share]:
    """Returns how often the reader reads composed windows of test digits right.

    A smudge is right where it reads nothing.

    Args:
        batches: of 500 windows each.
    """
    test = SPLITS["test"]
    composer = Composer(digits.images[test], digits.labels[test], seed=0)
    parts = [composer.batch(500) for _ in range(batches)]
    right = torch.cat([readings(reader.layers(part.pictures)) == part.targets for part in parts])
    named, smudged = torch.cat([p.targets for p in parts]) != NOTHING, torch.cat([p.smudged for p in parts])
    return {
        kind: Share(int((right & among).sum()), int(among.sum()))
        for kind, among in (("distorted digits", named), ("smudges", smudged), ("other windows", ~named & ~smudged))
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the reader, measures it and saves it."""
    parser = argparse.ArgumentParser(
        prog="python -m aligndraw.training.digit_reader",
        description="Trains the digit reader, measures it on real pictures of test digits and saves both.",
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="file to write [the package's own]")
    parser.add_argument("--updates", type=int, default=6000, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    arguments = parser.parse_args(argv)
    # One thread: sums round alike on every machine.
    torch.set_num_threads(1)
    digits = load_digits()
    reader = train_digit_reader(digits, arguments.updates, seed=arguments.seed)
    score = score_reader(reader, digits, "test", n=EVALUATION_PICTURES)
    composed = robustness(reader, digits, batches=EVALUATION_PICTURES)
    reader.record = {
        "command": f"{parser.prog} --updates {arguments.updates} --seed {arguments.seed}",
        "versions": {"aligndraw": aligndraw.__version__, "torch": torch.__version__},
        "measured": f"on {EVALUATION_PICTURES} real pictures of each caption, composed of the test digits, seed 0",
        "accuracy": {group: share.to_dict() for group, share in score.faithful.items()},
        "composed": {kind: share.to_dict() for kind, share in composed.items()},
    }
    reader.save(arguments.out)
    for group, share in {**score.faithful, **composed}.items():
        print(f"{GROUPS.get(group, group)}: {share} % read right")
    print(f"wrote {escape(arguments.out)}")


if __name__ == "__main__":
    main()
