"""Which digit a model takes a picture for: its bound under captions that name each of the ten. docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aligndraw.data import VOCABULARY, CaptionReader, Digits, MNISTCaptions, as_images, caption
from aligndraw.data.mnist_captions import Split
from aligndraw.model import Model
from aligndraw.noise import stream
from aligndraw.text import Vocabulary


@torch.no_grad()
def naming_costs(
    model: Model,
    digits: Digits,
    placements: Sequence[tuple[int, int, int]],
    which: int = 0,
    split: Split = "validation",
    seed: int = 0,
    *,
    captions: CaptionReader = VOCABULARY,
    batch_size: int = 100,
) -> Tensor:
    """Returns the bound of a picture of each placement under captions that name 0 to 9, in nats [P, 10].

    A picture has the same noise under all ten captions. Their differences are those of log p(x | y), as far as the
    bound is tight: e to the minus of them is how much likelier one digit is than another, to the model.

    Args:
        model: of grey pictures of 60 x 60 pixels, on any device.
        digits: the digits that it was trained with.
        placements: P triples of template, a and b.
        which: the digit whose name changes: 0 for a, 1 for b.
        split: of the digits in the pictures.
        seed: of the pictures and of the noise.
        captions: what reads captions for the model.
        batch_size: pictures at a time.

    Raises:
        ValueError: b is to change and a placement has none; or a vocabulary without one of the words.
    """
    if which not in (0, 1) or (which == 1 and any(b < 0 for _, _, b in placements)):
        raise ValueError(f"which must be 0, or 1 where all placements have a digit b, got {which}")
    examples, device = MNISTCaptions(digits, split).for_placements(placements, seed), model.canvas.device
    costs = torch.empty(len(placements), 10, dtype=torch.float64)
    for start in range(0, len(placements), batch_size):
        block = range(start, min(start + batch_size, len(placements)))
        pictures, *_ = examples.batch(slice(block.start, block.stop))
        images = as_images(torch.from_numpy(pictures)).to(device)
        for digit in range(10):
            texts = [
                caption(k, *((digit, b) if which == 0 else (a, digit))) for k, a, b in (placements[i] for i in block)
            ]
            if isinstance(captions, Vocabulary):
                captions.check_known(texts)
            ids, lengths = (t.to(device) for t in captions.encode_batch(texts))
            bound = model(images, ids, lengths, generator=[stream(seed, i) for i in block])
            costs[block.start : block.stop, digit] = (bound.kl + bound.nll).double().cpu()
    return costs
