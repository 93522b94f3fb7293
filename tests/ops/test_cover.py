"""cover, against its formula in plain PyTorch."""

import math

import pytest
import torch

from aligndraw import ops
from aligndraw.ops.cover import cover_backward

CHANNELS, SIZE, HEIGHT, WIDTH = 2, 4, 9, 7


def arguments(dtype=torch.float64, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    patch = torch.randn(batch, CHANNELS + 1, SIZE, SIZE, generator=generator, dtype=torch.float64)
    patch[:, -1] = patch[:, -1].sigmoid()
    window = 0.4 * torch.randn(batch, 5, generator=generator, dtype=torch.float64)
    canvas = torch.randn(batch, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    return [t.to(dtype) for t in (patch, window, canvas)]


def plain(patch, window, canvas):
    """The formula, by the filterbanks."""
    f_y, f_x, gamma = ops.filterbanks(window, patch.shape[-1], *canvas.shape[-2:])
    drawn = torch.einsum("bjy,bcji,bix->bcyx", f_y, patch, f_x)
    distance = (max(canvas.shape[-2:]) - 1) / (patch.shape[-1] - 1) * window[:, 3].clamp(-16, 16).exp()
    hidden = (distance.square()[:, None, None, None] * drawn[:, -1:]).clamp(max=1)
    return (1 - hidden) * canvas + drawn[:, :-1] / gamma[:, None, None, None]


def test_formula():
    torch.testing.assert_close(ops.cover(*arguments()), plain(*arguments()), rtol=1e-12, atol=1e-12)


def test_what_is_opaque_hides_the_canvas():
    patch, window, canvas = arguments()
    window[:] = torch.tensor([0.0, 0.0, 2 * math.log(8 / 3 / 2), 0.0, 0.3])  # the whole height, σ = δ/2
    patch[:, -1] = 1
    others = ops.cover(patch, window, canvas) - ops.cover(patch, window, 100 * canvas)
    assert others.abs().max() < 0.05 * 100 and (others == 0).double().mean() > 0.5
    patch[:, -1] = 0
    torch.testing.assert_close(ops.cover(patch, window, canvas), ops.write(patch[:, :-1].contiguous(), window, canvas))


def test_gradients():
    inputs = [t.requires_grad_() for t in arguments()]
    assert torch.autograd.gradcheck(ops.cover, inputs)
    wanted = torch.autograd.grad(plain(*inputs).square().sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(ops.cover(*inputs).square().sum(), inputs), wanted)
    patch, window, canvas = (t.detach() for t in inputs)
    grad = 2 * ops.cover(patch, window, canvas)
    kernels = torch.ops.aligndraw.write.default, torch.ops.aligndraw.write_backward.default
    torch.testing.assert_close(cover_backward(*kernels, grad, patch, window, canvas), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_is_as_exact_as_the_formula_in_single_precision(seed):
    exact = plain(*arguments(batch=20, seed=seed))
    ours, theirs = (
        (f(*arguments(torch.float32, 20, seed)) - exact).abs().max() / exact.abs().max() for f in (ops.cover, plain)
    )
    assert ours <= 2 * theirs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    inputs = arguments(dtype)
    drawn = ops.cover(*inputs)
    assert drawn.dtype == dtype
    wanted = plain(*(t.double() for t in inputs))
    assert (drawn.double() - wanted).abs().max() <= 3 * torch.finfo(dtype).eps * wanted.abs().max()


def test_no_row_depends_on_another():
    patch, window, canvas = arguments()
    alone = ops.cover(patch[:1], window[:1], canvas[:1])
    for tensor in (patch, window, canvas):
        tensor[1:] = math.nan
    assert torch.equal(ops.cover(patch, window, canvas)[:1], alone)
    assert ops.cover(*(t[:0] for t in (patch, window, canvas))).shape == (0, CHANNELS, HEIGHT, WIDTH)


def test_transforms():
    patch, window, canvas = arguments()
    many = torch.func.vmap(lambda *one: ops.cover(*(t[None] for t in one))[0])(patch, window, canvas)
    torch.testing.assert_close(many, ops.cover(patch, window, canvas))
    grad = torch.func.grad(lambda w: ops.cover(patch, w, canvas).square().sum())(window)
    torch.testing.assert_close(grad, torch.func.grad(lambda w: plain(patch, w, canvas).square().sum())(window))


def test_one_filter_hides_nothing():
    patch, window, canvas = arguments()
    one = patch[..., :1, :1]
    torch.testing.assert_close(ops.cover(one, window, canvas), ops.write(one[:, :-1].contiguous(), window, canvas))


@pytest.mark.parametrize(("change", "message"), [
    (lambda p, w, c: (p[:, 1:], w, c), r"patch must have shape \[B, C \+ 1, p, p\] = \[3, 3, 4, p\], got \[3, 2, .*"),
    (lambda p, w, c: (p, w[:, :4], c), r"window must have shape \[B, 5\] = \[3, 5\], got \[3, 4\]"),
    (lambda p, w, c: (p, w, c[0]), r"canvas must have shape \[B, C, H, W\], got \[2, 9, 7\]"),
])  # fmt: skip
def test_wrong_arguments(change, message):
    with pytest.raises(RuntimeError, match="cover: " + message):
        ops.cover(*change(*arguments()))
