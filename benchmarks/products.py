"""The matrix products that a training step or a sampling cannot do without: the floor to measure from.

A loop that had no other cost would take their time: the model's time over theirs says what all the rest costs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import WORDS
from torch import Tensor

from aligndraw import AlignDRAWConfig

Product = tuple[int, int, int]  # [m, k] times [k, n]


def training(config: AlignDRAWConfig, batch: int) -> list[tuple[int, Product]]:
    """(how many times, product) of the bound and of all gradients, those of a weight being one over all steps."""
    c = config
    glimpse = 2 * c.channels * c.read_size**2
    words, m = 2 * c.language_units, c.language_units
    heads = c.align_units + 2 * c.latent_units + c.channels * c.write_size**2 + 10
    steps = [  # inputs and outputs of each linear map in a step
        (glimpse + c.decoder_units, 4 * c.encoder_units),
        (c.encoder_units, 4 * c.encoder_units),
        (c.encoder_units, 2 * c.latent_units),
        (c.latent_units + words, 4 * c.decoder_units),
        (c.decoder_units, 4 * c.decoder_units),
        (c.decoder_units, heads),
    ]
    maps = [(c.steps, 1, size) for size in steps]
    maps += [(WORDS, 1, (m, 4 * m))] * 2 + [(1, WORDS, (words, c.align_units))]
    found: list[tuple[int, Product]] = []
    for times, rows, (inputs, outputs) in maps:
        found.append((times, (batch * rows, inputs, outputs)))
        found.append((times, (batch * rows, outputs, inputs)))
        found.append((1, (outputs, times * batch * rows, inputs)))
    return found


def sampling(config: AlignDRAWConfig, batch: int) -> list[tuple[int, Product]]:
    """(how many times, product) of T steps with the prior's latents."""
    c = config
    words, m = 2 * c.language_units, c.language_units
    heads = c.align_units + 2 * c.latent_units + c.channels * c.write_size**2 + 5
    return [
        (c.steps, (batch, c.latent_units, 4 * c.decoder_units)),
        (c.steps, (batch, c.decoder_units, 4 * c.decoder_units)),
        (c.steps, (batch, c.decoder_units, heads)),
        (2 * WORDS, (batch, m, 4 * m)),
        (1, (batch * WORDS, words, c.align_units)),
        (1, (batch * WORDS, words, 4 * c.decoder_units)),
    ]


def call(products: list[tuple[int, Product]], device: str) -> Callable[[], None]:
    """What is timed: `torch.mm` into memory that is there, the second factor as weights stand, [n, k]."""
    work: list[tuple[int, Tensor, Tensor, Tensor]] = []
    for times, (m, k, n) in products:
        # Drawn on the CPU: a GPU's generator draws nothing after a capture that failed.
        a, b, out = (torch.randn(shape).to(device) for shape in ((m, k), (n, k), (m, n)))
        work.append((times, a, b.mT, out))

    def run() -> None:
        for times, a, b, out in work:
            for _ in range(times):
                torch.mm(a, b, out=out)

    return run


def flops(products: list[tuple[int, Product]]) -> int:
    """Additions and multiplications."""
    return sum(2 * times * m * k * n for times, (m, k, n) in products)
