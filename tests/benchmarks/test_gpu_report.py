"""gpu_report.py with a runner that plays the GPU machine; nothing here is a measurement."""

import json
import os
import sys
import time

import gpu_report
import gpu_stages
import pytest
from gpu_report import Done

MACHINE = {
    "device": "cuda", "cpu": "A CPU", "cpus": 16, "threads": 16, "python": "3.12", "torch": "2.11.0+cu130",
    "triton": "3.6.0", "aligndraw": None, "commit": "unknown", "gpu": "ACME X100 (80GB)",
    "compute_capability": "9.0", "cuda": "13.0", "driver_version": "1.2", "clocks.sm": "345 MHz",
}  # fmt: skip
SUITE = """\
tests/ops/test_device.py::test_a[x y-cuda] PASSED                        [ 25%]
tests/ops/test_device.py::test_b SKIPPED (no kernel)                     [ 50%]
tests/test_c.py::test_c {outcome}                                        [ 75%]
SKIPPED [2] tests/ops/test_device.py:52: read has no cuda kernel
SKIPPED [1] tests/ops/test_device.py:60: read has no cuda kernel
=== the end ===
"""


def spread(median):
    return {"median": median, "p20": median, "p80": median}


def row(form, **found):
    size = {"preset": "mnist", "batch": 100, "window": "trained"}
    return {"op": "read", **size, "direction": "forward", "device": "cuda", "form": form, **found}


def timed(form, called, replayed, **more):
    times = {"called": spread(called), "replayed": spread(replayed), "cold": spread(2 * replayed)}
    facts = {"peak_mib": 1.0, "launches": 3, "bytes": 8_000_000, "flops": 2_000_000, "error": 0.5}
    return row(form, **times, **facts, compile_seconds=None, **more)


KINDS = ("probe", "pip", "aligndraw.info", "pytest", "touch", "ops", "model", "compiled", "paper")
ROWS = [timed("eager", 8e-5, 4e-5), timed("compiled", 2e-5, 1e-5), timed("cuda", 1e-5, 2e-5)]


class Machine:
    """Answers every command that a report gives; `change` replaces what it says to one of them."""

    def __init__(self, **change):
        self.change, self.commands, self.environments = change, [], []
        self.code = None  # of a measurement that ends early

    def __call__(self, command, seconds, environment):
        self.commands.append(list(command))
        self.environments.append(dict(environment))
        kind = next(k for k in KINDS if k in str(command))
        answer = self.change.get(kind, getattr(self, kind.replace(".", "_"))())
        if isinstance(answer, dict):  # what became of a run
            with open(command[command.index("--out") + 1], "w") as file:
                json.dump(answer, file)
            answer = Done(0, 70.0, "")
        if isinstance(answer, list):  # lines of a measurement
            out = command[command.index("--out") + 1]
            plan = {"plan": [{k: r[k] for k in row("x")} for r in ROWS]}
            with open(out, "w") as file:
                file.write("\n".join(json.dumps(line) for line in [plan, *answer]) + '\n{"half a li')
            answer = Done(self.code if len(answer) < 4 else 0, 9.0, "Segmentation fault" if self.code else "")
        return answer

    def probe(self):
        return Done(0, 1.0, "a warning\n" + json.dumps(MACHINE) + "\n")

    def touched(self):
        """The backends that compute-sanitizer saw, by its tool."""
        found = [command for command in self.commands if "touch" in command]
        return {command[2]: command[command.index("--backends") + 1 :] for command in found}

    def pip(self):
        return Done(0, 20.0, "Successfully installed")

    def aligndraw_info(self):
        return Done(0, 1.0, "op  cuda\nread  yes\n")

    def pytest(self):
        return Done(0, 30.0, SUITE.format(outcome="PASSED"))

    def touch(self):
        return Done(0, 5.0, '["read cuda", "write triton"]\n========= ERROR SUMMARY: 0 errors\n')

    def ops(self):
        ceilings = {"copy_gb_s": 4000.0, "product_gflop_s": 50000.0}
        return [{"machine": MACHINE, "ceilings": ceilings}, *ROWS, {"after": {"clocks.sm": "1980 MHz"}}]

    model = compiled = ops

    def paper(self):
        return {"updates": 15000, "total": 15000, "seconds": 61.5, "bound": 99.0, "ungraphed": ""}


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs the command; gives its exit code, JSON and page."""
    monkeypatch.setattr(gpu_report, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_report.shutil, "which", lambda name, path=None: f"/bin/{name}")

    def run(machine, *arguments):
        code = gpu_report.main(list(arguments), machine)
        folder = tmp_path / "benchmarks" / "results"
        stem = folder / "acme-x100-80gb"
        if not folder.exists():
            return code, None, None
        assert sorted(p.name for p in folder.iterdir()) == [f"{stem.name}.json", f"{stem.name}.md"]
        return code, json.loads(stem.with_suffix(".json").read_text()), stem.with_suffix(".md").read_text()

    return run


def cells(page, *start):
    """The line of the page's tables that starts with these cells."""
    split = [[c.strip() for c in line.strip("|").split(" | ")] for line in page.splitlines() if line.startswith("|")]
    return next(line for line in split if line[: len(start)] == list(start))


def test_no_gpu_measures_nothing(report, capsys):
    answer = Done(0, 1.0, json.dumps({"reason": "torch 2.13.0 sees no CUDA device"}))
    machine = Machine(probe=answer)
    assert report(machine) == (2, None, None)
    said = capsys.readouterr().err
    assert said.startswith("gpu_report: nothing was measured: torch 2.13.0 sees no CUDA device. Still unmeasured: ")
    assert said.count("\n") == 1 and said.endswith("\n")
    assert "persistent" in said and "torch.compile" not in said  # what was not asked for
    assert len(machine.commands) == 1


def test_a_broken_python_measures_nothing(report, capsys):
    assert report(Machine(probe=Done(1, 1.0, "Traceback\nImportError: libtorch")))[0] == 2
    assert "libtorch" in capsys.readouterr().err


def test_a_whole_run(report, tmp_path):
    machine = Machine()
    code, results, page = report(machine, "--commit", "f00", "--out", str(tmp_path / "other"))
    assert not machine.touched()
    assert code == 0
    assert (tmp_path / "other" / "acme-x100-80gb.md").read_text() == page
    statuses = {stage: found["status"] for stage, found in results["stages"].items()}
    by_name = ("sanitizer", "compiled")
    assert statuses == {**dict.fromkeys(gpu_report.DEFAULT, "done"), **dict.fromkeys(by_name, "not measured")}
    for stage in by_name:
        assert cells(page, stage) == [stage, "not measured", "–", "not asked for"]
    assert "ACME X100 (80GB), driver 1.2, CUDA 13.0" in page and "commit f00." in page
    assert "At the start: clocks.sm 345 MHz." in page and "After measuring: clocks.sm 1980 MHz." in page
    assert "2 passed, 1 skipped." in page and "- skipped, 3: read has no cuda kernel" in page
    assert "A copy reaches 4000 GB/s" in page
    expected = ["10 µs", "8.00×", "2.00×", "20 µs", "2.00×", "0.50×", "40 µs", "200 (5%)", "50 (0%)", "1.0", "3", "–"]
    assert cells(page, "read mnist B=100 trained forward", "cuda")[2:] == expected
    assert "read  yes" in page
    assert "All 15,000 updates of batch 100, by CUDA graphs, in 61.5 s with the making of the data." in page


def test_the_model_has_its_rates_launches_and_stage(report):
    facts = {"op": "train", "window": "", "direction": "both", "steps": 2, "cold": None, "bytes": 0}
    rows = [{**timed(form, 2e-4, 1e-4), **facts} for form in ("persistent", "persistent_bf16", "launches_tf32")]
    products = {"product_gflop_s": 40.0, "bf16_product_gflop_s": 200.0, "tf32_product_gflop_s": 80.0}
    ceilings = {"copy_gb_s": 4000.0, **products}
    plan = {"plan": [{k: r[k] for k in row("x")} for r in rows]}
    machine = Machine(model=[{"ceilings": ceilings}, {"stage_seconds": 2e-6}, plan, *rows, {"after": {}}])
    _, _, page = report(machine)
    assert "40 GFLOP/s, one of bfloat16 200, one of TF32 80 in the same run." in page
    assert "One stage of a persistent loop takes 2 µs with next to no work." in page
    for form, fraction in (("persistent", "50%"), ("persistent_bf16", "10%"), ("launches_tf32", "25%")):
        line = cells(page, "train mnist B=100 both", form)
        assert line[9:] == ["–", f"20 ({fraction})", "1.0", "3, 1.5 a step", "–"]


def test_the_build_asks_for_cuda_and_the_rest_uses_it(report, tmp_path):
    machine = Machine()
    report(machine, "--target", str(tmp_path / "site"))
    build = next(i for i, c in enumerate(machine.commands) if "pip" in c)
    assert {"--no-index", "--no-deps", "--no-build-isolation", "--target"} <= set(machine.commands[build])
    assert machine.environments[build]["ALIGNDRAW_BUILD_CUDA"] == "1"
    assert machine.environments[build]["ALIGNDRAW_CUDA_ARCHS"] == "90"
    for environment in machine.environments:
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "site")
    assert all(str(c[0]) in (sys.executable, "/bin/compute-sanitizer") for c in machine.commands)


def test_a_failed_build_leaves_the_rest_unmeasured(report):
    machine = Machine(pip=Done(1, 20.0, "compiling\naligndraw: nvcc was not found"))
    code, results, page = report(machine)
    assert code == 1
    assert cells(page, "build") == ["build", "failed", "20 s", "aligndraw: nvcc was not found"]
    assert cells(page, "ops") == ["ops", "not measured", "–", "the package could not be built"]
    assert page.count("\n\nNot measured.\n") == 6 and "×" not in page


def test_a_package_that_cannot_describe_itself_is_built_all_the_same(report):
    _, results, page = report(Machine(**{"aligndraw.info": Done(1, 1.0, "Traceback\nKeyError: 'cuda'")}))
    assert results["stages"]["ops"]["status"] == "done" and "KeyError: 'cuda'" in page.split("## Installation")[1]


def test_what_needs_the_gpu_is_tested_first(tmp_path, monkeypatch):
    """By pytest itself, on a small suite."""
    for name in ("a/test_a.py", "ops/test_device.py", "ops/test_other.py"):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"def test_it(): assert {'other' not in name}\n")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    monkeypatch.setattr(gpu_report, "ROOT", tmp_path)
    outputs = []

    def run(command, seconds, environment):
        outputs.append(gpu_report.run(command, seconds, environment))
        return outputs[-1]

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    found = gpu_report.tests(gpu_report.Report(run, tmp_path, None, environment), 60.0)
    order = [test.rpartition("/")[2] for test, _ in gpu_report.OUTCOME.findall(outputs[0].output)]
    assert order == ["test_device.py::test_it", "test_a.py::test_it", "test_other.py::test_it"]
    assert found["status"] == "failed" and found["counts"] == {"FAILED": 1, "PASSED": 2}


def test_failed_tests_are_named(report):
    code, results, page = report(Machine(pytest=Done(1, 30.0, SUITE.format(outcome="FAILED"))))
    assert code == 1
    assert "1 failed, 1 passed, 1 skipped." in page and "- failed: `tests/test_c.py::test_c`" in page
    assert results["stages"]["ops"]["status"] == "done"


def test_tests_that_were_cut_short_count_what_they_got_to(report):
    code, results, page = report(Machine(pytest=Done(None, 90.0, SUITE.format(outcome="PASSED")[:160])))
    assert code == 0
    assert "1 passed, 1 skipped, then the time was up." in page


def test_a_failure_before_the_time_was_up_is_a_failure(report):
    code, _, page = report(Machine(pytest=Done(None, 90.0, SUITE.format(outcome="FAILED"))))
    assert code == 1 and cells(page, "tests")[1] == "failed"


def test_pytest_that_breaks_is_a_failure(report):
    code, results, page = report(Machine(pytest=Done(4, 1.0, "ERROR: usage")))
    assert code == 1 and cells(page, "tests")[1] == "failed"


@pytest.mark.parametrize(
    ("ended", "status", "reason", "failed"),
    [(None, "cut short", "the time was up", 0), (-11, "failed", "the stage broke off", 1)],
)
def test_what_was_not_reached_is_not_measured(report, ended, status, reason, failed):
    machine = Machine(ops=[ROWS[0]])
    machine.code = ended
    code, results, page = report(machine)
    assert code == failed
    assert results["stages"]["ops"]["status"] == status
    assert cells(page, "read mnist B=100 trained forward", "cuda")[2] == f"not measured: {reason}"
    assert [r["form"] for r in results["stages"]["ops"]["rows"] if "called" in r] == ["eager"]
    assert "GB/s and" not in page.split("## Model")[0]


@pytest.mark.parametrize("bad", [row("cuda", wrong="read-cuda: off"), row("cuda", failed="CUDA error: hang")])
def test_a_wrong_or_failed_case_has_no_figures_and_fails(report, bad):
    code, results, page = report(Machine(ops=[*ROWS[:2], bad, {"after": {}}]))
    assert code == 1
    assert cells(page, "read mnist B=100 trained forward", "cuda")[2] == bad.get("wrong", bad.get("failed"))


def test_a_case_that_has_no_room_is_no_gap(report):
    small = row("cuda", reason="read: ALIGNDRAW_LOOP=persistent cannot be: no room")
    _, results, page = report(Machine(ops=[*ROWS[:2], small, {"after": {}}]))
    assert results["stages"]["ops"]["status"] == "done"
    assert "no room" in cells(page, "read mnist B=100 trained forward", "cuda")[2]


class Children(Machine):
    """Measures the ops by processes that end one after another: (exit code, lines that they add)."""

    def __init__(self, *children):
        super().__init__()
        self.children, self.given = list(children), []

    def __call__(self, command, seconds, environment):
        if "ops" not in command:
            return super().__call__(command, seconds, environment)
        self.given.append(seconds)
        code, lines = self.children.pop(0)
        with open(command[command.index("--out") + 1], "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return Done(code, 9.0, "Fatal Python error: Aborted" if code == -6 else "")


PLAN = {"plan": [{k: r[k] for k in row("x")} for r in ROWS]}
BEGUN = [{"begun": case} for case in PLAN["plan"]]


def test_a_case_that_takes_its_process_along_leaves_the_others_theirs(report):
    machine = Children(
        (-6, [PLAN, BEGUN[0], ROWS[0], BEGUN[1]]), (gpu_stages.AGAIN, [BEGUN[2], ROWS[2]]), (0, [{"after": {}}])
    )
    code, results, page = report(machine)
    assert code == 1 and not machine.children
    assert machine.given[1:] == [pytest.approx(machine.given[0] - 9 * i) for i in (1, 2)]
    ops = results["stages"]["ops"]
    assert (ops["status"], ops["seconds"], ops["log"]) == ("failed", 27.0, "Fatal Python error: Aborted")
    assert [r["form"] for r in ops["rows"] if "called" in r] == ["eager", "cuda"]
    line = cells(page, "read mnist B=100 trained forward", "compiled")
    assert line[2] == "its process ended with exit code -6"


def test_a_process_that_asks_for_another_is_no_failure(report):
    pairs = [[begun, found] for begun, found in zip(BEGUN, ROWS, strict=True)]
    again = gpu_stages.AGAIN
    machine = Children((again, [PLAN, *pairs[0]]), (again, pairs[1]), (0, [*pairs[2], {"after": {}}]))
    code, results, _ = report(machine)
    assert code == 0 and results["stages"]["ops"]["status"] == "done" and not machine.children


def test_a_process_that_begins_nothing_is_not_followed_by_another(report):
    machine = Children((-6, [PLAN, BEGUN[0]]), (-6, []), (0, []))
    _, results, page = report(machine)
    assert len(machine.children) == 1
    reasons = [r.get("reason") for r in results["stages"]["ops"]["rows"]]
    assert reasons == [None, *["not measured: the stage broke off"] * 2]


def test_another_process_is_given_time_or_not_begun(report):
    machine = Children((gpu_stages.AGAIN, [PLAN, BEGUN[0], ROWS[0]]))
    _, results, page = report(machine, "--only", "ops", "--seconds", "38")
    assert results["stages"]["ops"]["status"] == "cut short"
    assert cells(page, "read mnist B=100 trained forward", "cuda")[2] == "not measured: the time was up"


def test_a_stage_of_the_loops_that_could_not_be_timed_is_a_failure(report):
    lines = [{"stage_failed": "CUDA error: too many blocks"}, *ROWS, {"after": {}}]
    code, results, page = report(Machine(model=lines))
    assert code == 1 and results["stages"]["model"]["status"] == "failed"
    assert "What one stage of a persistent loop takes was not measured: CUDA error: too many blocks." in page


def test_a_stage_that_raises_is_its_own_failure(report, monkeypatch):
    def breaks(report, seconds):
        raise KeyError("plan")

    monkeypatch.setitem(gpu_report.STAGES, "ops", breaks)
    code, results, page = report(Machine())
    assert code == 1 and results["stages"]["model"]["status"] == "done"
    assert cells(page, "ops") == ["ops", "failed", "–", "KeyError: 'plan'"]


def test_a_call_that_cannot_be_captured_has_no_replayed_time(report):
    nothing = dict.fromkeys(("replayed", "cold", "launches"))
    stuck = {**timed("cuda", 1e-5, 1.0), **nothing, "reason": "operation not permitted"}
    _, _, page = report(Machine(ops=[*ROWS[:2], stuck, {"after": {}}]))
    line = cells(page, "read mnist B=100 trained forward", "cuda")
    assert line[2:9] == ["10 µs", "8.00×", "2.00×", "not measured", "–", "–", "not measured"]
    assert line[12] == "not counted"


SANITIZER = ("--only", "build,sanitizer")


def test_the_sanitizer_looks_for_races_in_the_kernels_in_cpp(report):
    """What it prints after the kernels' names, also in brackets, does no harm."""
    said = '["read cuda", "write triton"]\n[the end]\n========= ERROR SUMMARY: 0 errors\n'
    machine = Machine(touch=Done(0, 5.0, said))
    code, _, page = report(machine, *SANITIZER)
    assert code == 0 and "- racecheck: done, 0 errors; kernels of read cuda, write triton" in page
    assert machine.touched() == {"memcheck": ["cuda", "triton"], "racecheck": ["cuda"]}


def test_the_sanitizer_finds_something(report):
    machine = Machine(touch=Done(9, 5.0, "Invalid read\n========= ERROR SUMMARY: 3 errors\n"))
    code, _, page = report(machine, *SANITIZER)
    assert code == 1 and "- memcheck: failed, 3 errors; kernels of no op" in page


def test_without_the_sanitizer(report, monkeypatch):
    monkeypatch.setattr(gpu_report.shutil, "which", lambda name, path=None: None)
    code, _, page = report(Machine(), *SANITIZER)
    assert code == 0 and cells(page, "sanitizer")[3].startswith("compute-sanitizer is not on the PATH")


def test_a_cut_run_leaves_what_it_had(report, tmp_path):
    """The report is written after each stage."""

    class Cut(Machine):
        def model(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(Cut())
    results = json.loads((tmp_path / "benchmarks" / "results" / "acme-x100-80gb.json").read_text())
    assert [found["status"] for found in results["stages"].values()] == ["done"] * 3 + ["not measured"] * 4


def test_a_run_that_was_not_whole_says_so(report):
    cut = {"updates": 700, "total": 15000, "seconds": 40.0, "bound": 200.0, "ungraphed": "sparse gradients"}
    code, results, page = report(Machine(paper=cut))
    assert code == 0 and results["stages"]["paper"]["status"] == "cut short"
    assert "700 of 15,000 updates of batch 100, without CUDA graphs (sparse gradients), in 40.0 s" in page
    assert "then the time was up: the whole run was not measured." in page


def test_a_run_that_broke_off_has_no_figures(report):
    code, results, page = report(Machine(paper=Done(1, 9.0, "Traceback\nRuntimeError: CUDA error")))
    assert code == 1 and cells(page, "paper") == ["paper", "failed", "9 s", "RuntimeError: CUDA error"]


def test_only_some_stages(report):
    machine = Machine()
    _, results, page = report(machine, "--only", "compiled,tests")
    assert [s for s, found in results["stages"].items() if found["status"] == "done"] == ["tests", "compiled"]
    assert not any("pip" in c for c in machine.commands)


def test_unknown_stage(capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--only", "tests,fun"])
    assert "no stage 'fun'; there are build, tests, ops, model, sanitizer, paper, compiled" in capsys.readouterr().err


def test_the_time_is_shared_and_never_passed(report):
    given = {}

    class Slow(Machine):
        def __call__(self, command, seconds, environment):
            done = super().__call__(command, seconds, environment)
            given[str(command)] = seconds
            return done

    report(Slow(), "--seconds", "100")
    shared = {command: s for command, s in given.items() if "probe" not in command and "aligndraw.info" not in command}
    assert len(shared) == 5 and all(seconds <= 100 for seconds in shared.values())
    assert 40 < given[next(command for command in given if "pip" in command)] < 50
    code, _, page = report(Machine(), "--seconds", "5")
    assert cells(page, "ops") == ["ops", "not measured", "–", "the time was up"]


def test_a_command_is_ended_with_what_it_started(tmp_path):
    arguments = [sys.executable, "-c", SLEEP, str(tmp_path / "pid")]
    script = f"import subprocess; print('here', flush=True); subprocess.run({arguments!r})"
    began = time.monotonic()
    done = gpu_report.run([sys.executable, "-c", script], 2.0, dict(os.environ))
    assert done.code is None and done.status == "cut short" and done.output == "here\n"
    assert time.monotonic() - began < 10
    child = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not running(child):
            return
        time.sleep(0.1)
    pytest.fail("the process that it had started runs on")


SLEEP = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_runs_away_from_the_sources():
    script = "import os; print(os.getcwd()); raise SystemExit(3)"
    done = gpu_report.run([sys.executable, "-c", script], 30, dict(os.environ))
    assert done.code == 3 and done.status == "failed"
    assert done.output.strip() != os.getcwd()


def test_this_machine_is_probed():
    """The real probe: a machine, or one sentence why there is none."""
    import torch
    from gpu_stages import probe

    found = probe()
    assert ("gpu" in found) == torch.cuda.is_available()
    assert found.get("reason", "").count("\n") == 0


def test_the_plan_starts_with_what_matters_most():
    from gpu_stages import plan

    ops = [case for _, case in plan("ops")]
    assert len({case.op for case in ops}) == 5
    slow = next(i for i, case in enumerate(ops) if case.form == "compiled")
    assert {case.batch for case in ops[:slow]} == {100} and ops[slow].batch == 100
    assert all(case.batch != 100 for case in ops[slow:] if case.form != "compiled")
    model = [case for _, case in plan("model")]
    assert model[0].batch == 100 and not any(case.form == "compiled" for case in model)
    assert {case.batch for case in model} == {1, 16, 100, 1024}
    compiled = [case for _, case in plan("compiled")]
    assert {(c.preset, c.batch) for c in compiled} == {(p, b) for p in ("mnist", "coco") for b in (1, 16, 100, 1024)}
    assert (compiled[0].preset, compiled[0].batch) == ("mnist", 100)


def test_loops_that_may_hang_come_after_the_other_forms(monkeypatch):
    import cases
    from gpu_stages import plan

    monkeypatch.setattr(cases, "missing_reason", lambda op, backend, device: "")
    forms = [c.form for _, c in plan("model") if c.batch == 100 and c.preset in cases.PRESETS]
    first = next(i for i, form in enumerate(forms) if form.startswith("persistent"))
    assert first > len(forms) / 2 and all(form.startswith("persistent") for form in forms[first:])
