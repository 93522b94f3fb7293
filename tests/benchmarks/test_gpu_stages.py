"""The measuring process and its clock, with a GPU that is played by the CPU and a clock that tells made-up times."""

import json

import bench_latent
import bench_lstm
import cases
import cuda_clock
import gpu_stages
import machine
import pytest
import torch

from aligndraw import ops


@pytest.fixture
def played(monkeypatch, tmp_path):
    """Runs a measurement of two cases on the CPU; gives its lines."""
    monkeypatch.setattr(machine, "describe", lambda device: {"gpu": "played"})
    monkeypatch.setattr(machine, "ceilings", lambda device: {"copy_gb_s": 1.0, "product_gflop_s": 1.0})
    monkeypatch.setattr(machine, "gpu_state", lambda: {"clocks.sm": "1 MHz"})
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"called": {"median": float(bool(call()))}})

    def run(seconds=60.0):
        benchmarks = (bench_lstm.BENCHMARK, bench_latent.BENCHMARK)
        found = [(b, cases.Case(b.op, "mnist", 2, "", "forward", "eager", "cpu")) for b in benchmarks]
        monkeypatch.setattr(gpu_stages, "plan", lambda stage: found)
        gpu_stages.measure("ops", tmp_path / "out", seconds)
        return [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]

    return run


def test_lines_come_in_the_order_that_the_report_reads(played):
    plan, facts, lstm, latent, after = played()
    assert [case["op"] for case in plan["plan"]] == ["lstm_gates", "latent"]
    assert facts["machine"] == {"gpu": "played"} and set(facts["ceilings"]) == {"copy_gb_s", "product_gflop_s"}
    assert lstm["op"] == "lstm_gates" and lstm["called"] == {"median": 1.0} and lstm["flops"] == 2 * 9 * 300
    assert latent["op"] == "latent" and latent["error"] <= 1
    assert after == {"after": {"clocks.sm": "1 MHz"}}


def test_when_the_time_is_up_the_plan_stands_without_figures(played):
    plan, facts, after = played(seconds=-1.0)
    assert len(plan["plan"]) == 2 and "after" in after


def test_a_wrong_result_and_a_failure_are_lines_without_figures(played, monkeypatch):
    right = cases.ops.lstm_gates
    monkeypatch.setattr(cases.ops, "lstm_gates", lambda gates, c: tuple(2 * t for t in right(gates, c)))

    def breaks(*args):
        raise RuntimeError("CUDA error: illegal address\nmore")

    monkeypatch.setattr(cases.ops, "latent", breaks)
    _, _, lstm, latent, _ = played()
    assert "not timed" in lstm["wrong"] and "called" not in lstm
    assert latent["failed"] == "CUDA error: illegal address" and "called" not in latent


@pytest.fixture
def clock(monkeypatch):
    """torch.cuda without a GPU; a call takes what `took` says."""
    took = {}
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4 * 2**20)
    monkeypatch.setattr(cuda_clock, "_launches", lambda call: 7)
    monkeypatch.setattr(cuda_clock, "_elapsed", lambda call, count: took[call])
    return took


def test_a_call_that_cannot_be_captured_keeps_its_other_time(clock, monkeypatch):
    def call():
        pass

    def refuses(call, repeats):
        raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    clock[call] = 2e-4
    monkeypatch.setattr(cuda_clock, "_captured", refuses)
    found = cuda_clock.measure(call)
    assert found.pop("called") == {"median": 2e-4, "p20": 2e-4, "p80": 2e-4}
    reason = "operation not permitted when stream is capturing"
    assert found == {"peak_mib": 3.0, "launches": 7, "replayed": None, "cold": None, "reason": reason}


def test_a_replayed_time_is_that_of_one_call(clock, monkeypatch):
    def call():
        pass

    class Graph:
        def replay(self):
            pass

    graph = Graph()
    replay = graph.replay
    graph.replay = replay
    clock[call], clock[replay] = 2.5e-4, 8e-4
    monkeypatch.setattr(cuda_clock, "_captured", lambda body, repeats: repeats == 4 and graph)
    assert cuda_clock._replayed(call, 0.1)["median"] == pytest.approx(2e-4)


def test_a_stage_is_what_more_steps_take(monkeypatch):
    """Two stages a step, and whatever a call costs besides."""
    monkeypatch.setattr(ops, "unroll_prior", lambda *arguments: arguments[4].shape[1])
    replayed = lambda call, cold: {"replayed": {"median": 5.0 + 3.0 * call()}}  # noqa: E731
    monkeypatch.setattr(cuda_clock, "measure", replayed)
    assert gpu_stages.stage_seconds("cpu", steps=4) == 1.5
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"replayed": None})
    assert gpu_stages.stage_seconds("cpu") is None


def test_what_a_stage_is_measured_with_is_valid(monkeypatch):
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"replayed": {"median": float(len(call()))}})
    assert gpu_stages.stage_seconds("cpu") == 0.0


def test_a_run_without_time_says_how_far_it_came(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    gpu_stages.paper(tmp_path / "out", 0.0, "cpu")
    found = json.loads((tmp_path / "out").read_text())
    assert found.pop("seconds") > 0
    assert found == {"updates": 0, "total": 15000, "bound": None, "ungraphed": "there are no CUDA graphs on cpu"}
