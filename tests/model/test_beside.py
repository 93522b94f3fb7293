"""Units beside those of an LSTM cell."""

import pytest
import torch

from aligndraw.model.beside import ONE, Units, clock, lstm_with
from aligndraw.model.recurrent import LSTMCell


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_a_clock_tells_the_step_and_leaves_the_cell_alone(dtype, steps):
    torch.manual_seed(0)
    cell, joint = LSTMCell(3, 4).to(dtype), LSTMCell(3, 4 + steps).to(dtype)
    with torch.no_grad():
        cell.h0.uniform_(-1, 1)
        weight_ih, weight_hh, bias, h0 = lstm_with(cell, [clock(steps, cell)])
        for name, value in dict(weight_ih=weight_ih, weight_hh=weight_hh, bias=bias, h0=h0).items():
            setattr(joint, name, torch.nn.Parameter(value))
    own, both = cell.initial_state(2), joint.initial_state(2)
    for step in range(steps):
        told = torch.zeros(2, steps, dtype=dtype)
        told[:, step] = ONE
        torch.testing.assert_close(both[0][:, 4:], told, atol=1e-43, rtol=1e-6)
        input = 3 * torch.randn(2, 3, dtype=dtype)
        own, both = cell(input, own), joint(input, both)
        torch.testing.assert_close(both[0][:, :4], own[0])


def test_blocks_lie_in_the_order_of_the_units():
    torch.manual_seed(0)
    cell = LSTMCell(3, 2)

    def some(units, own):
        shapes = ((4, units, 3), (4, units, 2), (4, units, units), (4, units), (units,))
        values = [torch.randn(shape) for shape in shapes]
        return Units(*values[:2], values[2] if own else None, *values[3:])

    first, last = some(4, own=False), some(1, own=True)
    weight_ih, weight_hh, bias, h0 = lstm_with(cell, [first, last])
    gates = weight_hh.view(4, 7, 7)
    assert torch.equal(gates[:, :2, :2], cell.weight_hh.view(4, 2, 2)) and not gates[:, :2, 2:].any()
    assert torch.equal(gates[:, 2:6, :2], first.of_cell) and not gates[:, 2:6, 2:].any()
    assert torch.equal(gates[:, 6:, :2], last.of_cell) and not gates[:, 6:, 2:6].any()
    assert torch.equal(gates[:, 6:, 6:], last.of_themselves)
    for joint, part in ((weight_ih.view(4, 7, 3), "weight_ih"), (bias.view(4, 7), "bias"), (h0[None], "h0")):
        parts = [getattr(units, part) for units in (cell, first, last)]
        shaped = [p.view(joint.shape[0], -1, *joint.shape[2:]) for p in parts]
        assert torch.equal(joint, torch.cat(shaped, 1))
