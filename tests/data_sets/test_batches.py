"""Pictures that a device makes by itself of what lies there once."""

import numpy as np
import pytest
import torch

from aligndraw.data import (
    CaptionedImages,
    CaptionedWriter,
    MNISTCaptions,
    Resident,
    Scenes,
    as_images,
    load_digits,
    to_parts,
    to_tensors,
)
from aligndraw.data.compositing import composite_reference, composite_tensors


def made(examples, rows):
    parts, words, lengths = to_parts(examples, rows)
    return as_images(examples.compose(torch.from_numpy(np.array(examples.images)), *parts)), words, lengths


@pytest.mark.parametrize("placements", ["seen", "held_out"])
def test_digits(placements):
    examples = MNISTCaptions(load_digits(), placements=placements).epoch(seed=3, size=200)
    assert isinstance(examples, Resident)
    for rows in (slice(0, 200), slice(7, 8), slice(5, 5)):
        for ours, theirs in zip(made(examples, rows), to_tensors(examples, rows), strict=True):
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    assert (examples.digits[:, 1] < 0).any() and (examples.digits[:, 1] >= 0).any()


def test_digits_that_overlap_and_touch_the_edges():
    digits = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    which = np.array([[0, 1], [2, -1], [1, 1]])
    rows, columns = np.array([[0, 2], [3, 0], [1, 3]]), np.array([[0, 3], [4, 0], [2, 4]])
    first, second = (np.ascontiguousarray(which[:, k]) for k in (0, 1))
    expected = composite_reference(digits, first, second, rows, columns, 7, 9)
    found = composite_tensors(*map(torch.from_numpy, (digits, which, rows, columns)), 7, 9)
    assert torch.equal(found, torch.from_numpy(expected))


def test_stored_images(tmp_path):
    scenes = Scenes().epoch(seed=0, size=12)
    names = [f"{i}" for i in range(12)]
    with CaptionedWriter(tmp_path / "set", (3, 32, 32), {}) as writer:
        writer.store("train", names, scenes.pictures(slice(None)))
        captions = [(name, text) for name, caption in zip(names, scenes.captions()) for text in (caption, "the same")]
        writer.finish({"train": captions})
    examples = CaptionedImages.open(tmp_path / "set").split("train").epoch(seed=1, size=20)
    assert isinstance(examples, Resident) and not isinstance(scenes, Resident)
    for ours, theirs in zip(made(examples, slice(3, 17)), to_tensors(examples, slice(3, 17)), strict=True):
        assert torch.equal(ours, theirs)
