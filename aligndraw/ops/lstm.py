"""lstm_cell: one step of an LSTM with forget gates; lstm_gates: its pointwise part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._op import Op, check_device, check_float, check_shape, compute_dtype


def lstm_gates_reference(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """`lstm_gates` in plain PyTorch: the specification."""
    i, f, g, o = gates.to(compute_dtype(gates)).chunk(4, 1)
    c_next = f.sigmoid() * c.to(i.dtype) + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c_next.tanh()
    return h.to(gates.dtype), c_next.to(c.dtype)


def _check(gates: Tensor, c: Tensor) -> None:
    check_shape("lstm_gates", "gates", gates, "[B, 4n]", (None, None))
    check_shape("lstm_gates", "c", c, "[B, n]", (None, None))
    if c.shape[0] != gates.shape[0]:
        raise RuntimeError(f"lstm_gates: c must have the rows of gates, {gates.shape[0]}, got {c.shape[0]}")
    if gates.shape[1] != 4 * c.shape[1]:
        raise RuntimeError(
            f"lstm_gates: gates must have 4n = {4 * c.shape[1]} columns for c of shape {list(c.shape)}, "
            f"got {list(gates.shape)}"
        )
    check_float("lstm_gates", gates=gates, c=c)


def _fake(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    return gates.new_empty(c.shape), c.new_empty(c.shape)


def _backward_reference(grad_h: Tensor, grad_c: Tensor, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    g_gates, g_c = vjp(lstm_gates_reference, (gates, c), (grad_h, grad_c))
    return g_gates, g_c


def _backward_fake(grad_h: Tensor, grad_c: Tensor, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    return gates.new_empty(gates.shape), c.new_empty(c.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(op: Any, ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
    return op(grad_h, grad_c, *ctx.saved_tensors)  # type: ignore[no-any-return]


_op = Op(
    "lstm_gates",
    schema="(Tensor gates, Tensor c) -> (Tensor, Tensor)",
    backward_schema="(Tensor grad_h, Tensor grad_c, Tensor gates, Tensor c) -> (Tensor, Tensor)",
    reference=lstm_gates_reference,
    backward_reference=_backward_reference,
    check=_check,
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_backward,
    triton="lstm",
    batched=True,
)


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The pointwise part of an LSTM step: c' = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c') (Gers et al., 2000).

    Args:
        gates: [B, 4n], the pre-activations in the order i, f, g, o.
        c: [B, n], the cell state.

    Returns:
        h [B, n] in the dtype of `gates` and c' [B, n] in the dtype of `c`. The arithmetic is float32, or float64 when
        both arguments are float64.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    return _op(gates, c)  # type: ignore[no-any-return]


def lstm_cell(
    input: Tensor, state: tuple[Tensor, Tensor], weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One LSTM step: gates = input W_ihᵀ + h W_hhᵀ + b, then `lstm_gates` (alignDRAW, Eq. 3 and 12).

    The interface is that of `torch.lstm_cell`, with one bias: the products are torch's own, the rest is one op.

    Args:
        input: [B, k].
        state: h [B, n] and c [B, n].
        weight_ih, weight_hh: [4n, k] and [4n, n], gates in the order i, f, g, o.
        bias: [4n].

    Returns:
        h [B, n] and c [B, n].

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    h, c = state
    check_shape("lstm_cell", "input", input, "[B, k]", (None, None))
    batch, inputs = input.shape
    check_shape("lstm_cell", "h", h, "[B, n]", (batch, None))
    units = h.shape[1]
    check_shape("lstm_cell", "c", c, "[B, n]", (batch, units))
    check_shape("lstm_cell", "weight_ih", weight_ih, "[4n, k]", (4 * units, inputs))
    check_shape("lstm_cell", "weight_hh", weight_hh, "[4n, n]", (4 * units, units))
    check_shape("lstm_cell", "bias", bias, "[4n]", (4 * units,))
    others = {"h": h, "c": c, "weight_ih": weight_ih, "weight_hh": weight_hh, "bias": bias}
    for name, tensor in others.items():  # PyTorch's product gives unwritten memory for one on meta
        check_device("lstm_cell", name, tensor, "input", input)
    return lstm_gates(torch.addmm(bias, input, weight_ih.mT) + h @ weight_hh.mT, c)
