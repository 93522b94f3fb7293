"""lstm_gates in Triton: c' = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c').

A program does BLOCK units of one row of the batch, in float32 (float64 for float64).
"""

import torch
import triton
import triton.language as tl
from aligndraw.kernels.launch import launch
from aligndraw.kernels.scalar import load, sigmoid, tanh
from torch import Tensor

BLOCK = 256


@triton.jit
def forward_kernel(gates, c, h, c_next, n, BLOCK: tl.constexpr):
    """gates [B, 4n] in the order i, f, g, o, c [B, n] -> h, c_next [B, n]"""
    row = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < n
    gate = gates + row * 4 * n + unit
    i = load(gate, inside)
    f = load(gate + n, inside)
    g = load(gate + 2 * n, inside)
    o = load(gate + 3 * n, inside)
    at = row * n + unit
    next = sigmoid(f) * load(c + at, inside) + sigmoid(i) * tanh(g)
    tl.store(c_next + at, next, inside)
    tl.store(h + at, sigmoid(o) * tanh(next), inside)


@triton.jit
def backward_kernel(grad_h, grad_c, gates, c, grad_gates, grad_c_prev, n, BLOCK: tl.constexpr):
    """grad_h, grad_c [B, n] -> grad_gates [B, 4n], grad_c_prev [B, n]"""
    row = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < n
    gate = gates + row * 4 * n + unit
    i = sigmoid(load(gate, inside))
    f = sigmoid(load(gate + n, inside))
    g = tanh(load(gate + 2 * n, inside))
    o = sigmoid(load(gate + 3 * n, inside))
    at = row * n + unit
    c_prev = load(c + at, inside)
    d_h = load(grad_h + at, inside)
    squashed = tanh(f * c_prev + i * g)
    d_c = load(grad_c + at, inside) + d_h * o * (1.0 - squashed * squashed)
    grad_gate = grad_gates + row * 4 * n + unit
    tl.store(grad_gate, d_c * g * i * (1.0 - i), inside)
    tl.store(grad_gate + n, d_c * c_prev * f * (1.0 - f), inside)
    tl.store(grad_gate + 2 * n, d_c * i * (1.0 - g * g), inside)
    tl.store(grad_gate + 3 * n, d_h * squashed * o * (1.0 - o), inside)
    tl.store(grad_c_prev + at, d_c * f, inside)


def _grid(c: Tensor) -> tuple[int, int]:
    batch, units = c.shape
    return batch, triton.cdiv(units, BLOCK)


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """gates [B, 4n], c [B, n] -> h [B, n] in gates' dtype, c' [B, n] in c's."""
    gates, c = gates.contiguous(), c.contiguous()
    h, c_next = gates.new_empty(c.shape), torch.empty_like(c)
    launch(forward_kernel, _grid(c), gates, c, h, c_next, c.shape[1], BLOCK=BLOCK, like=c)
    return h, c_next


def lstm_gates_backward(grad_h: Tensor, grad_c: Tensor, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """grad_h, grad_c [B, n], in gates' and c's dtypes -> grad_gates [B, 4n], grad_c_prev [B, n]."""
    grad_h, grad_c, gates, c = (t.contiguous() for t in (grad_h, grad_c, gates, c))
    grad_gates, grad_c_prev = torch.empty_like(gates), torch.empty_like(c)
    args = grad_h, grad_c, gates, c, grad_gates, grad_c_prev, c.shape[1]
    launch(backward_kernel, _grid(c), *args, BLOCK=BLOCK, like=c)
    return grad_gates, grad_c_prev
