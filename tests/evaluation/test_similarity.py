"""SSIM, against its formula window by window and against scikit-image, and over the pictures of a model."""

import numpy as np
import pytest
import torch

from aligndraw.data import Scenes, to_tensors
from aligndraw.evaluation.similarity import score_similarity, ssim
from aligndraw.noise import stream


def pictures(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_window_by_window():
    a, b = pictures(2, 2, 12, 13)
    i, j = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(i**2 + j**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for c in range(2):
        for y in range(2):
            for x in range(3):
                u, v = (t[c, y : y + 11, x : x + 11].numpy() for t in (a, b))
                mu, mv = (weights * u).sum(), (weights * v).sum()
                su, sv = (weights * (u - mu) ** 2).sum(), (weights * (v - mv) ** 2).sum()
                cov = (weights * (u - mu) * (v - mv)).sum()
                values.append((2 * mu * mv + 1e-4) * (2 * cov + 9e-4) / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4)))
    assert ssim(a, b).item() == pytest.approx(np.mean(values), rel=1e-10)


def test_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures(2, 3, 32, 32)
    b = 0.7 * a + 0.3 * b
    wanted = metrics.structural_similarity(
        a.numpy(), b.numpy(), channel_axis=0, data_range=1,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(a, b).item() == pytest.approx(wanted, rel=1e-10)


def test_bounds_and_broadcasting():
    a = pictures(4, 3, 16, 16)
    torch.testing.assert_close(ssim(a, a), torch.ones(4, dtype=torch.float64))
    assert (ssim(a, 1 - a) < -0.5).all()
    torch.testing.assert_close(ssim(a, a[0])[2], ssim(a[2], a[0]))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(a[..., :10], a[..., :10])


def test_pictures_of_a_model(scene_model):
    """Every picture has a stream of its own, and ± is the spread over all pairs."""
    model = scene_model
    examples = Scenes("test").epoch(0, size=4)
    values = []
    for i in range(4):
        image, *caption = to_tensors(examples, slice(i, i + 1))
        for j in range(3):
            drawn = model.sample(*caption, noise=torch.randn(1, 2, 3, generator=stream(5, i + 4 * j)))
            values.append(ssim(drawn.images, image).item())
    done = []
    got = score_similarity(model, examples, samples=3, seed=5, batch_size=5, on_batch=done.append)
    assert done == [5, 5, 2]
    assert got.mean == pytest.approx(np.mean(values), rel=1e-4)
    assert got.spread == pytest.approx(np.std(values), rel=1e-3)
    assert got.spread > 0 and (got.captions, got.samples) == (4, 3)
    sharp = score_similarity(model, examples, samples=3, seed=5, batch_size=5, sharpen=lambda _, x: 0 * x + 0.5)
    grey = torch.full((4, 3, 32, 32), 0.5)
    assert sharp.mean == pytest.approx(ssim(grey, to_tensors(examples, slice(4))[0]).mean().item(), rel=1e-4)
