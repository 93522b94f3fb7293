"""lstm_sequence: an LSTM over the words of captions of different lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._op import HALF, Op, check_loop, check_shape
from aligndraw.ops.lstm import lstm_gates_reference


def _order(count: int, reverse: bool) -> range:
    """The words in the order in which they are read."""
    return range(count - 1, -1, -1) if reverse else range(count)


def _lstm_sequence_reference(
    inputs: Tensor, weight_hh: Tensor, h0: Tensor, lengths: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    batch, count, _ = inputs.shape
    h, c = h0.expand(batch, -1), h0.new_zeros(batch, h0.shape[0])
    states: list[Tensor] = [h] * count
    for i in _order(count, reverse):
        h_next, c_next = lstm_gates_reference(inputs[:, i] + h @ weight_hh.mT, c)
        inside = (i < lengths)[:, None]
        h, c = torch.where(inside, h_next, h), torch.where(inside, c_next, c)
        states[i] = h
    return torch.stack(states, 1), h.contiguous()


def _forward(
    namespace: str, inputs: Tensor, weight_hh: Tensor, h0: Tensor, lengths: Tensor, reverse: bool
) -> tuple[Tensor, ...]:
    """The steps on one backend's kernels; the tape is in the order of reading."""
    lstm_gates = getattr(torch.ops, namespace).lstm_gates.default
    (batch, count, _), units = inputs.shape, h0.shape[0]
    gates = inputs.new_empty(count, batch, 4 * units)
    h, c = inputs.new_empty(count + 1, batch, units), inputs.new_empty(count + 1, batch, units)
    states = inputs.new_empty(batch, count, units)
    h[0], c[0] = h0, 0
    for step, i in enumerate(_order(count, reverse)):
        torch.addmm(inputs[:, i], h[step], weight_hh.mT, out=gates[step])
        h_next, c_next = lstm_gates(gates[step], c[step])
        inside = (i < lengths)[:, None]
        torch.where(inside, h_next, h[step], out=h[step + 1])
        torch.where(inside, c_next, c[step], out=c[step + 1])
        states[:, i] = h[step + 1]
    return states, h[count].clone(), gates, h, c


def _backward(namespace: str, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    grad_states, grad_last, inputs, weight_hh, _, lengths, reverse, gates, h, c = args
    gates_backward = getattr(torch.ops, namespace).lstm_gates_backward.default
    d_gates, d_inputs = torch.empty_like(gates), torch.empty_like(inputs)
    d_h, d_c = grad_last, torch.zeros_like(grad_last)
    for step, i in reversed(list(enumerate(_order(inputs.shape[1], reverse)))):
        d_h = d_h + grad_states[:, i]
        inside = (i < lengths)[:, None]
        found, d_c_before = gates_backward(d_h, d_c, gates[step], c[step])
        d_gates[step] = torch.where(inside, found, 0)
        d_inputs[:, i] = d_gates[step]
        d_c = torch.where(inside, d_c_before, d_c)
        d_h = torch.where(inside, 0, d_h).addmm_(d_gates[step], weight_hh)
    return d_inputs, d_gates.flatten(0, 1).mT @ h[:-1].flatten(0, 1), d_h.sum(0)


def _check(inputs: Tensor, weight_hh: Tensor, h0: Tensor, lengths: Tensor, reverse: bool) -> None:
    op = "lstm_sequence"
    check_shape(op, "h0", h0, "[m]", (None,))
    units = h0.shape[0]
    check_shape(op, "inputs", inputs, "[B, N, 4m]", (None, None, 4 * units))
    if inputs.shape[1] < 1:
        raise RuntimeError(f"{op}: inputs must have at least one word, got {list(inputs.shape)}")
    check_shape(op, "weight_hh", weight_hh, "[4m, m]", (4 * units, units))
    check_shape(op, "lengths", lengths, "[B]", (inputs.shape[0],))
    check_loop(op, lengths, "inputs", inputs, weight_hh=weight_hh, h0=h0)


def _fake(inputs: Tensor, weight_hh: Tensor, h0: Tensor, lengths: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    (batch, count, _), units = inputs.shape, h0.shape[0]
    shapes = [
        (batch, count, units),
        (batch, units),
        (count, batch, 4 * units),
        (count + 1, batch, units),
        (count + 1, batch, units),
    ]
    return tuple(inputs.new_empty(shape) for shape in shapes)


def _backward_fake(*args: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in args[2:5])


def _backward_reference(grad_states: Tensor, grad_last: Tensor, *args: Any) -> tuple[Tensor, ...]:
    inputs, lengths, reverse = args[:3], args[3], args[4]
    return vjp(lambda x, w, h: _lstm_sequence_reference(x, w, h, lengths, reverse), inputs, (grad_states, grad_last))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.reverse = inputs[-1]
    ctx.save_for_backward(*inputs[:-1], *output[2:])
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)  # it would make zeros for the tape


def _gradient(op: Any, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    inputs, weight_hh, h0, lengths, *tape = ctx.saved_tensors
    shapes = ((*inputs.shape[:2], h0.shape[0]), (inputs.shape[0], h0.shape[0]))
    given = [inputs.new_zeros(shape) if g is None else g for g, shape in zip(grads, shapes)]
    return (*op(*given, inputs, weight_hh, h0, lengths, ctx.reverse, *tape), None, None)


_INPUTS = "Tensor inputs, Tensor weight_hh, Tensor h0, Tensor lengths, bool reverse"
_op = Op(
    "lstm_sequence",
    schema=f"({_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    backward_schema=f"(Tensor grad_states, Tensor grad_last, {_INPUTS}, Tensor gates, Tensor h, Tensor c)"
    " -> (Tensor, Tensor, Tensor)",
    reference=_lstm_sequence_reference,
    check=_check,
    fake=_fake,
    backward_reference=_backward_reference,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_gradient,
    composite=(_forward, _backward),
)


def lstm_sequence(
    inputs: Tensor, weight_hh: Tensor, h0: Tensor, lengths: Tensor, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """An LSTM that reads words 1 ... length of each caption, or length ... 1: of each word in turn
    gates = inputs_i + h W_hhᵀ, then `lstm_gates` (the language model of alignDRAW, section 3.1).

    Args:
        inputs: what each word adds to the gates, bias included, [B, N, 4m] in the order i, f, g, o, N ≥ 1; floating,
            the others of the same dtype. The arithmetic is float32, or float64 for float64.
        weight_hh: [4m, m].
        h0: the first hidden state, [m]; the first cell state is zero.
        lengths: int64 [B]; below 1 nothing is read, above N everything.
        reverse: whether the last word is read first.

    Returns:
        the state at each word [B, N, m], meaningless from word `length` on, and the last state [B, m].

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    if inputs.dtype in HALF:
        states, last = lstm_sequence(inputs.float(), weight_hh.float(), h0.float(), lengths, reverse)
        return states.to(inputs.dtype), last.to(inputs.dtype)
    states, last = _op(inputs, weight_hh, h0, lengths, reverse)[:2]
    return states, last
