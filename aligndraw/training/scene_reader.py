"""Trains the scene reader that ships with the package, in minutes on one core:

    python -m aligndraw.training.scene_reader

The training scenes show all combinations, with faint noise; half of them are blurred, so that the reader accepts the
soft but clear pictures of a model. See docs/evaluation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import aligndraw
from aligndraw.data import Scenes, as_images
from aligndraw.data.scenes import Combinations
from aligndraw.evaluation.attributes import GROUPS, score_scene_reader
from aligndraw.evaluation.scene_reader import SceneReader, by_attribute
from aligndraw.printable import escape
from aligndraw.training.digit_reader import blur
from aligndraw.training.reader import train_reader

EVALUATION_PICTURES = 5000  # real ones of each kind that the reader is measured on


def scene_batch(seed: int, index: int, size: int) -> tuple[Tensor, Tensor]:
    """Returns batch number `index`: pictures [B, 3, 32, 32] in [0, 1] and attributes int64 [B, 7].

    Args:
        seed: of all random choices, together with the index.
        size: B; a quarter shows held-out combinations, their share of all combinations.
    """
    few = size // 4
    sizes = {"seen": size - few, "held_out": few}
    parts = [Scenes("train", kind).epoch(seed, index, sizes[kind]) for kind in get_args(Combinations)]
    pictures = as_images(torch.from_numpy(np.concatenate([part.pictures(slice(None)) for part in parts])))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    sigma = torch.rand(size, generator=generator) * 2.4 - 1.2  # pixels; half stay sharp
    pictures = blur(pictures.flatten(0, 1), sigma.clamp(min=0.1).repeat_interleave(3)).unflatten(0, (size, 3))
    pictures = pictures + 0.04 * torch.rand(size, 1, 1, 1, generator=generator) * torch.randn(
        pictures.shape, generator=generator
    )
    return pictures.clamp(0, 1), torch.from_numpy(np.concatenate([part.attributes for part in parts]))


def train_scene_reader(updates: int = 2000, batch_size: int = 128, rate: float = 4e-3, seed: int = 0) -> SceneReader:
    """Returns a new reader, with an exponential moving average of the trained weights.

    Args:
        updates: of AdamW; the rate rises to `rate` and falls to zero (one cycle).
        batch_size: pictures per update.
        rate: the highest learning rate.
        seed: of the parameters and the pictures.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        reader = SceneReader()

    def loss_of(update: int) -> Tensor:
        pictures, attributes = scene_batch(seed, update, batch_size)
        logits = by_attribute(reader(pictures))
        return torch.stack([functional.cross_entropy(*both) for both in zip(logits, attributes.unbind(1))]).sum()

    return train_reader(reader, loss_of, updates, rate)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the reader, measures it and saves it."""
    parser = argparse.ArgumentParser(
        prog="python -m aligndraw.training.scene_reader",
        description="Trains the scene reader, measures it on real pictures of the test split and saves both.",
    )
    parser.add_argument("--out", type=Path, default=SceneReader.shipped, help="file to write [the package's own]")
    parser.add_argument("--updates", type=int, default=2000, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    arguments = parser.parse_args(argv)
    # One thread: sums round alike on every machine.
    torch.set_num_threads(1)
    reader = train_scene_reader(arguments.updates, seed=arguments.seed)
    accuracy = score_scene_reader(reader, "test", EVALUATION_PICTURES)
    reader.record = {
        "command": f"{parser.prog} --updates {arguments.updates} --seed {arguments.seed}",
        "versions": {"aligndraw": aligndraw.__version__, "torch": torch.__version__},
        "measured": f"on {EVALUATION_PICTURES} real pictures of each kind, test split, seed 0",
        "accuracy": {
            kind: {group: share.to_dict() for group, share in part.shares.items()} for kind, part in accuracy.items()
        },
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    reader.save(arguments.out)
    for kind, part in accuracy.items():
        for group, share in part.shares.items():
            print(f"{kind}, {GROUPS[group]}: {share} % read right")
    print(f"wrote {escape(arguments.out)}")


if __name__ == "__main__":
    main()
