"""write, against the equations evaluated one number at a time."""

import math

import pytest
import torch

from aligndraw import ops


def filters(window, size, height, width):
    """F_Y [p][H], F_X [p][W] and γ of one window, in plain Python floats."""
    g_x, g_y, log_var, log_delta, log_gamma = window
    g_x, g_y = (min(max(g, -8.0), 8.0) for g in (g_x, g_y))
    log_var, log_delta, log_gamma = (min(max(v, -16.0), 16.0) for v in (log_var, log_delta, log_gamma))
    delta = (max(height, width) - 1) / (size - 1) * math.exp(log_delta) if size > 1 else 0.0

    def bank(g, length):
        centre = (length + 1) / 2 * (g + 1)
        rows = []
        for i in range(1, size + 1):
            mu = centre + (i - size / 2 - 0.5) * delta
            row = [math.exp(-((a - mu) ** 2) / (2 * math.exp(log_var))) for a in range(1, length + 1)]
            rows.append([v / (sum(row) + 1e-4) for v in row])
        return rows

    return bank(g_y, height), bank(g_x, width), math.exp(log_gamma)


@pytest.mark.parametrize("shape", ["odd", "one"])
@pytest.mark.parametrize("window", ["initial", "trained", "off_image", "clamped"])
def test_equation(shape, window, make):
    patch, windows, canvas = make("write", shape, window=window)
    drawn = ops.write(patch, windows, canvas)
    size = patch.shape[-1]
    for b in range(len(canvas)):
        f_y, f_x, gamma = filters(windows[b].tolist(), size, *canvas.shape[2:])
        for c in range(canvas.shape[1]):
            for y in range(canvas.shape[2]):
                for x in range(canvas.shape[3]):
                    added = sum(
                        f_y[j][y] * patch[b, c, j, i].item() * f_x[i][x] for j in range(size) for i in range(size)
                    )
                    wanted = canvas[b, c, y, x].item() + added / gamma
                    assert drawn[b, c, y, x].item() == pytest.approx(wanted, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("shape", ["odd", "one"])
@pytest.mark.parametrize("window", ["initial", "trained", "off_image", "clamped"])
def test_read_is_its_transpose(shape, window, make):
    """⟨read(x), k⟩ = γ² ⟨x, write(k)⟩ with one window: the two ops share their filters."""
    patch, windows, canvas = make("write", shape, window=window)
    glimpse = ops.read(canvas, windows, patch.shape[-1])
    gamma = windows[:, 4].clamp(-16, 16).exp()
    drawn = ops.write(patch, windows, torch.zeros_like(canvas))
    left = (glimpse * patch).sum((1, 2, 3))
    right = gamma**2 * (drawn * canvas).sum((1, 2, 3))
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_a_window_beyond_its_limits_has_no_gradient(make):
    patch, windows, canvas = make("write", window="clamped")
    windows.requires_grad_()
    ops.write(patch, windows, canvas).sum().backward()
    assert (windows.grad == 0).all()


def test_half_precision_canvas_and_float_arithmetic(make):
    """bfloat16 patches on a float32 canvas are drawn with float32 arithmetic."""
    patch, windows, canvas = make("write", dtype=torch.float32)
    half = patch.bfloat16()
    torch.testing.assert_close(
        ops.write(half, windows, canvas), ops.write(half.float(), windows, canvas), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda k, w, c: (k[:, :1], w, c),
            r"write: patch must have shape \[B, C, p, p\] = \[3, 2, 4, p\], got \[3, 1, 4, 4\]",
        ),
        (lambda k, w, c: (k[..., :3], w, c), r"write: patch must have shape .* got \[3, 2, 4, 3\]"),
        (
            lambda k, w, c: (k, w[:, :4], c),
            r"write: window must have shape \[B, 5\] = \[3, 5\], got \[3, 4\]",
        ),
        (lambda k, w, c: (k, w, c[0]), r"write: canvas must have shape \[B, C, H, W\], got \[2, 7, 11\]"),
        (lambda k, w, c: (k, w.float(), c), r"write: window must be float64 like patch, got float32"),
        (lambda k, w, c: (k.float(), w, c.float()), r"write: patch must be float64 like window, got float32"),
        (
            lambda k, w, c: (k.long(), w, c),
            r"write: patch must be float32, float64, bfloat16 or float16, got int64",
        ),
        (lambda k, w, c: (k, w.to("meta"), c), r"write: window must be on cpu like patch, got meta"),
        (
            lambda k, w, c: (k[..., :0, :0], w, c),
            r"write: patch must have p of at least 1, got \[3, 2, 0, 0\]",
        ),
    ],
)
def test_errors(change, message, make):
    with pytest.raises(RuntimeError, match=message):
        ops.write(*change(*make("write")))
