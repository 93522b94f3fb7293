"""The ops for whatever arguments: as exact in C++ as the reference, and wrong ones refused in one wording."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason

BACKENDS = [b for b in ("cpp", "triton") if not any(missing_reason(o, b, "cpu") for o in ops.OPS)]
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
LAYOUTS = ("contiguous", "transposed", "sliced", "expanded")

batches, sides = st.integers(0, 3), st.integers(1, 24)
# Beyond, at and within the limits; a centre beyond 1 is off the image.
centres = st.one_of(st.floats(-1.25, 1.25, width=16), st.sampled_from((-9.0, -8.0, -2.5, 0.0, 3.0, 8.0, 9.0)))
logarithms = st.one_of(st.floats(-3.0, 2.5, width=16), st.sampled_from((-17.0, -16.0, 0.0, 16.0, 17.0)))


def laid_out(tensor, layout):
    """The same numbers, or for "expanded" the first row's, with other strides."""
    if layout == "transposed":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "sliced":
        return torch.stack([tensor, tensor], -1)[..., 0]
    if layout == "expanded":
        return tensor[:1].expand(tensor.shape) if len(tensor) else tensor
    return tensor


@st.composite
def arguments(draw, op):
    """Arguments of an op: shapes, windows and lengths are drawn, the rest comes of a seed that is."""
    dtype, layout = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(LAYOUTS))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    batch = draw(batches)

    def random(*shape):
        return laid_out(torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype), layout)

    if op in ("read", "write"):
        channels, height, width, size = draw(st.integers(1, 3)), draw(sides), draw(sides), draw(st.integers(1, 9))
        rows = [[draw(centres), draw(centres)] + [draw(logarithms) for _ in range(3)] for _ in range(batch)]
        window = laid_out(torch.tensor(rows, dtype=dtype).reshape(batch, 5), layout)
        picture = random(batch, channels, height, width)
        if op == "write":
            return random(batch, channels, size, size), window, picture
        return picture, window, size, random(*picture.shape) if draw(st.booleans()) else None
    if op == "attend":
        words, units, width = draw(st.integers(1, 9)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
        lengths = [draw(st.integers(1, words)) for _ in range(batch)]
        keys, values = random(batch, words, units), random(batch, words, width)
        return random(batch, units), keys, random(units), values, torch.tensor(lengths, dtype=torch.int64)
    units = draw(st.integers(1, 40))
    if op == "lstm_gates":
        return random(batch, 4 * units), random(batch, units)
    return tuple(random(batch, units) for _ in range(5))


def number_of(examples):
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=slow)


@pytest.mark.skipif("cpp" not in BACKENDS, reason="the ops in C++ are not built")
@pytest.mark.parametrize("op", ops.OPS)
@number_of(120)
@given(data=st.data())
def test_as_exact_as_the_reference(op, as_exact, data):
    as_exact(op, "cpp", data.draw(arguments(op)), tries=16)


OTHER_DTYPES = (*DTYPES, torch.float16, torch.int32, torch.int64, torch.uint8, torch.bool, torch.complex64)


@st.composite
def spoilt(draw, op):
    """Arguments of an op of which up to three are changed in shape, dtype or strides."""
    args = list(draw(arguments(op)))
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(args) - 1))
        if not isinstance(args[i], torch.Tensor):
            args[i] = args[i] if args[i] is None else draw(st.integers(-2, 3))
            continue
        change = draw(st.sampled_from(("dtype", "flat", "deeper", "shallower", "shorter", "empty", "longer", "turned")))
        axis = draw(st.integers(0, args[i].dim() - 1)) if args[i].dim() else None
        if change == "dtype":
            args[i] = args[i].real.to(draw(st.sampled_from(OTHER_DTYPES)))
        elif change == "flat":
            args[i] = args[i].flatten()
        elif change == "deeper":
            args[i] = args[i][None]
        elif axis is None:
            continue
        elif change == "shallower":
            args[i] = args[i].sum(axis) if args[i].dtype != torch.bool else args[i].any(axis)
        elif change == "shorter":
            args[i] = args[i].narrow(axis, 0, max(0, args[i].shape[axis] - 1))
        elif change == "empty":
            args[i] = args[i].narrow(axis, 0, 0)
        elif change == "longer":
            args[i] = torch.cat([args[i], args[i]], axis)
        else:
            args[i] = args[i].transpose(0, axis)
    return tuple(args)


def outcome(op, backend, args):
    """What is wrong with the arguments; or the shapes and dtypes of the results."""
    with aligndraw.use_backend(backend):
        try:
            results = getattr(ops, op)(*args)
        except RuntimeError as error:
            return str(error)
    return [(r.shape, r.dtype) for r in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", ops.OPS)
@number_of(60 if "triton" in BACKENDS else 300)  # Triton's interpreter is slow
@given(data=st.data())
def test_wrong_arguments_are_refused_alike(op, backend, data):
    args = data.draw(spoilt(op))
    assert outcome(op, backend, args) == outcome(op, "reference", args)
