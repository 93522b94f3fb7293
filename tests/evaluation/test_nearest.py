"""Exact search, against sorting all distances at once."""

import numpy as np
import pytest

from aligndraw.evaluation.nearest import nearest_images

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("chunk", [3, 7, 100])
def test_all_distances(chunk):
    images = RNG.integers(0, 256, (40, 3, 4, 4), np.uint8)
    queries = RNG.integers(0, 256, (5, 3, 4, 4), np.uint8)
    all_ = np.sqrt(((queries[:, None] / 255.0 - images[None] / 255.0) ** 2).sum((2, 3, 4)))
    done = []
    where, distances = nearest_images(queries, images, 6, chunk, on_chunk=done.append)
    assert sum(done) == 40 and max(done) <= chunk
    assert where.tolist() == np.argsort(all_, 1)[:, :6].tolist()
    np.testing.assert_allclose(distances, np.sort(all_, 1)[:, :6], rtol=1e-12)


def test_mapped_images_and_ties(tmp_path):
    """Of equal images the first comes first, in other chunks too; an image in the set is at distance 0."""
    images = RNG.integers(0, 256, (9, 1, 3, 3), np.uint8)
    images[[2, 5, 8]] = images[5]
    np.save(tmp_path / "images.npy", images)
    where, distances = nearest_images(images[5:6], np.load(tmp_path / "images.npy", mmap_mode="r"), 3, 4)
    assert where.tolist() == [[2, 5, 8]]
    assert distances.tolist() == [[0, 0, 0]]


def test_what_does_not_fit():
    images = np.zeros((4, 3, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="shape of images"):
        nearest_images(np.zeros((1, 3, 2, 3), np.uint8), images)
    with pytest.raises(ValueError, match="count must be a whole number of at least 1 and below 5"):
        nearest_images(images, images, 5)
    with pytest.raises(ValueError, match="uint8 where images are, got float64 and uint8"):
        nearest_images(images / 255, images)
