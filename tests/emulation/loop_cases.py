"""Arguments for the loops over all steps, in odd shapes, and what the CUDA loops and the reference make of them."""

import importlib

import emulated_cuda
import torch

from aligndraw import ops
from aligndraw.ops._fields import fields
from aligndraw.ops._unroll_fields import Gradients, Inputs, Results

# The package's attributes of these names are the functions.
unroll_reference = importlib.import_module("aligndraw.ops.unroll").unroll_reference
lstm_sequence_reference = importlib.import_module("aligndraw.ops.lstm_sequence").lstm_sequence_reference
unroll_prior_reference = importlib.import_module("aligndraw.ops.unroll_prior").unroll_prior_reference

SHAPES = {
    "odd": {"B": 3, "C": 2, "H": 7, "W": 11, "N": 4, "T": 3, "p": 3, "q": 2},
    "one": {"B": 1, "C": 1, "H": 1, "W": 1, "N": 1, "T": 1, "p": 1, "q": 1},
    "wide": {"B": 9, "C": 1, "H": 20, "W": 17, "N": 5, "T": 4, "p": 5, "q": 6, "n": 19, "e": 23, "z": 17},
    "none": {"B": 0, "C": 1, "H": 5, "W": 4, "N": 2, "T": 2, "p": 2, "q": 2},
}

# More than a tile of pixels and of filters; more words, units and captions than a block of threads takes at once.
LARGE = {
    "tiles": {"B": 1, "C": 1, "H": 66, "W": 70, "N": 2, "T": 2, "p": 17, "q": 18},
    "long": {"B": 2, "C": 1, "H": 5, "W": 6, "N": 40, "T": 2, "p": 2, "q": 3, "l": 300, "d": 300, "n": 80, "z": 70},
}


# With these captions and steps weights are laid out once for all products. With one unit in a role, or in all, a matrix
# has one row or column, and its strides do not tell its layout.
STEPS = {"steps": {"B": 5, "C": 1, "H": 5, "W": 6, "N": 4, "T": 9, "p": 2, "q": 2}}
ONE_UNIT = [(role,) for role in ("d", "l", "z", "e", "n")] + [("d", "l", "z", "e", "n", "p", "q", "H", "W")]


def make(
    shape="odd",
    align=True,
    dtype=torch.float64,
    seed=0,
    d=6,
    l=5,  # noqa: E741
    z=3,
    e=4,
    n=6,
    bf16=False,
    tints=0,
    opacity=False,
    ones=(),
    **others,
):
    """image, canvas, words, keys, lengths, noise, encoder, decoder, read size, write size, bf16, tints, opacity"""
    torch.manual_seed(seed)
    named = {**SHAPES, **LARGE, **STEPS}[shape]
    sizes = {"d": d, "l": l, "z": z, "e": e, "n": n, **named, **dict.fromkeys(ones, 1), **others}
    B, C, H, W, N, T, p, q = (sizes[k] for k in ("B", "C", "H", "W", "N", "T", "p", "q"))
    d, l, z, e, n = (sizes[k] for k in ("d", "l", "z", "e", "n"))  # noqa: E741

    def new(*shape):
        return (0.5 * torch.randn(*shape, dtype=torch.float64)).to(dtype).requires_grad_()

    glimpse = 2 * C * p * p
    rows = (l if align else 0) + 2 * z + (C + opacity) * q * q + tints * (q * q + C) + 10
    encoder = ops.EncoderWeights(new(4 * e, glimpse + n), new(4 * e, e), new(4 * e), new(e), new(2 * z, e), new(2 * z))
    score = new(l) if align else None
    decoder = ops.DecoderWeights(new(4 * n, z + d), new(4 * n, n), new(4 * n), new(n), new(rows, n), new(rows), score)
    image = torch.rand(B, C, H, W, dtype=torch.float64).to(dtype).requires_grad_()
    lengths = torch.randint(1, N + 1, (B,))
    keys = new(B, N, l) if align else None
    words = new(B, N if align else 1, d)
    return [image, new(C, H, W), words, keys, lengths, new(B, T, z), encoder, decoder, p, q, bf16, tints, opacity]


def rows_of(args, rows):
    """The arguments of some rows of the batch."""
    image, canvas, words, keys, lengths, noise, *others = args
    keys = None if keys is None else keys[rows]
    return [image[rows], canvas, words[rows], keys, lengths[rows], noise[rows], *others]


def make_sequence(batch=5, count=6, units=7, dtype=torch.float64, seed=0):
    """inputs, weight_hh, h0, lengths"""
    torch.manual_seed(seed)
    sizes = [(batch, count, 4 * units), (4 * units, units), (units,)]
    inputs, weight, h0 = (torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_() for s in sizes)
    lengths = torch.randint(1, count + 1, (batch,))
    if batch:
        lengths[0] = count
    return inputs, weight, h0, lengths


def tensors(args):
    for arg in args:
        yield from (t for t in (arg if isinstance(arg, tuple) else (arg,)) if isinstance(t, torch.Tensor))


def leaves(args):
    return [t for t in tensors(args) if t.requires_grad]


def flat(args):
    return tuple(t for arg in args for t in (arg if isinstance(arg, tuple) else (arg,)))


def prior_args(args):
    _, canvas, words, keys, lengths, noise, _, decoder, _, q, _, tints, opacity = args
    return canvas, words, keys, lengths, noise, decoder, q, tints, opacity


def rounding(args, bf16=True):
    """The arguments with `bf16`."""
    return [*args[:-3], bf16, *args[-2:]]


def double(args):
    return [type(a)(*(None if t is None else t.detach().double().requires_grad_() for t in a)) if isinstance(a, tuple)
            else a.detach().double().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
            for a in args]  # fmt: skip


def error(result, truth):
    return 0.0 if truth.numel() == 0 else ((result - truth).abs().max() / truth.abs().max().clamp(min=1e-30)).item()


def detached(args):
    return tuple(t.detach() if isinstance(t, torch.Tensor) else t for t in flat(args))


def emulated(op, args):
    """The CUDA op in its stand-in."""
    return getattr(getattr(torch.ops, emulated_cuda.NAMESPACE), op)(*args)


def drawn(args, form="cuda", image_grad=True, between=lambda: None):
    """Results of `unroll`, time first, and its gradients, by the CUDA kernels or the reference.

    between() is called after the forward.
    """
    args = flat(args)
    wanted = [t for t in args if isinstance(t, torch.Tensor) and t.is_floating_point()]
    if form == "reference":
        leaves = {id(t): t.detach().requires_grad_() for t in wanted}
        results = unroll_reference(*(leaves.get(id(t), t) for t in args))
    else:
        results = emulated("unroll", detached(args))
    outputs, tape = Results(*results[: len(Results._fields)]), results[len(Results._fields) :]
    between()
    torch.manual_seed(1)
    grads = [torch.randn(r.shape, dtype=torch.float64).to(r.dtype) for r in outputs]
    if form == "reference":
        used = [(r, g) for r, g in zip(outputs, grads) if r.requires_grad]  # without attention there are no weights
        found = torch.autograd.grad([r for r, _ in used], list(leaves.values()), [g for _, g in used])
    else:
        found = emulated("unroll_backward", (*grads, *detached(args), outputs.weights, *tape, image_grad))
        given = dict(zip((field.name for field in fields(Inputs)), args, strict=True))
        found = [g for g, field in zip(found, fields(Gradients), strict=True) if given[field.name] is not None]
    return [t.detach() for t in (*outputs, *found)]


def sampled(args, form="cuda"):
    """Results of `unroll_prior`, likewise."""
    args = detached(prior_args(args))
    return list(unroll_prior_reference(*args) if form == "reference" else emulated("unroll_prior", args))


def read(args, reverse, form="cuda"):
    """Results of `lstm_sequence` and its gradients, likewise."""
    *wanted, lengths = args
    if form == "reference":
        results = lstm_sequence_reference(*args, reverse)
    else:
        results = emulated("lstm_sequence", (*detached(args), reverse))
    torch.manual_seed(1)
    grads = [torch.randn(r.shape, dtype=torch.float64).to(r.dtype) for r in results[:2]]
    if form == "reference":
        found = torch.autograd.grad(results, wanted, grads)
    else:
        found = emulated("lstm_sequence_backward", (*grads, *detached(args), reverse, *results[2:]))
    return [t.detach() for t in (*results[:2], *found)]
