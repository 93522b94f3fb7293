"""The Gaussian filters of a window, made in registers from its five numbers, and what read and write share:
a patch drawn, and the gradient of a window. The formulas are those of `aligndraw.ops.window`.

Filters are taken SIZE at a time and pixels in tiles of TILE by TILE, in float32 (float64 for float64).
"""

import triton
import triton.language as tl
from aligndraw.kernels.scalar import clamp, exp, load, sigmoid

BLOCKS = {"SIZE": 16, "TILE": 32}
NORMALISER_FLOOR = tl.constexpr(1e-4)  # joins the sum of a filter: a window off the image reads 0
OPTIONS = {**BLOCKS, "num_stages": 1}  # tiles loaded ahead would take registers that there are not


@triton.jit
def product(a, b):
    """The matrix product a b, in the type of the arithmetic: never rounded to TF32."""
    return tl.dot(a, b, input_precision="ieee", out_dtype=a.dtype)


@triton.jit
def grid(window, height, width):
    """g_Y, g_X, delta~, 1 / 2 sigma^2 and gamma of the window at a pointer."""
    g_x, g_y = clamp(load(window), 8.0), clamp(load(window + 1), 8.0)
    sharpness = exp(-clamp(load(window + 2), 16.0)) * 0.5
    spacing = exp(clamp(load(window + 3), 16.0))
    gamma = exp(clamp(load(window + 4), 16.0))
    return (g_y + 1.0) * (height + 1) * 0.5, (g_x + 1.0) * (width + 1) * 0.5, spacing, sharpness, gamma


@triton.jit
def reaches(first, size, height, width, dtype: tl.constexpr, SIZE: tl.constexpr):
    """How far the filters from `first` on stand from the centre where delta~ = 1, in pixels: for p = 1, they do not.

    Only the division rounds, so that a filter that belongs on a pixel stands there, even if delta is no float: a tiny
    sigma makes much of any distance.
    """
    doubled = ((2 * (first + tl.arange(0, SIZE)) + 1 - size) * (tl.maximum(height, width) - 1)).to(dtype)
    gaps = tl.zeros_like(doubled) + 2 * tl.maximum(size - 1, 1)
    if dtype == tl.float32:
        result = tl.div_rn(doubled, gaps)
    else:
        result = doubled / gaps
    return result


@triton.jit
def gaussians(centres, sharpness, first, length, TILE: tl.constexpr):
    """The filters before they are normalised, on the pixels from `first` on."""
    pixel = first + tl.arange(0, TILE)
    distance = (pixel + 1) - centres[:, None]
    return tl.where(pixel < length, exp(-(distance * distance) * sharpness), 0.0)


@triton.jit
def scales(centres, sharpness, length, TILE: tl.constexpr):
    """The factor that normalises each filter of an axis: 1 / (its sum + NORMALISER_FLOOR)."""
    sums = tl.zeros_like(centres)
    for first in range(0, length, TILE):
        sums += tl.sum(gaussians(centres, sharpness, first, length, TILE), 1)
    return 1.0 / (sums + NORMALISER_FLOOR)


@triton.jit
def peaks(centres, length):
    """The pixel that is nearest to the centre of each filter, from 1."""
    nearest = tl.floor(centres + 0.5)
    nearest = tl.where(nearest < 1.0, 1.0, nearest)
    return tl.where(nearest > length, length, nearest)


@triton.jit
def from_peaks(peak, centres, first, TILE: tl.constexpr):
    """u = pixel - peak for the pixels from `first` on, and w = u (u + 2 peak_offset), peak_offset = peak - centre."""
    u = (first + tl.arange(0, TILE) + 1) - peak[:, None]
    return u, u * (u + 2.0 * (peak - centres)[:, None])


@triton.jit
def moments(peak, centres, sharpness, length, TILE: tl.constexpr):
    """The factor that normalises each filter F of an axis, and the numbers that `window_kernel` takes off u and w."""
    sums, first_moments, second_moments = tl.zeros_like(centres), tl.zeros_like(centres), tl.zeros_like(centres)
    for first in range(0, length, TILE):
        f = gaussians(centres, sharpness, first, length, TILE)
        u, w = from_peaks(peak, centres, first, TILE)
        sums += tl.sum(f, 1)
        first_moments += tl.sum(f * u, 1)
        second_moments += tl.sum(f * w, 1)
    scale = 1.0 / (sums + NORMALISER_FLOOR)
    peak_offset, deficit = peak - centres, scale * NORMALISER_FLOOR
    first, second = first_moments * scale, second_moments * scale
    return scale, first - deficit * peak_offset, second - deficit * peak_offset * peak_offset


@triton.jit
def tile_at(top, left, height, width, TILE: tl.constexpr):
    """The offsets of a tile's pixels in a plane, and which of them are inside."""
    y, x = top + tl.arange(0, TILE)[:, None], left + tl.arange(0, TILE)
    return y * width + x, (y < height) & (x < width)


@triton.jit
def patch_at(row, column, size, SIZE: tl.constexpr):
    """The same for a block of a patch."""
    i, j = row + tl.arange(0, SIZE)[:, None], column + tl.arange(0, SIZE)
    return i * size + j, (i < size) & (j < size)


@triton.jit
def drawn(patch, other, window, height, width, size, SIZE: tl.constexpr, TILE: tl.constexpr):
    """The program's own tile (its third number) of F_Y^T K F_X, for the patch K at a pointer, or the sum of two.

    Returns the tile [TILE, TILE], gamma, the offsets of the tile's pixels in a plane and which of them are inside.
    """
    columns = tl.cdiv(width, TILE)
    top, left = tl.program_id(2) // columns * TILE, tl.program_id(2) % columns * TILE
    centre_y, centre_x, spacing, sharpness, gamma = grid(window, height, width)
    dtype: tl.constexpr = gamma.dtype
    result = tl.zeros((TILE, TILE), dtype)
    for row in range(0, size, SIZE):
        mu_y = centre_y + reaches(row, size, height, width, dtype, SIZE) * spacing
        f_y = gaussians(mu_y, sharpness, top, height, TILE) * scales(mu_y, sharpness, height, TILE)[:, None]
        for column in range(0, size, SIZE):
            mu_x = centre_x + reaches(column, size, height, width, dtype, SIZE) * spacing
            f_x = gaussians(mu_x, sharpness, left, width, TILE) * scales(mu_x, sharpness, width, TILE)[:, None]
            at, inside = patch_at(row, column, size, SIZE)
            k = load(patch + at, inside)
            if other is not None:
                k += load(other + at, inside)
            result += product(tl.trans(f_y), product(k, f_x))
    at, inside = tile_at(top, left, height, width, TILE)
    return result, gamma, at, inside


@triton.jit
def _store_within(p, x, grad, limit):
    """Stores the gradient of clamp(x), which passes at the limits themselves."""
    x = load(x)
    tl.store(p, tl.where((x >= -limit) & (x <= limit), grad, 0.0))


@triton.jit
def window_kernel(
    pixels,
    canvas,
    patch,
    window,
    grad_window,
    glimpse,
    channels,
    height,
    width,
    size,
    POWER: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """The gradient of the window where the loss is the sum of K times gamma^POWER F_Y X F_X^T.

    pixels X [B, C, H, W], with a canvas also X - sigmoid(canvas); patch K, a plane for each [B, C or 2C, p, p];
    window [B, 5] -> grad_window [B, 5] and, unless it is None, glimpse gamma^POWER F_Y X F_X^T [B, C, p, p].

    With d = pixel - centre and floor = NORMALISER_FLOOR, the gradient of F[i, a] = e^... / (sum + floor) by its centre
    is F (d - sum of F d) / sigma^2, and by log sigma^2 it is F (d^2 - sum of F d^2) / 2 sigma^2: sums known before any
    pixel is. Where one pixel has nearly the whole filter these differences cancel, as the sum of F is 1 - deficit with
    deficit = floor / (sum + floor). So they are formed from the peak, the pixel nearest to the centre:

        d - sum of F d = u - (sum of F u - deficit peak_offset)
        d^2 - sum of F d^2 = w - (sum of F w - deficit peak_offset^2)

    with u = pixel - peak, peak_offset = peak - centre and w = u (u + 2 peak_offset).
    """
    image = tl.program_id(0).to(tl.int64)
    window += image * 5
    centre_y, centre_x, spacing, sharpness, gamma = grid(window, height, width)
    dtype: tl.constexpr = gamma.dtype
    glimpse_channels = channels if canvas is None else channels * 2
    scale = gamma if POWER == 1 else 1.0 / gamma
    zero = tl.zeros_like(gamma)
    d_y, d_x, d_spacing, d_log_variance, d_log_gamma = zero, zero, zero, zero, zero
    for row in range(0, size, SIZE):
        reach_y = reaches(row, size, height, width, dtype, SIZE)
        mu_y = centre_y + reach_y * spacing
        peak_y = peaks(mu_y, height)
        scale_y, offset_y, square_y = moments(peak_y, mu_y, sharpness, height, TILE)
        for column in range(0, size, SIZE):
            reach_x = reaches(column, size, height, width, dtype, SIZE)
            mu_x = centre_x + reach_x * spacing
            peak_x = peaks(mu_x, width)
            scale_x, offset_x, square_x = moments(peak_x, mu_x, sharpness, width, TILE)
            at, inside = patch_at(row, column, size, SIZE)
            grad_first_y, grad_second_y = tl.zeros((SIZE,), dtype), tl.zeros((SIZE,), dtype)
            grad_first_x, grad_second_x = tl.zeros((SIZE,), dtype), tl.zeros((SIZE,), dtype)
            for plane in range(0, glimpse_channels):
                k = scale * load(patch + (image * glimpse_channels + plane) * size * size + at, inside)
                seen = tl.zeros((SIZE, SIZE), dtype)
                start = (image * channels + plane % channels) * height * width
                for top in range(0, height, TILE):
                    f_y = gaussians(mu_y, sharpness, top, height, TILE) * scale_y[:, None]
                    u_y, w_y = from_peaks(peak_y, mu_y, top, TILE)
                    for left in range(0, width, TILE):
                        f_x = gaussians(mu_x, sharpness, left, width, TILE) * scale_x[:, None]
                        u_x, w_x = from_peaks(peak_x, mu_x, left, TILE)
                        tile, on_image = tile_at(top, left, height, width, TILE)
                        x = load(pixels + start + tile, on_image)
                        if canvas is not None:
                            if plane >= channels:
                                x -= sigmoid(load(canvas + start + tile, on_image))
                        rows = product(f_y, x)
                        seen += product(rows, tl.trans(f_x))
                        of_y = product(product(k, f_x), tl.trans(x)) * f_y
                        of_x = product(tl.trans(k), rows) * f_x
                        grad_first_y += tl.sum(of_y * (u_y - offset_y[:, None]), 1)
                        grad_first_x += tl.sum(of_x * (u_x - offset_x[:, None]), 1)
                        grad_second_y += tl.sum(of_y * (w_y - square_y[:, None]), 1)
                        grad_second_x += tl.sum(of_x * (w_x - square_x[:, None]), 1)
                d_log_gamma += POWER * tl.sum(k * seen)
                if glimpse is not None:
                    tl.store(glimpse + (image * glimpse_channels + plane) * size * size + at, scale * seen, inside)
            d_y += 2.0 * sharpness * tl.sum(grad_first_y)
            d_x += 2.0 * sharpness * tl.sum(grad_first_x)
            d_spacing += 2.0 * sharpness * (tl.sum(reach_y * grad_first_y) + tl.sum(reach_x * grad_first_x))
            d_log_variance += sharpness * (tl.sum(grad_second_y) + tl.sum(grad_second_x))
    grad_window += image * 5
    _store_within(grad_window, window, d_x * (width + 1) * 0.5, 8.0)
    _store_within(grad_window + 1, window + 1, d_y * (height + 1) * 0.5, 8.0)
    _store_within(grad_window + 2, window + 2, d_log_variance, 16.0)
    _store_within(grad_window + 3, window + 3, d_spacing * spacing, 16.0)
    _store_within(grad_window + 4, window + 4, d_log_gamma, 16.0)


def tile_count(height: int, width: int) -> int:
    """How many tiles cover a plane."""
    return int(triton.cdiv(height, BLOCKS["TILE"]) * triton.cdiv(width, BLOCKS["TILE"]))
