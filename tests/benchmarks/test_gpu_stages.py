"""The measuring process, with a GPU that is played by the CPU."""

import faulthandler
import subprocess
import sys

import bench_latent
import bench_lstm
import bench_model
import cases
import cuda_clock
import gpu_cases
import gpu_runs
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
        monkeypatch.setattr(gpu_cases, "plan", lambda stage, device: found)
        gpu_stages.measure(stage, tmp_path / "out", seconds)
        lines = gpu_stages.read_lines(tmp_path / "out", stage)
        assert {line.pop("stage") for line in lines} == {stage}
        return lines

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
    script = "import time, gpu_stages as g\nwith g._ending_what_hangs(0.1): time.sleep(60)"
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
    monkeypatch.setattr(gpu_runs, "stage_seconds", raising(RuntimeError("too many blocks")))
    lines = played(stage="model")
    assert sum("called" in line for line in lines) == 2 and lines[-1] == {"stage_failed": "too many blocks"}
    monkeypatch.setattr(gpu_runs, "stage_seconds", lambda device: 2e-6)
    assert played(stage="model")[-1] == {"stage_seconds": 2e-6}


def test_products_need_no_generator_of_the_gpu(monkeypatch):
    draw = torch.randn
    monkeypatch.setattr(torch, "randn", lambda shape: draw(shape))
    products.call([(1, (2, 3, 4))], "meta")()


def test_a_stage_is_what_more_steps_take(monkeypatch):
    """Two stages a step, and whatever a call costs besides."""
    monkeypatch.setattr(ops, "unroll_prior", lambda *arguments: arguments[4].shape[1])
    replayed = lambda call, cold: {"replayed": {"median": 5.0 + 3.0 * call()}}  # noqa: E731
    monkeypatch.setattr(cuda_clock, "measure", replayed)
    assert gpu_runs.stage_seconds("cpu", steps=4) == 1.5
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"replayed": None, "reason": "it waits"})
    with pytest.raises(RuntimeError, match="it waits"):
        gpu_runs.stage_seconds("cpu")


def test_what_a_stage_is_measured_with_is_valid(monkeypatch):
    monkeypatch.setattr(cuda_clock, "measure", lambda call, cold: {"replayed": {"median": float(len(call()))}})
    assert gpu_runs.stage_seconds("cpu") == 0.0


def lines_of(stage, run, tmp_path, *arguments):
    """What a run of gpu_runs says."""
    run(gpu_stages.sayer(tmp_path / "out", stage), *arguments)
    return gpu_stages.read_lines(tmp_path / "out", stage)


@pytest.fixture
def without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


def test_a_run_without_time_says_how_far_it_came(tmp_path, without_cuda):
    (found,) = lines_of("paper", gpu_runs.paper, tmp_path, 0.0, "cpu")
    assert found.pop("seconds") > 0 and 100 < found.pop("bound") < 10_000
    assert found == {"stage": "paper", "updates": 1, "total": 15000, "ungraphed": "there are no CUDA graphs on cpu"}


def test_a_run_that_is_killed_keeps_its_figures_so_far(monkeypatch, tmp_path):
    """The file once held figures of finished runs only."""

    def killed(trainer, on_update, stopping):
        for index in range(5):
            trainer.index = index + 1
            on_update(Update(index, 0, 3.0, 4.0 + index, 0.0, 0.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_runs, "fit", killed)
    monkeypatch.setattr(gpu_runs, "PROGRESS_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        gpu_runs.paper(gpu_stages.sayer(tmp_path / "out", "paper"), 60.0, "cpu")
    found = gpu_stages.read_lines(tmp_path / "out", "paper")
    assert [(line["updates"], line["bound"]) for line in found] == [(2, 8.0), (4, 10.0)]


def test_a_half_written_line_leaves_the_next_one_whole(tmp_path):
    """A process that is killed in its writing is followed by another one on the same file."""
    (tmp_path / "out").write_text('{"stage": "ops", "plan": [')
    gpu_stages.sayer(tmp_path / "out", "model")(after={})
    assert gpu_stages.read_lines(tmp_path / "out", "model") == [{"stage": "model", "after": {}}]


def test_a_library_whose_kernel_is_wrong_does_not_load(monkeypatch):
    gpu_stages.load("cpu")
    monkeypatch.setattr(ops, "lstm_gates", lambda gates, c: (c, c))
    with pytest.raises(RuntimeError, match="must leave half of the cell state"):
        gpu_stages.load("cpu")


def test_packages_that_the_report_lacks_are_named(monkeypatch, capsys):
    monkeypatch.setattr(gpu_stages, "NEEDED", {"torch": "torch", "no_such_module": "no-such-distribution"})
    with pytest.raises(SystemExit) as ended:
        gpu_stages.load("cpu")
    assert ended.value.code == gpu_stages.LACKING
    assert capsys.readouterr().out.startswith("the report needs no-such-distribution: install them")


DRY = {
    "load": 0, "touch": 8, "step": 0, "profile": 1, "paper": 1, "ops": 43, "model": 41,
}  # fmt: skip


@pytest.fixture
def own_models():
    """The benchmark keeps its last model and truth, and other tests give the presets other sizes.

    One thread: two wait for each other on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield [cache.cache_clear() for cache in (bench_model._model, bench_model._truth)]
    torch.set_num_threads(threads)
    for cache in (bench_model._model, bench_model._truth):
        cache.cache_clear()


@pytest.mark.parametrize("stage", DRY)
def test_each_stage_runs_dry(stage, tmp_path, own_models):
    """Every line of a stage on the CPU, so that a slip of the pen costs no GPU its hour; and CUDA is itself again."""
    event = torch.cuda.Event
    # However busy the machine is, no case may end the stage, and none this process.
    seconds = 0 if stage == "paper" else 1e6
    arguments = ("--out", tmp_path / "out", "--seconds", seconds, "--hangs", 1e6, "--dry")
    gpu_stages.main([stage, *map(str, arguments)])
    lines = gpu_stages.read_lines(tmp_path / "out", stage)
    assert len(lines) == DRY[stage] and torch.cuda.Event is event
    problems = ("failed", "wrong", "reason", "stage_failed")
    assert [line[problem] for line in lines for problem in problems if problem in line] == []
    if stage in gpu_stages.MEASUREMENTS:
        plan = lines[0]["plan"]
        assert len(plan) == sum("called" in line for line in lines) and all(c["preset"] == "quick" for c in plan)
    if stage == "profile":
        (found,) = lines
        assert found["kernels"][0]["seconds"] <= found["kernel_seconds"] and found["launches"] > 100
