"""read, against its parts and the transposed write; the equations themselves are in test_write.py."""

import pytest
import torch

from aligndraw import ops


def test_with_a_canvas_it_reads_image_and_error(make):
    image, window, size, canvas = make("read")
    both = ops.read(image, window, size, canvas)
    seen, missing = both.chunk(2, 1)
    torch.testing.assert_close(seen, ops.read(image, window, size), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(missing, ops.read(image - canvas.sigmoid(), window, size), rtol=1e-12, atol=1e-14)


def test_a_whole_image_window_reads_the_mean(make):
    """With a huge variance, every filter averages the image."""
    image, _, size, _ = make("read")
    window = torch.tensor([[0.0, 0.0, 16.0, 0.0, 0.0]], dtype=image.dtype).expand(len(image), 5)
    glimpse = ops.read(image, window, size)
    torch.testing.assert_close(glimpse, image.mean((2, 3), keepdim=True).expand_as(glimpse), rtol=1e-4, atol=0)


def test_a_sharp_window_reads_pixels():
    """δ = 1 pixel and a tiny variance: the glimpse is the patch of the image under the grid."""
    image = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    log_delta = torch.tensor(2 / 8, dtype=torch.float64).log()  # δ = 8/2 · δ̃
    window = torch.tensor([[0.2, -0.2, -9.0, log_delta, 0.0]], dtype=torch.float64)  # centre (6, 4)
    glimpse = ops.read(image, window, 3)
    torch.testing.assert_close(glimpse[0, 0], image[0, 0, 2:5, 4:7], rtol=2e-4, atol=0)


def test_pixels_whose_sum_overflows_are_read():
    """They are finite, though the sum by which the kernels look for others is not."""
    image = torch.full((1, 1, 64, 64), 1e37)
    window = torch.tensor([[0.1, -0.2, 0.5, -1.0, 0.0]])
    canvas = torch.zeros_like(image)
    found = ops.read(image, window, 3, canvas)
    torch.testing.assert_close(found, ops.read_reference(image.double(), window.double(), 3, canvas.double()).float())


def test_off_the_image_it_reads_nothing(make):
    image, window, size, _ = make("read", window="off_image")
    assert ops.read(image, window, size).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, p, c: (x[0], w, p, c), r"read: image must have shape \[B, C, H, W\], got \[2, 7, 11\]"),
        (
            lambda x, w, p, c: (x, w[:2], p, c),
            r"read: window must have shape \[B, 5\] = \[3, 5\], got \[2, 5\]",
        ),
        (lambda x, w, p, c: (x, w, 0, c), r"read: size must be at least 1, got 0"),
        (
            lambda x, w, p, c: (x, w, p, c[..., :5]),
            r"read: canvas must have shape .* = \[3, 2, 7, 11\], got \[3, 2, 7, 5\]",
        ),
        (lambda x, w, p, c: (x, w, p, c.float()), r"read: canvas must be float64 like image, got float32"),
        (lambda x, w, p, c: (x.int(), w, p, c), r"read: image must be float32, .* got int32"),
    ],
)
def test_errors(change, message, make):
    with pytest.raises(RuntimeError, match=message):
        ops.read(*change(*make("read")))
