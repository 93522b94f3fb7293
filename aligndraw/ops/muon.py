"""muon_: the update rule for matrices by their orthogonal factors (Jordan et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aligndraw.backends import cpp_or_reference
from aligndraw.ops._op import PlainOp, check_devices, check_plain, check_shape
from aligndraw.ops._skipping import skipping
from aligndraw.ops.product import isa_number, product, rounds_fast

Product = Callable[[Tensor, Tensor], Tensor]


def orthogonal(g: Tensor, dtype: torch.dtype | None = None, multiply: Product | None = None) -> Tensor:
    """Approximates U Vᵀ of the singular value decomposition g = U S Vᵀ, by products in `dtype`; None: that of g.

    Five steps of X ← a X + (b X Xᵀ + c (X Xᵀ)²) X from g over its norm, with the coefficients of Jordan et al., which
    bring singular values between 0.7 and 1.2.

    Args:
        g: [rows, columns].
        dtype: of the products.
        multiply: forms left rightᵀ; PyTorch's product when None.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g.mT if g.shape[0] > g.shape[1] else g).to(dtype or g.dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        if multiply is None:
            square = x @ x.mT
            x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
        else:
            square = multiply(x, x)  # symmetric to the bit
            polynomial = multiply(square, square).mul_(c).add_(square, alpha=b)
            x = multiply(polynomial, x.mT).add_(x, alpha=a)
    return (x.mT if g.shape[0] > g.shape[1] else x).to(g.dtype)


def muon_reference(
    parameters: list[Tensor],
    momenta: list[Tensor],
    gradients: list[Tensor],
    momentum: float,
    steps: Sequence[Tensor | float],
    dtype: torch.dtype | None = None,
    found_inf: Tensor | None = None,
    multiply: Product | None = None,
) -> None:
    """`muon_` in plain PyTorch, for any device and dtype: the specification. `multiply` is that of `orthogonal`."""
    gradients, moves, kept = skipping(found_inf, gradients, 1.0, momentum)
    torch._foreach_mul_(momenta, kept)
    torch._foreach_add_(momenta, gradients, alpha=1 - momentum)
    for p, ahead, step in zip(parameters, torch._foreach_lerp(gradients, momenta, momentum), steps):
        p.sub_(orthogonal(ahead, dtype, multiply) * (step * moves))


def _in_bfloat16(
    parameters: list[Tensor],
    momenta: list[Tensor],
    gradients: list[Tensor],
    momentum: float,
    steps: list[float],
    isa: int,
) -> None:
    """The reference of the op, whose products are always of rounded factors."""
    muon_reference(parameters, momenta, gradients, momentum, steps, torch.bfloat16)


def _check(
    parameters: list[Tensor],
    momenta: list[Tensor],
    gradients: list[Tensor],
    momentum: float,
    steps: list[float],
    isa: int,
) -> None:
    op, count = "muon_", len(parameters)
    if not len(momenta) == len(gradients) == len(steps) == count:
        got = f"{len(momenta)}, {len(gradients)} and {len(steps)}"
        raise RuntimeError(f"{op}: momenta, gradients and steps must number {count} like parameters, got {got}")
    for parameter, m, gradient in zip(parameters, momenta, gradients):
        check_shape(op, "parameters", parameter, "[rows, columns]", (None, None))
        for name, tensor in (("parameters", parameter), ("momenta", m), ("gradients", gradient)):
            check_shape(op, name, tensor, "[rows, columns]", tuple(parameter.shape))
            check_plain(op, name, tensor)


_op = PlainOp(
    "muon_",
    schema="(Tensor(a!)[] parameters, Tensor(b!)[] momenta, Tensor[] gradients, float momentum, float[] steps, int isa)"
    " -> ()",
    reference=_in_bfloat16,
    check=_check,
    fake=lambda *_: None,
)


def muon_(
    parameters: list[Tensor],
    momenta: list[Tensor],
    gradients: list[Tensor],
    momentum: float,
    steps: Sequence[Tensor | float],
    dtype: torch.dtype | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """Changes in place each matrix p and its momentum m, given its gradient g:

        m ← momentum m + (1 − momentum) g        p ← p − step O

    O is the orthogonal factor of momentum m + (1 − momentum) g, by five steps of a Newton–Schulz iteration: see
    `orthogonal`. It has no derivatives. With bfloat16, float32 matrices on a CPU with AVX512_BF16 or AMX take a step in
    one call of C++. In float32 their products are those of `product` on a CPU with AVX2, in the same bits on any number
    of threads.

    Args:
        parameters, momenta, gradients: equally many matrices, of equal shapes; at least one.
        momentum: of m.
        steps: one step size per matrix; on a GPU tensors where updates are recorded.
        dtype: of the iteration's products; that of the gradients when None.
        found_inf: where it is a tensor of 1, nothing changes.

    Raises:
        RuntimeError: counts, shapes or devices do not fit, or a gradient is asked for.
    """
    check_devices("muon_", "parameters", parameters, momenta=momenta, gradients=gradients)
    plain = found_inf is None and all(p.is_cpu and p.dtype == torch.float32 for p in parameters)
    if plain and dtype == torch.bfloat16 and rounds_fast("cpu"):
        _op(parameters, momenta, [g.contiguous() for g in gradients], momentum, steps, isa_number(None))
    else:
        multiply = product if plain and dtype in (None, torch.float32) and _product_pays() else None
        muon_reference(parameters, momenta, gradients, momentum, steps, dtype, found_inf, multiply)


def _product_pays() -> bool:
    """Whether float32 products of C++ have kernels for this processor: then they are no slower than PyTorch's."""
    return cpp_or_reference("product", "cpu") == "cpp" and isa_number(None) > 0
