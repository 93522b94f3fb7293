"""gpu_report.py with a runner that plays the GPU machine; nothing here is a measurement."""

import json
import os
import sys

import gpu_report
import gpu_stages
import gpu_tools
import pytest
from gpu_command import Done

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


KINDS = (
    "probe",
    "pip",
    "load",
    "aligndraw.info",
    "pytest",
    "touch",
    "profile",
    "step",
    "ops",
    "model",
    "compiled",
    "paper",
)
ROWS = [timed("eager", 8e-5, 4e-5), timed("compiled", 2e-5, 1e-5), timed("cuda", 1e-5, 2e-5)]
KERNEL = "void aligndraw::cuda::(anonymous namespace)::read_attend<float>(Step<float>, int)"
COUNTERS = """\
==PROF== Connected to process 1
"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","read_attend","GPU Speed Of Light Throughput","Duration","us","10.2"
"0","read_attend","Occupancy","Registers Per Thread","register/thread","239"
"1","read_attend","GPU Speed Of Light Throughput","Duration","us","99"
"""


class Machine:
    """Answers every command that a report gives; `change` replaces what it says to one of them."""

    def __init__(self, **change):
        self.change, self.commands, self.environments, self.given = change, [], [], {}
        self.code = None  # of a measurement that ends early

    def __call__(self, command, seconds, environment):
        self.commands.append(list(command))
        self.environments.append(dict(environment))
        kind = self.kind(command)
        self.given.setdefault(kind, []).append(seconds)
        answer = self.change.get(kind.replace(".", "_"), getattr(self, kind.replace(".", "_"))())
        if isinstance(answer, list) and isinstance(answer[0], Done):  # one after another
            answer = answer.pop(0)
        if isinstance(answer, dict):  # one line
            self.write(command, [answer])
            answer = Done(0, 70.0, "")
        if isinstance(answer, list):  # lines of a measurement
            plan = {"plan": [{k: r[k] for k in row("x")} for r in ROWS]}
            self.write(command, [plan, *answer])
            answer = Done(self.code if len(answer) < 4 else 0, 9.0, "Segmentation fault" if self.code else "")
        return answer

    def kind(self, command):
        if any(str(part).endswith("gpu_stages.py") for part in command):
            stage = next(c for c, part in zip(command[1:], command) if str(part).endswith("gpu_stages.py"))
            return stage.removeprefix("more ")
        return next(k for k in KINDS if k in str(command))

    def write(self, command, lines):
        stage = next(c for c, part in zip(command[1:], command) if str(part).endswith("gpu_stages.py"))
        with open(command[command.index("--out") + 1], "a") as file:
            file.writelines(json.dumps({"stage": stage, **line}) + "\n" for line in lines)
            file.write('{"half a li\n')

    def probe(self):
        return Done(0, 1.0, "a warning\n" + json.dumps(MACHINE) + "\n")

    def touched(self):
        """The backends that compute-sanitizer saw, by its tool."""
        found = [command for command in self.commands if "touch" in command]
        return {command[2]: command[command.index("--backends") + 1 :] for command in found}

    def pip(self):
        return Done(0, 20.0, "Successfully installed")

    def load(self):
        return Done(0, 4.0, "")

    def aligndraw_info(self):
        return Done(0, 1.0, "op  cuda\nread  yes\n")

    def pytest(self):
        return Done(0, 30.0, SUITE.format(outcome="PASSED"))

    def touch(self):
        return Done(0, 5.0, "========= ERROR SUMMARY: 0 errors\n")

    def ops(self):
        ceilings = {"copy_gb_s": 4000.0, "product_gflop_s": 50000.0}
        return [{"machine": MACHINE, "ceilings": ceilings}, *ROWS, {"after": {"clocks.sm": "1980 MHz"}}]

    model = compiled = ops

    def profile(self):
        kernels = [{"name": KERNEL, "launches": 32, "seconds": 6e-4}, {"name": "gemm", "launches": 90, "seconds": 2e-4}]
        return {"kernels": kernels, "launches": 122, "kernel_seconds": 8e-4, "ungraphed": ""}

    def step(self):
        return Done(0, 9.0, COUNTERS)

    def paper(self):
        return {"updates": 15000, "total": 15000, "seconds": 61.5, "bound": 99.0, "ungraphed": ""}


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs the command; gives its exit code, JSON and page."""
    monkeypatch.setattr(gpu_report, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_tools.shutil, "which", lambda name, path=None: f"/bin/{name}")

    def run(machine, *arguments, plan="brief"):
        given = ["--brief", *arguments] if plan == "brief" else list(arguments)
        code = gpu_report.main(given, machine)
        folder = tmp_path / "benchmarks" / "results"
        stem = folder / f"acme-x100-80gb-{plan}"
        if not folder.exists():
            return code, None, None
        names = {p.name for p in folder.iterdir()}
        assert {f"{stem.name}.json", f"{stem.name}.md"} <= names
        assert names <= {f"{stem.name}.{ending}" for ending in ("json", "md", "jsonl", "log")}
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
    assert "the loops in clusters" in said and "torch.compile" not in said  # which the second command does
    assert len(machine.commands) == 1


def test_a_broken_python_measures_nothing(report, capsys):
    assert report(Machine(probe=Done(1, 1.0, "Traceback\nImportError: libtorch")))[0] == 2
    assert "libtorch" in capsys.readouterr().err


def test_a_whole_run(report, tmp_path):
    machine = Machine()
    code, results, page = report(machine, "--commit", "f00")
    assert code == 0
    assert {stage: found["status"] for stage, found in results["stages"].items()} == dict.fromkeys(
        ("install", "tests", "persistent", "cluster", "ops", "model", "profile", "paper", "counters", "sanitizer"),
        "done",
    )
    assert "ACME X100 (80GB), driver 1.2, CUDA 13.0" in page and "commit f00." in page
    assert "At the start: clocks.sm 345 MHz." in page and "After measuring: clocks.sm 1980 MHz." in page
    assert "2 passed, 1 skipped." in page and "- skipped, 3: read has no cuda kernel" in page
    assert "A copy reaches 4000 GB/s" in page
    expected = ["10 µs", "8.00×", "2.00×", "20 µs", "2.00×", "0.50×", "40 µs", "200 (5%)", "50 (0%)", "1.0", "3", "–"]
    assert cells(page, "read mnist B=100 trained forward", "cuda")[2:] == expected
    assert "read  yes" in page
    assert "All 15,000 updates of batch 100, by CUDA graphs, in 61.5 s with the making of the data." in page
    assert "The last update's bound: 99.0 nats." in page
    assert "122 launches, 800 µs in kernels together." in page
    assert cells(page, f"`{KERNEL}`")[1:] == ["32", "600 µs", "75%"]
    assert machine.touched() == {"memcheck": ["cuda"]}
    assert "dry run" not in page.lower()


def test_the_first_launch_of_each_large_kernel_has_its_counters(report):
    machine = Machine()
    _, _, page = report(machine)
    (ncu,) = (command for command in machine.commands if "step" in command)
    assert ncu[0] == "/bin/ncu" and ncu[ncu.index("--kernel-name") + 1] == "regex:^(gemm|read_attend)$"
    assert cells(page, "`read_attend`", "Duration")[2] == "10.2 us"
    assert cells(page, "`read_attend`", "Registers Per Thread")[2] == "239 register/thread"


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (KERNEL, "read_attend"),
        ("void gemmSN_NN_kernel<float, 128, 2>(cublasGemmParams)", "gemmSN_NN_kernel"),
        ("sm90_xmma_gemm_f32f32_tf32f32", "sm90_xmma_gemm_f32f32_tf32f32"),
        ("void at::native::elementwise_kernel<128, 2, at::native::foo(int)::{lambda}>(int)", "elementwise_kernel"),
    ],
)
def test_a_kernel_is_known_to_ncu_by_its_function(kernel, name):
    assert gpu_tools.function_name(kernel) == name


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"profile": Done(1, 3.0, "no CUPTI")}, "the profile named no kernel"), ({}, "ncu is not on")],
)
def test_without_kernels_or_ncu_there_are_no_counters(report, monkeypatch, change, reason):
    if not change:
        monkeypatch.setattr(gpu_tools.shutil, "which", lambda name, path=None: None)
    _, results, page = report(Machine(**change))
    found = results["stages"]["counters"]
    assert found["status"] == "not measured" and reason in found["log"]


def test_counters_that_cannot_be_read_are_a_failure(report):
    code, results, _ = report(Machine(step=Done(0, 9.0, "==ERROR== LibraryNotLoaded")))
    assert code == 1 and "LibraryNotLoaded" in results["stages"]["counters"]["log"]


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
    assert all(str(c[0]) in (sys.executable, "/bin/compute-sanitizer", "/bin/ncu") for c in machine.commands)


def installed(machine):
    """The last argument of each command of pip."""
    return [str(command[-1]).rpartition("/")[2] for command in machine.commands if "pip" in command]


def test_a_wheel_that_runs_is_not_built_again(report, tmp_path):
    wheel = tmp_path / "aligndraw-1-cp312.whl"
    wheel.touch()
    machine = Machine()
    _, results, page = report(machine, "--wheel", str(wheel))
    assert installed(machine) == [wheel.name] and f"Installed: {wheel.name}." in page


def test_a_wheel_that_does_not_run_here_is_built_on_the_spot(report, tmp_path):
    """With more time than the stage has by itself: all others need the package."""
    wheel = tmp_path / "aligndraw-1-cp312.whl"
    wheel.touch()
    machine = Machine(load=[Done(1, 4.0, "undefined symbol"), Done(0, 4.0, "")])
    code, results, page = report(machine, "--wheel", str(wheel))
    found = results["stages"]["install"]
    assert code == 0 and installed(machine) == [wheel.name, gpu_tools.ROOT.name]
    assert machine.given["pip"] == [60, gpu_tools.BUILD_SECONDS]
    assert found["installed"] == "built here" and found["log"] == f"{wheel.name}: failed\nundefined symbol\n"


def test_a_package_that_lacks_another_is_not_built_again(report, tmp_path):
    wheel = tmp_path / "aligndraw-1-cp312.whl"
    wheel.touch()
    machine = Machine(load=Done(gpu_stages.LACKING, 1.0, "the report needs tqdm: install them"))
    code, _, page = report(machine, "--wheel", str(wheel))
    assert code == 1 and installed(machine) == [wheel.name]
    assert cells(page, "install")[3] == "the report needs tqdm: install them"


def test_an_installation_that_takes_too_long_is_a_failure(report):
    code, _, page = report(Machine(pip=Done(None, 240.0, "compiling")))
    assert code == 1 and cells(page, "model")[3] == "the package could not be installed"


def test_a_wheel_that_is_not_there_is_said_at_once(capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--wheel", "none.whl"])
    assert "--wheel: there is no file none.whl" in capsys.readouterr().err


def test_a_failed_build_leaves_the_rest_unmeasured(report):
    machine = Machine(pip=Done(1, 20.0, "compiling\naligndraw: nvcc was not found"))
    code, results, page = report(machine)
    assert code == 1
    assert cells(page, "install") == ["install", "failed", "20 s", "aligndraw: nvcc was not found"]
    assert cells(page, "ops") == ["ops", "not measured", "–", "the package could not be installed"]
    assert page.count("\n\nNot measured.\n") == 9 and "×" not in page


def test_a_package_that_cannot_describe_itself_is_used_all_the_same(report):
    _, results, page = report(Machine(aligndraw_info=Done(1, 1.0, "Traceback\nKeyError: 'cuda'")))
    assert results["stages"]["ops"]["status"] == "done" and "KeyError: 'cuda'" in page.split("## Installation")[1]


def test_a_test_that_hangs_is_named(report):
    """The last one that began, where the time was up."""
    hung = "tests/ops/test_device.py::test_a[x] PASSED   [ 50%]\ntests/ops/test_device.py::test_b[persistent-wide] "
    _, results, page = report(Machine(pytest=Done(None, 30.0, hung)))
    assert results["stages"]["persistent"]["status"] == "cut short"
    assert "- running when the time was up: `tests/ops/test_device.py::test_b[persistent-wide]`" in page


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
        self.children, self.seconds = list(children), []

    def __call__(self, command, seconds, environment):
        if "ops" not in command:
            return super().__call__(command, seconds, environment)
        self.seconds.append(seconds)
        code, lines = self.children.pop(0)
        self.write(command, lines)
        return Done(code, 9.0, "Fatal Python error: Aborted" if code == -6 else "")


PLAN = {"plan": [{k: r[k] for k in row("x")} for r in ROWS]}
BEGUN = [{"begun": case} for case in PLAN["plan"]]


def test_a_case_that_takes_its_process_along_leaves_the_others_theirs(report):
    machine = Children(
        (-6, [PLAN, BEGUN[0], ROWS[0], BEGUN[1]]), (gpu_stages.AGAIN, [BEGUN[2], ROWS[2]]), (0, [{"after": {}}])
    )
    code, results, page = report(machine)
    assert code == 1 and not machine.children
    assert machine.seconds == [40, 31, 22]
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
    _, results, page = report(machine, "--only", "ops", "--seconds", "18", plan="only")
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

    monkeypatch.setitem(gpu_report.BRIEF, "ops", gpu_report.Stage(40, "", breaks))
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


def test_the_sanitizer_looks_for_races_in_the_kernels_in_cpp(report):
    machine = Machine(touch={"kernel": "read cuda"})
    _, _, page = report(machine, "--only", "races", plan="only")
    assert "- racecheck of cuda: done, no summary; kernels of read cuda" in page
    assert machine.touched() == {"memcheck": ["triton"], "racecheck": ["cuda"]}


def test_the_sanitizer_finds_something(report):
    machine = Machine(touch=Done(9, 5.0, "Invalid read\n========= ERROR SUMMARY: 3 errors\n"))
    code, _, page = report(machine)
    assert code == 1 and "- memcheck of cuda: failed, 3 errors; kernels of no op" in page


def test_without_the_sanitizer(report, monkeypatch):
    monkeypatch.setattr(gpu_tools.shutil, "which", lambda name, path=None: None)
    code, _, page = report(Machine())
    assert code == 0 and cells(page, "sanitizer")[3].startswith("compute-sanitizer is not on the PATH")


def test_a_cut_run_leaves_what_it_had(report, tmp_path):
    """The report is written after each stage, and the figures of the stage that ran stand in its lines."""

    class Cut(Machine):
        def model(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(Cut())
    stem = tmp_path / "benchmarks" / "results" / "acme-x100-80gb-brief"
    results = json.loads(stem.with_suffix(".json").read_text())
    assert [found["status"] for found in results["stages"].values()] == ["done"] * 5 + ["not measured"] * 5
    assert len(gpu_stages.read_lines(stem.with_suffix(".jsonl"), "ops")) == 6


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
    _, results, page = report(machine, "--only", "compiled,all_tests", plan="only")
    assert {stage: found["status"] for stage, found in results["stages"].items()} == dict.fromkeys(
        ("all tests", "compiled"), "done"
    )
    assert not any("pip" in c for c in machine.commands)


def test_unknown_stage(capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--only", "tests,fun"])
    assert "no stage 'fun'; there are install, all tests, more ops" in capsys.readouterr().err


def test_the_second_command_does_what_is_left(report):
    machine = Machine()
    code, results, _ = report(machine, plan="rest")
    assert code == 0 and not set(results["stages"]) & set(gpu_report.BRIEF) - {"install"}


def test_each_stage_has_its_limit_and_the_last_one_what_is_left(report):
    machine = Machine()
    report(machine)
    given = {kind: round(seconds[0]) for kind, seconds in machine.given.items()}
    assert given["pytest"] == 55 and machine.given["pytest"][1:] == [25, 25]
    assert (given["ops"], given["model"], given["profile"], given["paper"], given["step"]) == (40, 120, 15, 70, 40)
    assert 400 < given["touch"] <= 480  # nothing took time
    code, _, page = report(Machine(), "--seconds", "4")
    assert cells(page, "ops") == ["ops", "not measured", "–", "the time was up"]


def test_a_dry_run_says_so_and_has_time_on_a_busy_cpu(report):
    machine = Machine()
    _, results, page = report(machine, "--dry", "--out", str(gpu_report.ROOT / "benchmarks" / "results"))
    assert results["dry"] and "no figure on this page is of a GPU" in page
    assert machine.given["model"] == [120 * gpu_report.DRY_FACTOR]
    children = [c for c in machine.commands if any(str(part).endswith("gpu_stages.py") for part in c)]
    assert children and all("--dry" in command for command in children) and not installed(machine)
