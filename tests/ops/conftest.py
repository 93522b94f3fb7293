"""Arguments for each op, in odd shapes, for the tests that hold for all of them."""

import pytest
import torch
from exactness import TRIES, allowed, converted, error_of, jittered, reference_errors

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


def assert_as_exact(op, backend, args, tries=TRIES, device="cpu"):
    """The op runs on a device, what it is compared with on the CPU."""
    reference = getattr(ops, f"{op}_reference")
    truth = results_and_grads(reference, converted(args, torch.float64))
    same_dtype = results_and_grads(reference, args)
    errors = reference_errors(lambda close, jitter: results_and_grads(reference, close, jitter), args, tries)
    with aligndraw.use_backend(backend):
        there = [a.to(device) if isinstance(a, torch.Tensor) else a for a in args]
        ours = results_and_grads(getattr(ops, op), there)
    for t, s, o, error in zip(truth, same_dtype, ours, errors, strict=True):
        assert o.dtype == s.dtype and o.shape == s.shape and o.device.type == device
        assert error_of(o.cpu(), t) <= allowed(error, o.dtype)


@pytest.fixture(scope="session")
def as_exact():
    return assert_as_exact
