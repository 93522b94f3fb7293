"""Arguments for each op, in odd shapes, for the tests that hold for all of them."""

import math

import pytest
import torch

import aligndraw
from aligndraw import ops

WINDOWS = {
    "initial": (0.0, 0.02, 0.0, 0.01, 0.0),
    "trained": (0.3, -0.4, 0.5, -1.2, 0.4),
    "off_image": (4.0, -6.0, -2.0, -1.0, 0.3),
    "clamped": (9.0, -9.0, 17.0, -17.0, 20.0),
}
SHAPES = {  # B, C, H, W, p, N, l, d, n
    "odd": (3, 2, 7, 11, 4, 5, 6, 3, 5),
    "one": (1, 1, 5, 3, 1, 1, 1, 1, 1),
    "none": (0, 1, 6, 4, 2, 3, 4, 5, 2),
    "large": (2, 1, 35, 33, 17, 18, 70, 66, 260),  # more than one block or tile of every kernel, and a rest
}


def windows(kind, batch, dtype):
    offsets = torch.randn(batch, 5, dtype=torch.float64) * 0.05
    return (torch.tensor(WINDOWS[kind], dtype=torch.float64) + offsets).to(dtype)


def arguments(op, shape="odd", dtype=torch.float64, window="trained"):
    """Positional arguments of an op, the same numbers every time."""
    batch, channels, height, width, size, words, units, values, cells = SHAPES[shape]
    torch.manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64).to(dtype)

    if op == "read":
        image = torch.rand(batch, channels, height, width, dtype=torch.float64).to(dtype)
        return image, windows(window, batch, dtype), size, random(batch, channels, height, width)
    if op == "write":
        patch, canvas = random(batch, channels, size, size), random(batch, channels, height, width)
        return patch, windows(window, batch, dtype), canvas
    if op == "attend":
        lengths = torch.linspace(1, words, batch).long()
        keys, query = random(batch, words, units), random(batch, units)
        return query, keys, random(units), random(batch, words, values), lengths
    if op == "lstm_gates":
        return random(batch, 4 * cells) * 2, random(batch, cells)
    assert op == "latent"
    return tuple(random(batch, cells) for _ in range(5))


@pytest.fixture
def make():
    return arguments


@pytest.fixture(params=ops.OPS)
def op(request):
    return request.param


def leaves(args):
    """The floating tensors among arguments, asking for gradients."""
    return [a.requires_grad_() for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]


@pytest.fixture
def asking():
    return leaves


def jittered(tensor, generator):
    """Every number moved by some 3 %, but for those that may be at or beyond the limits of a window."""
    noise = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
    return torch.where(tensor.abs() < 8, tensor.double() * (1 + 2**-5 * noise), tensor.double()).to(tensor.dtype)


def results_and_grads(call, args, jitter=None):
    """What an op gives, then the gradients of its floating arguments for random gradients of the results."""
    args = tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in args)
    inputs = leaves(args)
    outputs = call(*args)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    random = torch.Generator().manual_seed(1)
    grads = [torch.randn(o.shape, dtype=torch.float64, generator=random).to(o) for o in outputs]
    if jitter is not None:
        random.manual_seed(jitter)
        grads = [jittered(g, random) for g in grads]
    found = torch.autograd.grad(outputs, inputs, grads)
    return [o.detach() for o in outputs] + list(found)


@pytest.fixture(scope="session")
def evaluate():
    return results_and_grads


# What counts as 0: a tap below the smallest normal float32 may be, and its filter's sum and gamma make this of it.
NOTHING = torch.finfo(torch.float32).tiny * 1e4 * math.exp(16)


def error_of(result, truth):
    """Largest error, over the largest true value."""
    if truth.numel() == 0:
        return 0.0
    error = (result.double() - truth).abs().max() - NOTHING
    return (error.clamp(min=0) / truth.abs().max().clamp(min=NOTHING)).item()


def mapped(args, change):
    return tuple(change(a) if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args)


def converted(args, dtype):
    return mapped(args, lambda a: a.to(dtype))


def errors_of_reference(op, args, jitter=None):
    """Of each result and gradient, in the dtype of the arguments or, with jitter, of others that are close to them.

    Where that is float64 the truth is rounded as well: by about what the reference loses in float32, scaled.
    """
    reference, scale = getattr(ops, f"{op}_reference"), 1.0
    if args[0].dtype == torch.float64:
        args, scale = converted(args, torch.float32), torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    if jitter is not None:
        random = torch.Generator().manual_seed(jitter)
        args = mapped(args, lambda a: jittered(a, random))
    truth = results_and_grads(reference, converted(args, torch.float64), jitter)
    return [scale * error_of(r, t) for r, t in zip(results_and_grads(reference, args, jitter), truth)]


def assert_as_exact(op, backend, args, tries=1, device="cpu"):
    """The error against float64 is at most twice that of the reference in the same dtype, plus 4 eps.

    The op runs on a device, what it is compared with on the CPU. The reference may be exact by luck: the largest of its
    errors counts, of `tries` with numbers that are close.
    """
    reference = getattr(ops, f"{op}_reference")
    truth = results_and_grads(reference, converted(args, torch.float64))
    same_dtype = results_and_grads(reference, args)
    errors = [errors_of_reference(op, args, jitter) for jitter in (None, *range(tries - 1))]
    with aligndraw.use_backend(backend):
        there = [a.to(device) if isinstance(a, torch.Tensor) else a for a in args]
        ours = results_and_grads(getattr(ops, op), there)
    for t, s, o, allowed in zip(truth, same_dtype, ours, map(max, zip(*errors)), strict=True):
        assert o.dtype == s.dtype and o.shape == s.shape and o.device.type == device
        assert error_of(o.cpu(), t) <= 2 * allowed + 4 * torch.finfo(o.dtype).eps


@pytest.fixture(scope="session")
def as_exact():
    return assert_as_exact
