"""Drawing for evaluations: pictures of the captions of examples, as drawn or sharpened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from aligndraw.arguments import check_int, check_seed
from aligndraw.data import CaptionReader, Examples, to_tensors
from aligndraw.model import PictureModel
from aligndraw.noise import stream

Sharpen = Callable[[Sequence[str], Tensor], Tensor]  # captions, images [n, C, H, W] in [0, 1] -> images of that shape


def draw_each(
    model: PictureModel,
    examples: Examples,
    n: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    sharpen: Sharpen | None = None,
    reader: CaptionReader | None = None,
    positions: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws n pictures of the caption of each example, those of an example in a row.

    Picture j of example i comes from random stream i + len(examples) · j, whatever n and the batch size.

    Args:
        model: on any device.
        examples: in the form that the model takes, or that `reader` reads.
        n: pictures per caption.
        seed: of the noise.
        batch_size: pictures per batch.
        sharpen: maps captions and pictures to sharp ones.
        reader: of the captions, where the examples are not in the form that the model takes.
        positions: of the examples to use; None for all.

    Yields:
        for each batch the true images of the captions, [B, C, H, W] in [0, 1] on the CPU, and the drawn pictures.

    Raises:
        ValueError: a number out of range, or no examples.
    """
    count = len(examples)
    for name, value in (("examples", count), ("n", n), ("batch_size", batch_size)):
        check_int(name, value, 1)
    check_seed(seed)
    device = next(model.parameters()).device
    wanted = range(count) if positions is None else positions
    for start in range(wanted.start * n, wanted.stop * n, batch_size):
        jobs = torch.arange(start, min(start + batch_size, wanted.stop * n))
        which, sample = jobs // n, jobs % n
        block = slice(int(which[0]), int(which[-1]) + 1)
        rows = which - block.start
        images, words, lengths = to_tensors(examples, block)
        if reader is not None:
            words, lengths = reader.encode_batch(examples.captions(block))
        streams = [stream(seed, i) for i in (which + count * sample).tolist()]
        drawn = model.sample(words[rows].to(device), lengths[rows].to(device), generator=streams).images
        if sharpen is not None:
            captions = examples.captions(block)
            drawn = sharpen([captions[row] for row in rows.tolist()], drawn)
        yield images[rows], drawn
