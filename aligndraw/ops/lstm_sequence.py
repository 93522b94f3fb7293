"""lstm_sequence: an LSTM over the words of captions of different lengths."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._fields import results_schema, schema, shapes, unflatten
from aligndraw.ops._op import HALF, Op, check_loop, check_shape, check_shapes
from aligndraw.ops.lstm import lstm_gates_reference


# The letters: B batch, N words per caption, m units; `csrc/lstm_sequence.h` is the other side.
class Inputs(NamedTuple):
    """The arguments."""

    inputs: Annotated[Tensor, "[B, N, 4m]"]
    weight_hh: Annotated[Tensor, "[4m, m]"]
    h0: Annotated[Tensor, "[m]"]
    lengths: Annotated[Tensor, "[B]"]
    reverse: bool

    def sizes(self) -> dict[str, int]:
        """Returns the sizes by letter, of arguments that fit."""
        return {"B": self.inputs.shape[0], "N": self.inputs.shape[1], "m": self.h0.shape[0]}


class Results(NamedTuple):
    """The results that have gradients."""

    states: Annotated[Tensor, "[B, N, m]"]
    last: Annotated[Tensor, "[B, m]"]


class Tape(NamedTuple):
    """The other results, in the order of reading."""

    gates: Annotated[Tensor, "[N, B, 4m]"]
    h: Annotated[Tensor, "[N + 1, B, m]"]
    c: Annotated[Tensor, "[N + 1, B, m]"]


class BackwardInputs(NamedTuple):
    """The arguments of the gradient op."""

    grads: Annotated[Results, "grad_"]
    inputs: Inputs
    tape: Tape


class Gradients(NamedTuple):
    """The results of the gradient op."""

    inputs: Annotated[Tensor, "[B, N, 4m]"]
    weight_hh: Annotated[Tensor, "[4m, m]"]
    h0: Annotated[Tensor, "[m]"]


def _order(count: int, reverse: bool) -> range:
    """Returns the words in the order of reading."""
    return range(count - 1, -1, -1) if reverse else range(count)


def lstm_sequence_reference(
    inputs: Tensor, weight_hh: Tensor, h0: Tensor, lengths: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    batch, count, _ = inputs.shape
    # No arithmetic sees the padding: the gradient 0 times a NaN would be NaN.
    padding = torch.arange(count, device=inputs.device) >= lengths[:, None]
    inputs = inputs.masked_fill(padding[:, :, None], 0)
    h, c = h0.expand(batch, -1), h0.new_zeros(batch, h0.shape[0])
    states: list[Tensor] = [h] * count
    for i in _order(count, reverse):
        h_next, c_next = lstm_gates_reference(inputs[:, i] + h @ weight_hh.mT, c)
        inside = (i < lengths)[:, None]
        h, c = torch.where(inside, h_next, h), torch.where(inside, c_next, c)
        states[i] = h
    return torch.stack(states, 1), h.contiguous()


def _forward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Results` and `Tape`, by the kernels of a namespace."""
    inputs, weight_hh, h0, lengths, reverse = args
    lstm_gates = getattr(torch.ops, namespace).lstm_gates.default
    sizes = Inputs(*args).sizes()
    states, last = (inputs.new_empty(shape) for shape in shapes(Results, sizes))
    gates, h, c = (inputs.new_empty(shape) for shape in shapes(Tape, sizes))
    h[0], c[0] = h0, 0
    for step, i in enumerate(_order(sizes["N"], reverse)):
        torch.addmm(inputs[:, i], h[step], weight_hh.mT, out=gates[step])
        h_next, c_next = lstm_gates(gates[step], c[step])
        inside = (i < lengths)[:, None]
        torch.where(inside, h_next, h[step], out=h[step + 1])
        torch.where(inside, c_next, c[step], out=c[step + 1])
        states[:, i] = h[step + 1]
    return states, last.copy_(h[sizes["N"]]), gates, h, c


def _backward(namespace: str, *args: Any) -> tuple[Tensor, ...]:
    """Returns the fields of `Gradients`, by the kernels of a namespace."""
    grads, (inputs, weight_hh, _, lengths, reverse), (gates, h, c) = unflatten(BackwardInputs, args)
    gates_backward = getattr(torch.ops, namespace).lstm_gates_backward.default
    d_gates, d_inputs = torch.empty_like(gates), torch.empty_like(inputs)
    d_h, d_c = grads.last, torch.zeros_like(grads.last)
    for step, i in reversed(list(enumerate(_order(inputs.shape[1], reverse)))):
        d_h = d_h + grads.states[:, i]
        inside = (i < lengths)[:, None]
        found, d_c_before = gates_backward(d_h, d_c, gates[step], c[step])
        d_gates[step] = torch.where(inside, found, 0)
        d_inputs[:, i] = d_gates[step]
        d_c = torch.where(inside, d_c_before, d_c)
        d_h = torch.where(inside, 0, d_h).addmm_(d_gates[step], weight_hh)
    d_weight = d_gates.flatten(0, 1).mT @ h[:-1].flatten(0, 1)
    return Gradients(inputs=d_inputs, weight_hh=d_weight, h0=d_h.sum(0))


def _check(*args: Any) -> None:
    inputs, op = Inputs(*args), "lstm_sequence"
    check_shape(op, "h0", inputs.h0, "[m]", (None,))
    check_shape(op, "inputs", inputs.inputs, "[B, N, 4m]", (None, None, 4 * inputs.h0.shape[0]))
    if inputs.inputs.shape[1] < 1:
        raise RuntimeError(f"{op}: inputs must have at least one word, got {list(inputs.inputs.shape)}")
    check_shapes(op, inputs, inputs.sizes())
    check_loop(op, inputs.lengths, "inputs", inputs.inputs, weight_hh=inputs.weight_hh, h0=inputs.h0)


def _fake(*args: Any) -> tuple[Tensor, ...]:
    inputs = Inputs(*args)
    sizes = inputs.sizes()
    return tuple(inputs.inputs.new_empty(shape) for shape in (*shapes(Results, sizes), *shapes(Tape, sizes)))


def _backward_fake(*args: Any) -> tuple[Tensor, ...]:
    inputs = unflatten(BackwardInputs, args).inputs
    return tuple(getattr(inputs, name).new_empty(getattr(inputs, name).shape) for name in Gradients._fields)


def _backward_reference(*args: Any) -> tuple[Tensor, ...]:
    grads, inputs, _ = unflatten(BackwardInputs, args)
    leaves = (inputs.inputs, inputs.weight_hh, inputs.h0)
    return vjp(lambda x, w, h: lstm_sequence_reference(x, w, h, inputs.lengths, inputs.reverse), leaves, grads)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tape = output[len(Results._fields) :]
    ctx.reverse = inputs[-1]
    ctx.save_for_backward(*inputs[:-1], *tape)
    ctx.mark_non_differentiable(*tape)
    ctx.set_materialize_grads(False)  # it would make zeros for the tape


def _gradient(op: Any, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    tensors, tape = ctx.saved_tensors[: len(Inputs._fields) - 1], ctx.saved_tensors[len(Inputs._fields) - 1 :]
    inputs = unflatten(Inputs, (*tensors, ctx.reverse))
    given = [
        inputs.h0.new_zeros(shape) if grad is None else grad
        for grad, shape in zip(grads, shapes(Results, inputs.sizes()))
    ]
    found = Gradients(*op(*given, *inputs, *tape))
    return (*found, None, None)


_op = Op(
    "lstm_sequence",
    schema=f"({schema(Inputs)}) -> {results_schema(Results, Tape)}",
    backward_schema=f"({schema(BackwardInputs)}) -> {results_schema(Gradients)}",
    reference=lstm_sequence_reference,
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
    """An LSTM over the words 1 ... length of each caption, or length ... 1 (alignDRAW, section 3.1). For each word i:

        gates = inputs_i + h W_hhᵀ        h, c = lstm_gates(gates, c)

    Args:
        inputs: each word's product with the input weights, plus the bias: [B, N, 4m] in the order i, f, g, o, N ≥ 1.
            All floating tensors have one dtype. The arithmetic is float32, or float64 for float64.
        weight_hh: [4m, m].
        h0: the first hidden state, [m]; the first cell state is zero.
        lengths: int64 [B]; below 1 no word is read, above N all words.
        reverse: whether the last word is read first.

    Returns:
        The state at each word [B, N, m], undefined from word `length` on, and the last state [B, m].

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    if inputs.dtype in HALF:
        states, last = lstm_sequence(inputs.float(), weight_hh.float(), h0.float(), lengths, reverse)
        return states.to(inputs.dtype), last.to(inputs.dtype)
    states, last = _op(inputs, weight_hh, h0, lengths, reverse)[:2]
    return states, last
