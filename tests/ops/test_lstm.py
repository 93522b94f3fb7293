"""lstm_cell and lstm_gates, against torch's own cell."""

import pytest
import torch

from aligndraw import ops


def test_cell_equals_torch(make):
    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(7, 5, dtype=torch.float64)
    x, h, c = (torch.randn(3, k, dtype=torch.float64, requires_grad=True) for k in (7, 5, 5))
    parameters = (cell.weight_ih, cell.weight_hh, cell.bias_ih)
    ours = ops.lstm_cell(x, (h, c), cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh)
    theirs = cell(x, (h, c))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    for a, b in zip(
        *(torch.autograd.grad(sum(o.sin().sum() for o in r), (x, h, c, *parameters)) for r in (ours, theirs))
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("value", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_gates(value, dtype):
    gates = torch.full((2, 12), value, dtype=dtype, requires_grad=True)
    c = torch.tensor([[0.5, -2.0, 0.0]] * 2, dtype=dtype, requires_grad=True)
    for result, expected in zip(ops.lstm_gates(gates, c), ops.lstm_gates_reference(gates, c)):
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-30)
    grads = torch.autograd.grad(ops.lstm_gates(gates, c)[0].sum(), (gates, c))
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number_is_not_hidden(value):
    gates, c = torch.zeros(1, 20), torch.zeros(1, 5)
    gates[0, 10] = value  # g of the first unit
    for result, expected in zip(ops.lstm_gates(gates, c), ops.lstm_gates_reference(gates, c)):
        torch.testing.assert_close(result, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, c: (g[0], c), r"lstm_gates: gates must have shape \[B, 4n\], got \[20\]"),
        (lambda g, c: (g, c[0]), r"lstm_gates: c must have shape \[B, n\], got \[5\]"),
        (lambda g, c: (g, c[:2]), r"lstm_gates: c must have the rows of gates, 3, got 2"),
        (
            lambda g, c: (g[:, :19], c),
            r"lstm_gates: gates must have 4n = 20 columns for c of shape \[3, 5\], got \[3, 19\]",
        ),
        (lambda g, c: (g, c.float()), r"lstm_gates: c must be float64 like gates, got float32"),
        (lambda g, c: (g.float(), c), r"lstm_gates: gates must be float64 like c, got float32"),
        (
            lambda g, c: (g.long(), c),
            r"lstm_gates: gates must be float32, float64, bfloat16 or float16, got int64",
        ),
    ],
)
def test_errors(change, message, make):
    with pytest.raises(RuntimeError, match=message):
        ops.lstm_gates(*change(*make("lstm_gates")))


def test_cell_errors():
    x, h, c, w_ih, w_hh, b = (torch.zeros(s) for s in [(3, 7), (3, 5), (3, 5), (20, 7), (20, 5), (20,)])
    for args, message in [
        (
            (x[:, :6], (h, c), w_ih, w_hh, b),
            r"lstm_cell: weight_ih must have shape \[4n, k\] = \[20, 6\], got \[20, 7\]",
        ),
        ((x, (h[:2], c), w_ih, w_hh, b), r"lstm_cell: h must have shape \[B, n\] = \[3, n\], got \[2, 5\]"),
        ((x, (h, c), w_ih, w_hh, b[:4]), r"lstm_cell: bias must have shape \[4n\] = \[20\], got \[4\]"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            ops.lstm_cell(*args)
