"""The measuring process and its clock, with a GPU that is played by the CPU and a clock that tells made-up times."""

import faulthandler
import json
import subprocess
import sys

import bench_latent
import bench_lstm
import cases
import cuda_clock
import gpu_stages
import machine
import products
import pytest
import torch

from aligndraw import ops
from aligndraw.training import Update


@pytest.fixture
def played(monkeypatch, tmp_path):
    """Runs a measurement of two cases on the CPU; gives its lines."""
    monkeypatch.setattr(machine, "describe", lambda device: {"gpu": "played"})
    monkeypatch.setattr(machine, "ceilings", lambda device: {"copy_gb_s": 1.0, "product_gflop_s": 1.0})
    monkeypatch.setattr(machine, "gpu_state", lambda: {"clocks.sm": "1 MHz"})
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"called": {"median": float(bool(call()))}})
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)

    def run(seconds=60.0, stage="ops", form="eager"):
        benchmarks = (bench_lstm.BENCHMARK, bench_latent.BENCHMARK)
        found = [(b, cases.Case(b.op, "mnist", 2, "", "forward", form, "cpu")) for b in benchmarks]
        monkeypatch.setattr(gpu_stages, "plan", lambda stage: found)
        gpu_stages.measure(stage, tmp_path / "out", seconds)
        return gpu_stages.read_lines(tmp_path / "out")

    return run


def test_lines_come_in_the_order_that_the_report_reads(played):
    plan, facts, begun, lstm, also_begun, latent, after = played()
    assert [begun["begun"], also_begun["begun"]] == plan["plan"]
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

    monkeypatch.setattr(cases.ops, "latent", raising(RuntimeError("CUDA error: illegal address\nmore")))
    _, _, _, lstm, _, latent, _ = played()
    assert "not timed" in lstm["wrong"] and "called" not in lstm
    assert latent["failed"] == "CUDA error: illegal address" and "called" not in latent


def raising(problem):
    def breaks(*arguments, **options):
        raise problem

    return breaks


@pytest.mark.parametrize(
    ("problem", "words"),
    [(RuntimeError(), "RuntimeError()"), (Exception("\n"), "Exception('\\n')"), (TypeError("\nb\nc"), "b")],
)
def test_whatever_goes_wrong_fails_its_case_alone_and_has_words(played, monkeypatch, problem, words):
    monkeypatch.setattr(cases.ops, "lstm_gates", raising(problem))
    _, _, _, lstm, _, latent, _ = played()
    assert lstm["failed"] == words and "called" in latent


def test_a_lost_context_leaves_the_other_cases_to_another_process(played, monkeypatch):
    right = cases.ops.lstm_gates
    monkeypatch.setattr(cases.ops, "lstm_gates", raising(RuntimeError("CUDA error: illegal address")))
    monkeypatch.setattr(torch.cuda, "synchronize", raising(RuntimeError("CUDA error: illegal address")))
    with pytest.raises(SystemExit) as ended:
        played()
    assert ended.value.code == gpu_stages.AGAIN
    monkeypatch.setattr(cases.ops, "lstm_gates", right)
    plan, facts, begun, lstm, also_begun, latent, after = played()
    assert "failed" in lstm and "called" in latent


def test_a_failed_capture_leaves_the_other_cases_to_another_process(played, monkeypatch):
    found = [{"called": {"median": 1.0}, "reason": "it waits for the GPU"}, {"called": {"median": 2.0}}]
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: found.pop(0))
    with pytest.raises(SystemExit) as ended:
        played()
    assert ended.value.code == gpu_stages.AGAIN
    lines = played()
    assert [line["called"]["median"] for line in lines if "called" in line] == [1.0, 2.0]


def test_what_hangs_is_ended():
    script = "import time, gpu_stages as g; g.HANGS = 0.1\nwith g._ending_what_hangs(): time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", script], cwd=cases.__file__.rpartition("/")[0], capture_output=True)
    assert done.returncode == 1 and b"Timeout" in done.stderr


def test_every_case_is_watched_but_a_compiler(played, monkeypatch):
    watch = []
    monkeypatch.setattr(gpu_stages, "_found", lambda benchmark, case: {"called": {"median": 1.0}})
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit: watch.append((seconds, exit)))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: watch.append("done"))
    played()
    assert watch == [(gpu_stages.HANGS, True), "done"] * 2
    played(form="compiled")
    assert len(watch) == 4


def test_a_stage_of_the_loops_is_timed_last_and_fails_alone(played, monkeypatch):
    built = cases.built
    monkeypatch.setattr(cases, "built", lambda op, device: ["cuda"] if op == "unroll_prior" else built(op, device))
    monkeypatch.setattr(gpu_stages, "stage_seconds", raising(RuntimeError("too many blocks")))
    lines = played(stage="model")
    assert sum("called" in line for line in lines) == 2 and lines[-1] == {"stage_failed": "too many blocks"}
    monkeypatch.setattr(gpu_stages, "stage_seconds", lambda: 2e-6)
    assert played(stage="model")[-1] == {"stage_seconds": 2e-6}


def test_products_need_no_generator_of_the_gpu(monkeypatch):
    draw = torch.randn
    monkeypatch.setattr(torch, "randn", lambda shape: draw(shape))
    products.call([(1, (2, 3, 4))], "meta")()


@pytest.fixture
def clock(monkeypatch):
    """torch.cuda without a GPU; a call takes what `took` says."""
    took = {}
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4 * 2**20)
    monkeypatch.setattr(cuda_clock, "_launches", lambda graph, repeats: {"launches": 7})
    monkeypatch.setattr(cuda_clock, "_elapsed", lambda call, count: took[call])
    return took


def test_a_call_that_cannot_be_captured_keeps_its_other_time(clock, monkeypatch):
    def call():
        pass

    clock[call] = 2e-4
    problem = RuntimeError("operation not permitted when stream is capturing\nand so on")
    monkeypatch.setattr(cuda_clock, "_captured", raising(problem))
    found = cuda_clock.measure(call)
    assert found.pop("called") == {"median": 2e-4, "p20": 2e-4, "p80": 2e-4}
    reason = "operation not permitted when stream is capturing"
    assert found == {"peak_mib": 3.0, "launches": None, "replayed": None, "cold": None, "reason": reason}


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
    found = cuda_clock._replayed(call, 0.1)
    assert found["replayed"]["median"] == pytest.approx(2e-4) and found["launches"] == 7


class Runtime:
    """CUDA's, for a graph with nodes of these kinds, whose handles are 1, 2, …"""

    def __init__(self, kinds, code=0):
        self.kinds, self.code = kinds, code

    def cudaGraphGetNodes(self, graph, nodes, count):
        assert graph.value == 77
        if nodes is None:
            count._obj.value = len(self.kinds)
        else:
            nodes[:] = range(1, len(self.kinds) + 1)
        return self.code

    def cudaGraphNodeGetType(self, node, kind):
        kind._obj.value = self.kinds[node.value - 1]
        return 0


class Graph:
    def raw_cuda_graph(self):
        return 77


@pytest.mark.parametrize(
    ("runtime", "found"),
    [
        (Runtime([0, 5, 2, 0, 5, 1]), {"launches": 2}),
        (Runtime([]), {"launches": 0}),
        (Runtime([0, 4]), {"launches": None, "uncounted": "nodes of the kinds [0, 4] stand in the graph"}),
        (Runtime([], code=1), {"launches": None, "uncounted": "cudaGraphGetNodes returned 1"}),
    ],
)
def test_launches_are_what_the_graph_of_two_calls_has(monkeypatch, runtime, found):
    monkeypatch.setattr(cuda_clock.ctypes, "CDLL", lambda name: runtime)
    assert cuda_clock._launches(Graph(), 2) == found


def test_without_a_cuda_runtime_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(cuda_clock.ctypes, "CDLL", lambda name: object())
    found = cuda_clock._launches(Graph(), 2)
    assert found["launches"] is None and "cudaGraphGetNodes" in found["uncounted"]


def test_a_stage_is_what_more_steps_take(monkeypatch):
    """Two stages a step, and whatever a call costs besides."""
    monkeypatch.setattr(ops, "unroll_prior", lambda *arguments: arguments[4].shape[1])
    replayed = lambda call, cold: {"replayed": {"median": 5.0 + 3.0 * call()}}  # noqa: E731
    monkeypatch.setattr(cuda_clock, "measure", replayed)
    assert gpu_stages.stage_seconds("cpu", steps=4) == 1.5
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"replayed": None, "reason": "it waits"})
    with pytest.raises(RuntimeError, match="it waits"):
        gpu_stages.stage_seconds("cpu")


def test_what_a_stage_is_measured_with_is_valid(monkeypatch):
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"replayed": {"median": float(len(call()))}})
    assert gpu_stages.stage_seconds("cpu") == 0.0


def test_a_run_without_time_says_how_far_it_came(tmp_path):
    gpu_stages.paper(tmp_path / "out", 0.0, "cpu")
    found = json.loads((tmp_path / "out").read_text())
    assert found.pop("seconds") > 0 and 100 < found.pop("bound") < 10_000
    assert found == {"updates": 1, "total": 15000, "ungraphed": "there are no CUDA graphs on cpu"}


def test_a_run_that_is_killed_keeps_its_figures_so_far(monkeypatch, tmp_path):
    """The file once held figures of finished runs only."""

    def killed(trainer, on_update, stopping):
        for index in range(5):
            trainer.index = index + 1
            on_update(Update(index, 0, 3.0, 4.0 + index, 0.0, 0.0))
        raise KeyboardInterrupt

    monkeypatch.setattr("aligndraw.training.loop.fit", killed)
    monkeypatch.setattr(gpu_stages, "PROGRESS_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        gpu_stages.paper(tmp_path / "out", 60.0, "cpu")
    found = json.loads((tmp_path / "out").read_text())
    assert (found["updates"], found["bound"]) == (4, 10.0)
