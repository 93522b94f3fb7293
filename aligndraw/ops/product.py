"""product: left rightᵀ, the product of the loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.backends import ISAS, cpp_or_reference, served_isa
from aligndraw.ops import _autograd
from aligndraw.ops._op import PlainOp, check_device, check_shape, check_sizes, is_plain


def product_reference(left: Tensor, right: Tensor, bf16: bool, isa: int = 0, times: int = 1) -> Tensor:
    """`product` in plain PyTorch, for any device and dtype: the specification. Only factors of float32 are rounded."""
    right = right.mT
    if not bf16 or left.dtype != torch.float32:
        return left @ right
    wants_gradient = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
    if left.is_cuda and not wants_gradient:  # for PyTorch has none of the next product
        return torch.mm(left.bfloat16(), right.bfloat16(), out_dtype=torch.float32)
    return left.bfloat16().float() @ right.bfloat16().float()


def _check(left: Tensor, right: Tensor, bf16: bool, isa: int, times: int = 1) -> None:
    check_shape("product", "left", left, "[m, k]", (None, None))
    check_shape("product", "right", right, "[n, k]", (None, left.shape[1]))
    check_device("product", "right", right, "left", left)
    kind = str(left.dtype).removeprefix("torch.")
    if left.dtype != torch.float32 and (bf16 or left.dtype != torch.float64):
        raise RuntimeError(f"product: left must be float32{'' if bf16 else ' or float64'}, got {kind}")
    if right.dtype != left.dtype:
        got = str(right.dtype).removeprefix("torch.")
        raise RuntimeError(f"product: right must be {kind} like left, got {got}")
    check_sizes("product", "the product", (left.shape[0], right.shape[0]))


def _fake(left: Tensor, right: Tensor, bf16: bool, isa: int, times: int = 1) -> Tensor:
    return left.new_empty(left.shape[0], right.shape[0])


_op = PlainOp(
    "product",
    schema="(Tensor left, Tensor right, bool bf16, int isa, int times=1) -> Tensor",
    reference=product_reference,
    check=_check,
    fake=_fake,
)


def product(left: Tensor, right: Tensor, bf16: bool = False, isa: str | None = None, times: int = 1) -> Tensor:
    """left rightᵀ: result[i, j] = Σ_k left[i, k] right[j, k]. It has no derivatives.

    In C++ the bits of a row depend neither on the other rows nor on the number of threads.

    Args:
        left: [m, k], float32, or float64 without `bf16`.
        right: [n, k], the same dtype.
        bf16: round both factors to bfloat16, and sum in float32.
        isa: the instruction set that the C++ product takes, one of `aligndraw.backends.ISAS` that this machine has;
            None: the one in use.
        times: how often C++ repeats the product of the same packed factor, for a measurement of its rate.

    Returns:
        [m, n], in the dtype of the factors.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit, the machine lacks the instruction set, or a gradient is
            asked for.
    """
    return _op(left, right, bf16, isa_number(isa) if _op.backend(left) == "cpp" else 0, times)  # type: ignore[no-any-return]


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """inputs weightᵀ, as `torch.nn.functional.linear`, with all derivatives.

    In C++, in float32 and float64, it is `product`: the bits of a row depend neither on the other rows nor on the
    number of threads. Elsewhere, and under autocast, transforms and compilers, it is PyTorch's.

    Args:
        inputs: [..., k].
        weight: [n, k].

    Returns:
        [..., n].

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    check_device("linear", "weight", weight, "inputs", inputs)  # PyTorch's gives unwritten memory for one on meta
    ours = inputs.dtype == weight.dtype and inputs.dtype in (torch.float32, torch.float64)
    if ours and is_plain((inputs, weight)) and not torch.is_autocast_enabled("cpu") and _op.backend(inputs) == "cpp":
        if _autograd.requires_grad((inputs, weight)):
            return _Linear.apply(inputs, weight)  # type: ignore[no-any-return]
        return _linear(inputs, weight)
    return torch.nn.functional.linear(inputs, weight)


def _linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """Returns the C++ product, below autograd: a dozen rows take less time than the dispatcher's Python."""
    with torch._C._AutoDispatchBelowAutograd():
        isa, rows = torch.ops.aligndraw.isa(), inputs.reshape(-1, weight.shape[1])
        result: Tensor = torch.ops.aligndraw.product(rows, weight, False, isa)
    return result.view(*inputs.shape[:-1], weight.shape[0])


class _Linear(torch.autograd.Function):
    """Its gradients are `linear` too, and have gradients of their own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _linear(inputs, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,), (inputs, weight) = grads, ctx.saved_tensors
        of_inputs = linear(grad, weight.mT) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_inputs, None
        return of_inputs, linear(grad.reshape(-1, grad.shape[-1]).mT, inputs.reshape(-1, inputs.shape[-1]).mT)


def isa_number(isa: str | None) -> int:
    """Returns the number of an instruction set in C++; None is the one in use."""
    name = isa or served_isa()
    if name not in ISAS:
        raise RuntimeError(f"product: isa must be one of {', '.join(ISAS)}, got {name}")
    return ISAS.index(name)


def rounds_fast(device: str) -> bool:
    """Whether products of rounded factors are faster than others: in C++ on CPUs with AVX512_BF16 or AMX."""
    return cpp_or_reference("product", device) == "cpp" and isa_number(None) >= ISAS.index("avx512_bf16")
