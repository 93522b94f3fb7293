"""What is timed is right, and is what its name says."""

import dataclasses
import importlib
import os
import time

import cases
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aligndraw import AlignDRAWConfig, ops
from aligndraw.backends import backend_for

FILES = ("read", "write", "attend", "lstm", "latent")


def load(file):
    return importlib.import_module(f"bench_{file}").BENCHMARK


def case(file="lstm", form="eager", direction="forward", batch=3):
    benchmark = load(file)
    return benchmark, cases.Case(benchmark.op, "mnist", batch, benchmark.windows[0], direction, form, "cpu")


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("file", FILES)
def test_every_form_is_checked_and_can_be_called_again(file, direction):
    for form in ["eager", *cases.built(load(file).op, "cpu")]:
        benchmark, one = case(file, form, direction)
        with benchmark.prepared(one) as ready:
            first, second = (cases.as_tuple(ready.call()) for _ in range(2))
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
            assert len(first) == (len(benchmark.inputs) if direction == "backward" else len(first))
            assert 0 < ready.error <= 1


@pytest.mark.skipif("cpp" not in cases.built("lstm_gates", "cpu"), reason="the C++ ops are not built")
def test_forms_are_timed_in_turn():
    """Each call with its own backend, in the model's order of magnitude, whatever the machine's speed does."""
    served = []
    pause = {"reference": 3e-3, "cpp": 1e-3}

    def slow_machine():
        backend = backend_for("lstm_gates", "cpu")
        served.append(backend)
        time.sleep(pause[backend] * (1 + len(served) // 20))

    ratio = cases._ratio_in_turn(("eager", slow_machine), ("cpp", slow_machine))
    assert 2 < ratio < 4
    assert set(served) == {"reference", "cpp"}


def test_only_a_form_of_ours_is_held_against_what_is_there(monkeypatch):
    monkeypatch.setattr(cases, "_ratio_in_turn", lambda slow, quick: (slow[0], quick[0]))
    monkeypatch.setattr(cases, "_latest", {})
    for form, expected in (("eager", {}), ("cpp", {"eager": ("eager", "cpp")})):
        if form not in ("eager", *cases.built("lstm_gates", "cpu")):
            continue
        benchmark, one = case(form=form)
        with benchmark.prepared(one) as ready:
            assert ready.in_turn() == expected


@pytest.mark.parametrize("wrong", [1 + 1e-4, float("nan")])
@pytest.mark.parametrize("file", FILES)
def test_a_wrong_result_is_never_timed(file, wrong, monkeypatch):
    benchmark, one = case(file, batch=4)
    right = getattr(ops, benchmark.op)

    def slightly_off(*args):
        first, *others = cases.as_tuple(right(*args))
        return (first * wrong, *others)

    monkeypatch.setattr(ops, benchmark.op, slightly_off)
    with pytest.raises(cases.WrongResult, match="result 0 is off by .*: not timed"), benchmark.prepared(one):
        pytest.fail("a wrong result got as far as the clock")


def test_a_wrong_gradient_is_never_timed(monkeypatch):
    benchmark, one = case("write")
    right = ops.write

    def without_gradient(patch, window, canvas):
        return right(patch, window.detach(), canvas) + 0 * window.sum()

    monkeypatch.setattr(ops, "write", without_gradient)
    with pytest.raises(cases.WrongResult, match="the gradient of window is off"), benchmark.prepared(one):
        pytest.fail("a wrong gradient got as far as the clock")


def test_the_model_is_checked_too(monkeypatch):
    import bench_model

    monkeypatch.setattr(bench_model, "config_of", lambda preset: AlignDRAWConfig(steps=2, align_units=8))
    one = cases.Case("train", "quick", 2, "", "both", "fastest", "cpu")
    chosen = {op: backend_for(op, "cpu") for op in (*ops.OPS, *ops.LOOPS)}
    with bench_model.BENCHMARK.prepared(one) as ready:
        assert ready.error <= 1
        assert ready.backends == chosen
    right = ops.unroll
    monkeypatch.setattr(ops, "unroll", lambda image, *others: right(image * 0.999, *others))
    with pytest.raises(cases.WrongResult, match="not timed"), bench_model.BENCHMARK.prepared(one):
        pytest.fail("a wrong gradient got as far as the clock")


def test_every_call_rounds_its_weights_anew(monkeypatch):
    """Autocast keeps rounded weights until it is left: it may not outlive a call."""
    import bench_model

    monkeypatch.setattr(bench_model, "config_of", lambda preset: AlignDRAWConfig(steps=2, align_units=8))
    one = cases.Case("train", "quick", 2, "", "both", "eager_bf16", "cpu")
    with bench_model.BENCHMARK.prepared(one) as ready:
        assert not torch.is_autocast_enabled("cpu")
        rounded = ready.call()["the KLs of the steps"][0]
    with bench_model.BENCHMARK.prepared(dataclasses.replace(one, form="eager")) as ready:
        assert not torch.equal(rounded, ready.call()["the KLs of the steps"][0])


def test_a_backend_that_is_named_must_be_built():
    with pytest.raises(cases.NotBuilt, match="lstm_gates: backend 'cuda' was asked for and cannot be timed on cpu: "):
        load("lstm").cases("cpu", ["cuda"])


def test_every_backend_that_is_built_is_timed_but_no_interpreter(monkeypatch):
    monkeypatch.setattr(cases, "missing_reason", lambda op, backend, device: "")
    assert {case.form for case in load("read").cases("cuda")} == {"eager", "compiled", "cpp", "cuda", "triton"}
    assert {case.form for case in load("read").cases("cuda", ["triton"])} == {"eager", "compiled", "triton"}
    assert "triton" not in {case.form for case in load("read").cases("cpu")}
    with pytest.raises(cases.NotBuilt, match="Triton's interpreter"):
        load("read").cases("cpu", ["triton"])


def test_the_forms_of_the_loops_stand_against_each_other(monkeypatch):
    import bench_model

    monkeypatch.setattr(cases, "missing_reason", lambda op, backend, device: "")
    forms = {op: set() for op in ("train", "sample")}
    for case in bench_model.BENCHMARK.cases("cuda"):
        if case.op in forms and case.batch == 1024 and case.preset == "coco":
            forms[case.op].add(case.form)
    designs = {"launches", "persistent", "cluster", "triton"}
    assert forms["sample"] == {"eager", "compiled", "fastest", "products"} | designs
    rounded = {f"{form}_bf16" for form in ("eager", "launches", "persistent", "cluster")}
    rounded |= {"bf16", "eager_tf32", "launches_tf32"}
    assert forms["train"] == forms["sample"] | rounded
    assert not designs & {case.form for case in bench_model.BENCHMARK.cases("cpu")}


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_rounded_arguments_of_an_op(direction):
    """Results are held against float64 of the rounded arguments, within what the reference under autocast may err."""
    benchmark = load("latent")
    case = next(case for case in benchmark.cases("cpu") if case.form == "eager_bf16" and case.direction == direction)
    with benchmark.prepared(case) as ready:
        assert 0 < ready.error <= 0.5
        found = cases.as_tuple(ready.call())
    assert {t.dtype for t in found} <= {torch.bfloat16, torch.float32} and torch.bfloat16 in {t.dtype for t in found}
    assert not torch.is_autocast_enabled("cpu")


def test_a_form_that_has_no_room_is_not_built(monkeypatch):
    import bench_model

    monkeypatch.setenv("ALIGNDRAW_LOOP", "auto")
    with pytest.raises(cases.NotBuilt, match="cannot be: the weights are larger"), bench_model.loops("persistent"):
        assert os.environ["ALIGNDRAW_LOOP"] == "persistent"
        raise RuntimeError("unroll: ALIGNDRAW_LOOP=persistent cannot be: the weights are larger than the memory")
    assert os.environ["ALIGNDRAW_LOOP"] == "auto"


def test_the_forms_of_a_question_stand_side_by_side():
    """The forms share their arguments and truth, of which one set is kept at a time."""
    for file in FILES:
        found = [case.question for case in load(file).cases("cpu", full=True)]
        changes = sum(a != b for a, b in zip(found, found[1:]))
        assert changes == len(set(found)) - 1


def numbers(tensors):
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor)) // 4


@pytest.mark.parametrize("preset", cases.PRESETS)
@pytest.mark.parametrize("file", FILES)
def test_stated_bytes_are_those_of_the_tensors(file, preset):
    """Forward: arguments and results. Backward: what its op takes and gives, but for what nobody asks for."""
    benchmark, sizes, batch = load(file), cases.Sizes.of(preset), 3
    arguments = benchmark.arguments(sizes, batch, benchmark.windows[0])
    outputs = cases.as_tuple(getattr(ops, f"{benchmark.op}_reference")(*arguments.values()))
    work = benchmark.forward(sizes)
    assert work.of(batch)["bytes"] == 4 * numbers([*arguments.values(), *outputs])
    inputs = [arguments[name] for name in benchmark.inputs]
    taken = {
        "read": [*arguments.values(), *outputs],
        "write": [arguments["patch"], arguments["window"], *outputs] if file == "write" else [],
        "attend": [*arguments.values(), *outputs, outputs[-1]],  # the weights, and their gradient
        "lstm": [*arguments.values(), *outputs],
        "latent": [*arguments.values(), *outputs],
    }[file]
    given = inputs[:2] if file == "write" else inputs  # the canvas's gradient is that of the result
    assert benchmark.backward(sizes).of(batch)["bytes"] == 4 * numbers([*taken, *given])


@pytest.mark.parametrize("preset", cases.PRESETS)
@pytest.mark.parametrize("file", ["read", "write"])
def test_stated_operations_hold_those_of_the_matrix_products(file, preset):
    """PyTorch counts the products alone: they are most of what is stated, and H = W makes their order equal."""
    benchmark, sizes = load(file), cases.Sizes.of(preset)
    arguments = benchmark.arguments(sizes, 1, "trained")
    with FlopCounterMode(display=False) as counter:
        getattr(ops, f"{benchmark.op}_reference")(*arguments.values())
    s, channels = sizes, 2 * sizes.C if file == "read" else sizes.C
    elementwise = 6 * s.p * (s.H + s.W) + channels * s.p**2 + (channels if file == "read" else s.C) * s.H * s.W
    assert benchmark.forward(sizes).flops == counter.get_total_flops() + elementwise
