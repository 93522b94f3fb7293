"""How exact a result must be: at most twice the error that the reference makes in the same dtype, plus 4 eps.

The reference may be exact by luck, and a library's sums differ from one processor to another. So its largest error
counts, of several tries with numbers that are close.
"""

import math

import torch

TRIES = 8
# What counts as 0: a tap below the smallest normal float32 may be, and its filter's sum and gamma make this of it.
NOTHING = torch.finfo(torch.float32).tiny * 1e4 * math.exp(16)


def mapped(args, change):
    """The arguments, with the floating tensors among them changed."""
    return tuple(change(a) if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args)


def converted(args, dtype):
    return mapped(args, lambda a: a.to(dtype))


def jittered(tensor, generator):
    """Every number moved by some 3 %, but for those that may be at or beyond the limits of a window."""
    noise = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
    return torch.where(tensor.abs() < 8, tensor.double() * (1 + 2**-5 * noise), tensor.double()).to(tensor.dtype)


def error_of(result, truth):
    """Largest error, over the largest true value."""
    if truth.numel() == 0:
        return 0.0
    error = (result.double() - truth).abs().max() - NOTHING
    return (error.clamp(min=0) / truth.abs().max().clamp(min=NOTHING)).item()


def reference_errors(evaluate, args, tries=TRIES):
    """The largest error of each result of evaluate(args, jitter), a reference, over `tries` of close arguments.

    The first try has the arguments as they are and jitter None; each other one moves them, and hands on a seed by which
    the reference may move what else it takes. Where the arguments are float64 the truth is rounded as well: by about
    what the reference loses in float32, scaled.
    """
    scale = 1.0
    if any(isinstance(a, torch.Tensor) and a.dtype == torch.float64 for a in args):
        args, scale = converted(args, torch.float32), torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    found = []
    for jitter in (None, *range(tries - 1)):
        close = args
        if jitter is not None:
            random = torch.Generator().manual_seed(jitter)
            close = mapped(args, lambda a, random=random: jittered(a, random))
        truth = evaluate(converted(close, torch.float64), jitter)
        found.append([scale * error_of(r, t) for r, t in zip(evaluate(close, jitter), truth, strict=True)])
    return [max(errors) for errors in zip(*found)]


def allowed(error, dtype):
    """What may be the error of a result, given the reference's."""
    return 2 * error + 4 * torch.finfo(dtype).eps
