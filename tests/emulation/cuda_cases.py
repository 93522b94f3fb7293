"""Arguments for the CUDA ops in odd shapes, and how exact a result must be: shared by the checks of this folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import emulated_cuda
import torch
from exactness import allowed, converted, error_of, reference_errors
from torch import Tensor

from aligndraw import ops

WINDOWS = {
    "initial": (0.0, 0.02, 0.0, 0.01, 0.0),
    "trained": (0.3, -0.4, 0.5, -1.2, 0.4),
    "off_image": (4.0, -6.0, -2.0, -1.0, 0.3),
    "clamped": (9.0, -9.0, 17.0, -17.0, 20.0),
}
# A tile of the kernels is 16 filters on 64 pixels.
PICTURES = {  # B, C, H, W, p
    "odd": (3, 2, 7, 11, 4),
    "one": (1, 1, 5, 3, 1),
    "none": (0, 1, 6, 4, 2),
    "wide": (1, 1, 9, 130, 3),
    "many": (1, 2, 66, 8, 17),
}
CAPTIONS = {"odd": (3, 5, 6, 3), "one": (1, 1, 1, 1), "none": (0, 3, 4, 5), "long": (2, 40, 300, 70)}  # B, N, l, d
ROWS = {"odd": (3, 5), "one": (1, 1), "none": (0, 2), "long": (2, 300)}  # B, and n or z


def shapes(op: str) -> list[str]:
    return list(PICTURES if op in ("read", "write") else CAPTIONS if op == "attend" else ROWS)


def arguments(op: str, shape: str, dtype: torch.dtype = torch.float64, window: str = "trained") -> tuple[Any, ...]:
    """The same numbers every time."""
    torch.manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64).to(dtype)

    if op in ("read", "write"):
        batch, channels, height, width, size = PICTURES[shape]
        place = torch.tensor(WINDOWS[window], dtype=torch.float64)
        windows = (place + 0.05 * torch.randn(batch, 5, dtype=torch.float64)).to(dtype)
        canvas = random(batch, channels, height, width)
        if op == "write":
            return random(batch, channels, size, size), windows, canvas
        return torch.rand(canvas.shape, dtype=torch.float64).to(dtype), windows, size, canvas
    if op == "attend":
        batch, words, units, width = CAPTIONS[shape]
        lengths = torch.arange(batch) * 7 % (words + 2)
        keys, score = random(batch, words, units), (random(units) / units**0.5).to(dtype)
        return random(batch, units), keys, score, random(batch, words, width), lengths
    batch, size = ROWS[shape]
    if op == "lstm_gates":
        return random(batch, 4 * size) * 2, random(batch, size)
    return tuple(random(batch, size) for _ in range(5))


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def is_floating(a: Any) -> bool:
    return isinstance(a, Tensor) and a.is_floating_point()


def output_grads(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The same numbers every time, in every dtype."""
    torch.manual_seed(1)
    return [torch.randn(o.shape, dtype=torch.float64).to(o.dtype) for o in outputs]


def of_reference(op: str, args: Sequence[Any]) -> list[Tensor]:
    """The results, and the gradient of every floating argument."""
    args = [a.detach().requires_grad_() if is_floating(a) else a for a in args]
    outputs = as_tuple(getattr(ops, f"{op}_reference")(*args))
    found = torch.autograd.grad(outputs, [a for a in args if is_floating(a)], output_grads(outputs))
    return [t.detach() for t in (*outputs, *found)]


def emulated(op: str) -> Any:
    return getattr(getattr(torch.ops, emulated_cuda.NAMESPACE), op)


def of_kernel(op: str, args: Sequence[Any]) -> list[Tensor]:
    """The same of the CUDA op in its stand-in."""
    alone = op == "read" and len(args) == 3
    args = (*args, None) if alone else args
    outputs = as_tuple(emulated(op)(*args))
    grads = output_grads(outputs)
    if op == "write":  # the canvas' gradient is that of the result
        return [*outputs, *emulated("write_backward")(*grads, *args[:2]), *grads]
    kept = (True,) if op == "read" else outputs[1:] if op == "attend" else ()
    found = emulated(f"{op}_backward")(*grads, *args, *kept)
    return [*outputs, *(found[:-1] if alone else found)]


def check(op: str, args: Sequence[Any]) -> None:
    """The op is as exact as the reference."""
    truth = of_reference(op, converted(args, torch.float64))
    theirs, ours = of_reference(op, args), of_kernel(op, args)
    errors = reference_errors(lambda close, jitter: of_reference(op, close), args)
    for index, (t, r, o, e) in enumerate(zip(truth, theirs, ours, errors, strict=True)):
        assert o.shape == r.shape and o.dtype == r.dtype, (op, index, o.dtype, o.shape)
        error, most = error_of(o, t), allowed(e, o.dtype)
        assert error <= most, f"{op}: result {index} is off by {error:.3g} of its largest, allowed {most:.3g}"


def every_case(shapes_of: Sequence[str], dtypes: Sequence[torch.dtype]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(op, arguments) of every op and window."""
    for op in ops.OPS:
        glimpses = op in ("read", "write")
        for shape in shapes(op):
            for dtype in dtypes if shape in shapes_of else ():
                for window in WINDOWS if glimpses else ("none",):
                    args = arguments(op, shape, dtype, window)
                    yield op, args
                    if op == "read":
                        yield op, args[:3]
