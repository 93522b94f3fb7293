"""The update rule of the authors over all parameters at once."""

import pytest
import torch

from aligndraw import ops, use_backend
from aligndraw.backends import missing_reason

BACKENDS = ["reference", pytest.param("cpp", marks=pytest.mark.skipif(
    bool(missing_reason("rmsprop_", "cpp", "cpu")), reason="no C++ ops here"))]  # fmt: skip
RULE = {"lr": 0.1, "decay": 0.9, "eps": 1e-6}


@pytest.fixture(params=BACKENDS)
def backend(request):
    with use_backend(request.param):
        yield request.param


def tensors(count=3):
    """Parameters, squares and gradients."""
    torch.manual_seed(0)
    shapes = [(70_000,), (3, 5), ()][:count]
    return [[torch.rand(shape) + 0.1 for shape in shapes] for _ in range(3)]


def test_follows_the_formula(backend):
    parameters, squares, gradients = tensors()
    scales = torch.tensor([1.0, 0.5, 0.25])
    exact = []
    for p, v, g, s in zip(parameters, squares, gradients, scales):
        scaled = s.double() * g.double()
        square = 0.9 * v.double() + 0.1 * scaled**2
        exact.append((p.double() - 0.1 * scaled / (square + 1e-6).sqrt(), square))
    ops.rmsprop_(parameters, squares, gradients, scales, **RULE)
    for p, v, (wanted, square) in zip(parameters, squares, exact):
        torch.testing.assert_close(p.double(), wanted, rtol=2e-6, atol=1e-7)
        torch.testing.assert_close(v.double(), square, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("skipped", [True, False])
def test_found_inf_skips_it(backend, skipped):
    """The kernel of C++ had not looked at it."""
    parameters, squares, gradients = tensors(2)
    before = [t.clone() for t in (*parameters, *squares)]
    gradients[0][7] = torch.nan if skipped else 1.0
    ops.rmsprop_(parameters, squares, gradients, torch.ones(2), **RULE, found_inf=torch.tensor(float(skipped)))
    assert [torch.equal(a, b) for a, b in zip((*parameters, *squares), before)] == [skipped] * 4


def test_refuses_with_one_message_on_every_backend():
    """Of as many numbers in another shape each had gone to the wrong parameter."""
    good, turned = [torch.zeros(2, 3)], [torch.ones(3, 2)]
    op = torch.ops.aligndraw.rmsprop_
    cases = {
        (0, 1, 2): r"gradients must have shape \[2, 3\] like parameters, got \[3, 2\]",
        (0, 1): "squares and gradients must number 1 like parameters, got 1 and 0",
    }
    for given, message in cases.items():
        arguments = [good, [good[0].clone()], turned if 2 in given else [], torch.ones(1), 0.1, 0.9, 1e-6]
        for call in (op, ops.rmsprop_):
            for name in ("reference", "cpp"):
                if missing_reason("rmsprop_", name, "cpu"):
                    continue
                with use_backend(name), pytest.raises(RuntimeError, match="rmsprop_: " + message):
                    call(*arguments)
    assert not good[0].any()
