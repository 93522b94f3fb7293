"""Gradient energy, by hand; and of real, drawn and sharpened pictures."""

import numpy as np
import pytest
import torch

from aligndraw.data import Scenes
from aligndraw.evaluation.drawing import draw_each
from aligndraw.evaluation.energy import gradient_energy, score_energy

EXAMPLES = Scenes("test").epoch(0, size=4)


def test_by_hand():
    images = torch.tensor([[[[0.0, 1.0, 0.5], [0.0, 0.0, 0.5]]], [[[0.3] * 3] * 2]])
    down, across = (0 + 1 + 0) / 3, (1 + 0.25 + 0 + 0.25) / 4
    torch.testing.assert_close(gradient_energy(images), torch.tensor([down + across, 0.0]))


def test_of_pictures(scene_model):
    """Two pictures a caption count as one value; sharpened ones are those that the sharpener returns."""
    done = []
    plain = score_energy(scene_model, EXAMPLES, n=2, seed=3, batch_size=3, on_batch=done.append)
    assert done == [3, 3, 2]
    real = gradient_energy(torch.from_numpy(EXAMPLES.pictures(slice(None))).float() / 255)
    assert plain.real.mean == pytest.approx(real.mean().item(), rel=1e-5)
    assert plain.real.error == pytest.approx(real.std().item() / 2, rel=1e-4)
    pictures = torch.cat([drawn for _, drawn in draw_each(scene_model, EXAMPLES, 2, 3)])
    values = gradient_energy(pictures).view(4, 2).mean(1)
    assert plain.drawn.mean == pytest.approx(values.mean().item(), rel=1e-4)
    assert plain.drawn.error == pytest.approx(values.std().item() / 2, rel=1e-3)
    told = []

    def doubled(captions, images):
        told.extend(captions)
        return 2 * images

    sharp = score_energy(scene_model, EXAMPLES, n=2, seed=3, batch_size=3, sharpen=doubled)
    assert sharp.real == plain.real and sharp.drawn.mean == pytest.approx(4 * plain.drawn.mean, rel=1e-4)
    assert told == np.repeat(EXAMPLES.captions(), 2).tolist()


def test_errors(scene_model):
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        score_energy(scene_model, EXAMPLES, n=0)
    with pytest.raises(ValueError, match="examples must be a whole number of at least 1, got 0"):
        score_energy(scene_model, [])
