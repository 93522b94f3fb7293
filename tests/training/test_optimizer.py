import copy
import math

import pytest
import torch
from torch import nn

from aligndraw import TrainingConfig
from aligndraw.training import RMSprop, clip_gradients, learning_rate


def test_rmsprop_is_the_authors_rule():
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(4, dtype=torch.float64))
    unused = nn.Parameter(torch.ones(2))
    optimizer = RMSprop([parameter, unused], lr=0.1)
    p, v = parameter.detach().clone(), torch.zeros(4, dtype=torch.float64)
    for _ in range(5):
        g = torch.randn(4, dtype=torch.float64)
        parameter.grad = g.clone()
        optimizer.step()
        v = 0.9 * v + 0.1 * g**2
        p = p - 0.1 * g / torch.sqrt(v + 1e-6)
        torch.testing.assert_close(parameter.detach(), p, rtol=1e-12, atol=0)
    assert (unused == 1).all()


def test_rmsprop_state_round_trip():
    def trained(steps):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.ones(3))
        optimizer = RMSprop([parameter], lr=0.1)
        for i in range(steps):
            parameter.grad = torch.tensor([1.0, -2.0, 0.5]) * (i + 1)
            optimizer.step()
        return parameter, optimizer

    (a, first), (b, second) = trained(3), trained(0)
    b.data.copy_(a.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for parameter, optimizer in ((a, first), (b, second)):
        parameter.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(a, b)


@pytest.mark.parametrize("clip", ["global", "per_tensor"])
def test_clipping(clip):
    a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([30.0, 40.0]), torch.tensor([3.0, 4.0])
    norm = clip_gradients([a, b, c], TrainingConfig(clip=clip, clip_norm=10.0))
    total = math.sqrt(50**2 + 5**2)
    assert norm.item() == pytest.approx(total)
    scale_a, scale_b = (10 / total, 10 / total) if clip == "global" else (10 / 50, 1.0)
    torch.testing.assert_close(a.grad, torch.tensor([30.0, 40.0]) * scale_a)
    torch.testing.assert_close(b.grad, torch.tensor([3.0, 4.0]) * scale_b)


def test_no_clipping():
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([30.0, 40.0])
    clip_gradients([a], TrainingConfig(clip_norm=0.0))
    assert a.grad.tolist() == [30.0, 40.0]


def test_schedules():
    paper = TrainingConfig.preset("paper")
    assert learning_rate(paper, 110 * 100 - 1) == pytest.approx(1e-3)
    assert learning_rate(paper, 110 * 100) == pytest.approx(1e-4)
    cosine = TrainingConfig(schedule="cosine", epochs=2, learning_rate=1.0)
    assert learning_rate(cosine, 0) == pytest.approx(1.0)
    assert learning_rate(cosine, 100) == pytest.approx(0.505)
    assert learning_rate(cosine, 200) == pytest.approx(0.01)
