"""rmsprop_: the update rule of the paper's authors, for all parameters at once."""

from __future__ import annotations

import torch
from torch import Tensor

from aligndraw.ops._op import PlainOp, check_devices, check_plain, check_shape
from aligndraw.ops._skipping import skipping


def rmsprop_reference(
    parameters: list[Tensor],
    squares: list[Tensor],
    gradients: list[Tensor],
    scales: Tensor,
    lr: Tensor | float,
    decay: float,
    eps: float,
    found_inf: Tensor | None = None,
) -> None:
    """`rmsprop_` in plain PyTorch, for any device and dtype: the specification."""
    first = parameters[0]
    scaled = list(torch._foreach_mul(gradients, list(scales.to(first.dtype).unbind())))
    scaled, lr, kept = skipping(found_inf, scaled, lr, decay)
    torch._foreach_mul_(squares, kept)
    torch._foreach_addcmul_(squares, scaled, scaled, 1 - decay)
    roots = torch._foreach_add(squares, eps)
    torch._foreach_sqrt_(roots)
    if isinstance(lr, Tensor):
        torch._foreach_div_(scaled, roots)
        torch._foreach_mul_(scaled, lr)
        torch._foreach_sub_(parameters, scaled)
    else:
        torch._foreach_addcdiv_(parameters, scaled, roots, -lr)


def _check(
    parameters: list[Tensor],
    squares: list[Tensor],
    gradients: list[Tensor],
    scales: Tensor,
    lr: float,
    decay: float,
    eps: float,
) -> None:
    op, count = "rmsprop_", len(parameters)
    if len(squares) != count or len(gradients) != count:
        got = f"{len(squares)} and {len(gradients)}"
        raise RuntimeError(f"{op}: squares and gradients must number {count} like parameters, got {got}")
    check_shape(op, "scales", scales, "[n]", (count,))
    for parameter, square, gradient in zip(parameters, squares, gradients):
        for name, tensor in (("parameters", parameter), ("squares", square), ("gradients", gradient)):
            check_plain(op, name, tensor)
            if tensor.shape != parameter.shape:
                wanted = f"must have shape {list(parameter.shape)} like parameters, got {list(tensor.shape)}"
                raise RuntimeError(f"{op}: {name} {wanted}")
        check_plain(op, "scales", scales)


_op = PlainOp(
    "rmsprop_",
    schema="(Tensor(a!)[] parameters, Tensor(b!)[] squares, Tensor[] gradients, Tensor scales, float lr, float decay, "
    "float eps) -> ()",
    reference=rmsprop_reference,
    check=_check,
    fake=lambda *_: None,
)


def rmsprop_(
    parameters: list[Tensor],
    squares: list[Tensor],
    gradients: list[Tensor],
    scales: Tensor,
    lr: Tensor | float,
    decay: float,
    eps: float,
    found_inf: Tensor | None = None,
) -> None:
    """Changes in place each parameter p and its mean square v, given its gradient g and the factor s of that:

        v ← decay v + (1 − decay) (s g)²        p ← p − lr s g / √(v + eps)

    In C++ it is one pass over contiguous float32 tensors on the CPU. It has no derivatives.

    Args:
        parameters, squares, gradients: equally many, of equal shapes; at least one.
        scales: [n], a factor per gradient, on the device of the first parameter.
        lr: step size; on a GPU a tensor where updates are recorded.
        decay: of v.
        eps: under the root.
        found_inf: where it is a tensor of 1, nothing changes.

    Raises:
        RuntimeError: counts, shapes or devices do not fit, or a gradient is asked for.
    """
    check_devices("rmsprop_", "parameters", parameters, squares=squares, gradients=gradients, scales=[scales])
    tensors = [*parameters, *squares, *gradients]
    plain = all(t.dtype == torch.float32 and t.is_contiguous() and t.device.type == "cpu" for t in tensors)
    if plain and isinstance(lr, float) and found_inf is None:
        _op(parameters, squares, gradients, scales.float(), lr, decay, eps)
    else:
        rmsprop_reference(parameters, squares, gradients, scales, lr, decay, eps, found_inf)
