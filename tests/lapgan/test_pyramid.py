"""The pyramid, against loops over pixels in NumPy."""

import numpy as np
import pytest
import torch

from aligndraw.lapgan import pyramid

SIZES = [(32, 32), (28, 28), (7, 12), (5, 5), (1, 9), (2, 1), (1, 1)]


def boxed(line, fewer):
    """The exact box average of a line: the integral of the step function over each box."""
    integral = np.concatenate([[0.0], np.cumsum(line)])
    ends = np.interp(np.linspace(0, len(line), fewer + 1), np.arange(len(line) + 1), integral)
    return np.diff(ends) * fewer / len(line)


def stretched(line, more):
    return np.interp(np.linspace(0, len(line) - 1, more), np.arange(len(line)), line)


def both_ways(function, image, size):
    """A function of lines, over the columns and then the rows of an image."""
    columns = np.stack([function(image[:, j], size[0]) for j in range(image.shape[1])], 1)
    return np.stack([function(row, size[1]) for row in columns])


@pytest.mark.parametrize("size", SIZES)
def test_down_and_up(size):
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    small = pyramid.halved(size)
    for b, c in np.ndindex(2, 3):
        image = images[b, c].numpy()
        expected = both_ways(boxed, image, small)
        np.testing.assert_allclose(pyramid.down(images)[b, c], expected, rtol=0, atol=1e-14)
        expected = both_ways(stretched, expected, size)
        np.testing.assert_allclose(pyramid.coarse(images)[b, c], expected, rtol=0, atol=1e-14)


def test_any_ratio():
    images = torch.rand(1, 1, 7, 12, dtype=torch.float64)
    expected = both_ways(boxed, images[0, 0].numpy(), (3, 5))
    np.testing.assert_allclose(pyramid.down(images, (3, 5))[0, 0], expected, rtol=0, atol=1e-14)


def test_halving_is_the_mean_of_four():
    images = torch.randint(256, (2, 1, 6, 10)).float() / 256  # sums of four are exact
    assert torch.equal(pyramid.down(images), torch.nn.functional.avg_pool2d(images, 2))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [0, 1, 3])
def test_reconstruction(size, levels):
    images = torch.rand(2, 3, *size)
    residuals, left = pyramid.build(images, levels)
    assert len(residuals) == levels
    torch.testing.assert_close(pyramid.reconstruct(residuals, left), images, rtol=0, atol=5e-7)


def test_autocast_leaves_it_alone():
    images = torch.rand(1, 2, 8, 6)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = pyramid.coarse(images)
    assert torch.equal(rounded, pyramid.coarse(images))


def test_residuals_hold_what_is_missed():
    images = torch.rand(1, 1, 8, 6)
    (finest, coarser), left = pyramid.build(images, 2)
    assert left.shape == (1, 1, 2, 2) and coarser.shape == (1, 1, 4, 3)
    torch.testing.assert_close(finest, images - pyramid.coarse(images))
    assert finest.abs().max() > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pyramid.down(torch.rand(3, 4, 4)), r"shape \[B, C, H, W\], got torch.float32 of shape \[3, 4, 4\]"),
        (lambda: pyramid.down(torch.ones(1, 1, 4, 4, dtype=torch.int64)), "must be floats .* got torch.int64"),
        (lambda: pyramid.down(torch.rand(1, 1, 4, 4), (5, 4)), "from 1 x 1 to 4 x 4, that of the images, got 5 x 4"),
        (lambda: pyramid.build(torch.rand(1, 1, 4, 4), -1), "levels must be a whole number of at least 0, got -1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
