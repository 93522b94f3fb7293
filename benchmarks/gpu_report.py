"""Everything that a machine with an NVIDIA GPU can add, in one command:

    python benchmarks/gpu_report.py

builds and installs the package with CUDA, runs the test suite, times the ops, the model and the paper's training, and
writes `benchmarks/results/<GPU>.json` and `.md`, anew after each stage. It needs no network. What takes minutes of its
own is asked for by name:

    python benchmarks/gpu_report.py --only build,sanitizer
    python benchmarks/gpu_report.py --only build,compiled

Exit code: 0 nothing failed, 1 something did, 2 there is no CUDA device and nothing was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_page import NOT_MEASURED, markdown
from gpu_stages import AGAIN, read_lines
from report import identity, json_files, write_text

ROOT = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("gpu_stages.py")
# Of the time, relative to each other. Nothing can run without the build; what it leaves goes to the others.
SHARES = {"build": 20, "tests": 5, "ops": 6, "model": 8, "sanitizer": 20, "paper": 6, "compiled": 20}
DEFAULT = ("build", "tests", "ops", "model", "paper")
SECONDS = 510
FACTS = ("plan", "machine", "ceilings", "stage_seconds", "stage_failed", "after")  # of a measurement, beside its rows
GRACE = 15  # seconds between asking a stage to end and ending it


@dataclass(frozen=True)
class Done:
    """A command that ended. `code` is None when its time was up."""

    code: int | None
    seconds: float
    output: str

    @property
    def status(self) -> str:
        return "cut short" if self.code is None else "failed" if self.code else "done"

    @property
    def tail(self) -> str:
        return "\n".join(self.output.strip().splitlines()[-15:])


Runner = Callable[[Sequence[str], float, Mapping[str, str]], Done]


def run(command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> Done:
    """Runs a command away from the source tree; it and what it started are ended when the time is up."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        return Done(code, time.monotonic() - began, log.read())


@dataclass
class Report:
    """What is known so far; `results` is the JSON file."""

    runner: Runner
    folder: Path  # for what the stages hand over
    target: Path | None
    environment: dict[str, str]
    results: dict[str, Any] = field(default_factory=dict)

    def python(self, *arguments: object, seconds: float, **environment: str) -> Done:
        return self.runner([sys.executable, *map(str, arguments)], seconds, {**self.environment, **environment})


def answer(output: str) -> Any:
    """The last line that is JSON; None where there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith(("[", "{")):
            with contextlib.suppress(ValueError):
                return json_files.parse_json(line)
    return None


# ---- stages: each returns what it found, with a `status` ----


def build(report: Report, seconds: float) -> dict[str, Any]:
    """The package with CUDA for this GPU; the build stops where CUDA cannot be compiled."""
    where = ["--target", report.target, "--upgrade"] if report.target else []
    done = report.python(
        *("-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", *where, ROOT),
        seconds=seconds,
        ALIGNDRAW_BUILD_CUDA="1",
        ALIGNDRAW_CUDA_ARCHS=report.results["machine"]["compute_capability"].replace(".", ""),
    )
    return {
        "status": done.status,
        "seconds": done.seconds,
        "log": "" if done.code == 0 else done.tail,
        "info": report.python("-m", "aligndraw.info", seconds=60).output if done.code == 0 else "",
    }


# What needs the GPU first: of a file and its folder among the arguments of one run, pytest keeps the folder alone.
# Python puts the folder that it runs in before the installed package.
SUITE = """
import sys; sys.path = [p for p in sys.path if p]
import pytest
first, rest, *options = sys.argv[1:]
codes = [pytest.main([*options, first]), pytest.main([*options, rest, "--ignore", first])]
sys.exit(max(codes))
"""
OUTCOME = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] \S+?: (.*)$", re.MULTILINE)


def tests(report: Report, seconds: float) -> dict[str, Any]:
    """The whole suite, what needs the GPU first. A run that is cut short still counts what it got to."""
    first, rest = ROOT / "tests/ops/test_device.py", ROOT / "tests"
    done = report.python("-c", SUITE, first, rest, "-v", "-rs", "-p", "no:cacheprovider", seconds=seconds)
    outcomes = {test: outcome for test, outcome in OUTCOME.findall(done.output)}
    counts = {kind: sum(1 for o in outcomes.values() if o == kind) for kind in sorted(set(outcomes.values()))}
    skips: dict[str, int] = {}
    for count, reason in SKIPPED.findall(done.output):
        skips[reason] = skips.get(reason, 0) + int(count)
    failures = [test for test, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")]
    return {
        "status": "failed" if failures else done.status,
        "seconds": done.seconds,
        "counts": counts,
        "failures": failures,
        "skips": skips,
        "log": done.tail if done.code or failures else "",
    }


def measure(stage: str, report: Report, seconds: float) -> dict[str, Any]:
    """Rows of one of gpu_stages' measurements; what the time did not reach stays without figures.

    A process that ends before the time is up is followed by another, as long as each begins a case at least.
    """
    out = report.folder / f"{stage}.jsonl"
    spent, begun, lost, logs = 0.0, 0, [], []
    while True:
        left = seconds - spent
        arguments = (CHILD, stage, "--out", out, "--seconds", f"{max(1.0, left - GRACE):.0f}")
        done = report.python(*arguments, seconds=left)
        spent += done.seconds
        lines, before = read_lines(out), begun
        begun = sum("begun" in line for line in lines)
        broke = done.code not in (0, None, AGAIN)
        if broke:
            logs.append(done.tail)
            if begun and "begun" in lines[-1]:
                lost.append({**lines[-1]["begun"], "failed": f"its process ended with exit code {done.code}"})
        if not done.code or begun == before or seconds - spent < 2 * GRACE:
            break
    facts = {fact: line[fact] for line in lines for fact in FACTS if fact in line}
    measured = {identity(line): line for line in [*lines, *lost] if "op" in line}
    missed = {"reason": f"{NOT_MEASURED}: " + ("the stage broke off" if broke else "the time was up")}
    planned = {identity(case): case for case in facts.pop("plan", [])}
    rows = [measured.get(key, {**case, **missed}) for key, case in planned.items()]
    failed = broke or "stage_failed" in facts or any("wrong" in row or "failed" in row for row in rows)
    whole = done.code == 0 and planned.keys() <= measured.keys()
    return {
        "status": "failed" if failed else "done" if whole else "cut short",
        "seconds": spent,
        "rows": rows,
        "log": "\n".join(logs),
        **facts,
    }


SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (.*)$", re.MULTILINE)


def sanitizer(report: Report, seconds: float) -> dict[str, Any]:
    """compute-sanitizer's memcheck over one call of every kernel, and its racecheck over those in C++.

    Racecheck counts as an error what Triton's reductions do: lanes that write the same word at the same time.
    """
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return {"status": NOT_MEASURED, "log": "compute-sanitizer is not on the PATH: it comes with the CUDA toolkit"}
    environment = {**report.environment, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # each tensor its own allocation
    found: dict[str, Any] = {"status": "done", "seconds": 0.0, "tools": {}}
    for check, backends in (("memcheck", ("cuda", "triton")), ("racecheck", ("cuda",))):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, str(CHILD), "touch"]
        command += ["--backends", *backends]
        done = report.runner(command, (seconds - found["seconds"]) / (2 if check == "memcheck" else 1), environment)
        summary = SUMMARY.findall(done.output)
        found["tools"][check] = {
            "status": done.status,
            "summary": summary[-1] if summary else "no summary",
            "kernels": answer(done.output) or [],
            "log": done.tail if done.code else "",
        }
        found["seconds"] += done.seconds
    statuses = {tool["status"] for tool in found["tools"].values()}
    found["status"] = next(s for s in ("failed", "cut short", "done") if s in statuses)
    return found


def paper(report: Report, seconds: float) -> dict[str, Any]:
    """The paper's whole training on MNIST with captions, by the clock on the wall."""
    out = report.folder / "paper.json"
    arguments = (CHILD, "paper", "--out", out, "--seconds", f"{max(1.0, seconds - 2 * GRACE):.0f}")
    done = report.python(*arguments, seconds=seconds)
    run = json_files.read_json(out) if done.code == 0 else {}
    return {
        "status": "cut short" if run and run["updates"] < run["total"] else done.status,
        "seconds": done.seconds,
        "run": run,
        "log": done.tail if done.code else "",
    }


# What each stage is there to find out.
QUESTIONS = {
    "build": "whether the package builds here",
    "tests": "every kernel on a GPU against float64",
    "ops": "times of each op in CUDA and Triton",
    "model": "training and sampling of all presets at batches 1, 16, 100 and 1024 by launches, in one persistent "
    "launch, with bf16, in TF32 and by Triton; launches a step, peak memory, fractions of the rates of copies and "
    "products, the cost of one stage between barriers of the grid",
    "sanitizer": "compute-sanitizer's findings",
    "paper": "the paper's training by the clock on the wall",
    "compiled": "the model under torch.compile",
}
STAGES: dict[str, Callable[[Report, float], dict[str, Any]]] = {
    "build": build,
    "tests": tests,
    "ops": lambda report, seconds: measure("ops", report, seconds),
    "model": lambda report, seconds: measure("model", report, seconds),
    "sanitizer": sanitizer,
    "paper": paper,
    "compiled": lambda report, seconds: measure("compiled", report, seconds),
}


def run_stages(report: Report, only: Sequence[str], seconds: float, save: Callable[[dict[str, Any]], None]) -> None:
    """Runs the stages in order; one that ends early leaves its time to those after it."""
    end = time.monotonic() + seconds
    stages = report.results["stages"] = {
        stage: {"status": NOT_MEASURED, "log": "" if stage in only else "not asked for"} for stage in STAGES
    }
    asked = [stage for stage in STAGES if stage in only]
    for i, stage in enumerate(asked):
        left = end - time.monotonic()
        if stages["build"]["status"] in ("failed", "cut short"):
            stages[stage]["log"] = "the package could not be built"
        elif left < GRACE:
            stages[stage]["log"] = "the time was up"
        else:
            share = SHARES[stage] / sum(SHARES[later] for later in asked[i:])
            print(f"{stage}: at most {left * share:.0f} s", flush=True)
            try:
                stages[stage] = STAGES[stage](report, left * share)
            except Exception:
                stages[stage] = {"status": "failed", "log": traceback.format_exc()}
            print(f"{stage}: {stages[stage]['status']}", flush=True)
        save(report.results)


# ---- the command ----


def file_name(gpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def save(results: Mapping[str, Any], folders: Iterable[Path]) -> None:
    stem = file_name(results["machine"]["gpu"])
    for folder in folders:
        write_text(folder / f"{stem}.json", json.dumps(results, indent=1) + "\n")
        write_text(folder / f"{stem}.md", markdown(results))


def exit_code(results: Mapping[str, Any]) -> int:
    return 1 if any(found["status"] == "failed" for found in results["stages"].values()) else 0


def stage_list(text: str) -> list[str]:
    names = text.split(",")
    unknown = [stage for stage in names if stage not in STAGES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no stage {', '.join(map(repr, unknown))}; there are {', '.join(STAGES)}")
    return names


def main(arguments: Sequence[str] | None = None, runner: Runner = run) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", type=stage_list, default=list(DEFAULT), metavar="STAGE,…",
        help=f"of {', '.join(STAGES)} (default: {', '.join(DEFAULT)}; the others take minutes each)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything together (default: %(default)s)")
    parser.add_argument("--out", type=Path, action="append", default=[], help="another folder for the report")
    parser.add_argument("--target", type=Path, help="install into this folder, not into Python's environment")
    parser.add_argument("--commit", help="what to write as the commit, where the sources come without git")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(Path(folder, "inductor"))}
        if options.target:
            options.target = options.target.resolve()
            paths = [str(options.target), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        report = Report(runner, Path(folder), options.target, environment)
        found = report.python(CHILD, "probe", seconds=120)
        machine = (answer(found.output) if found.code == 0 else None) or {"reason": found.tail}
        if "reason" in machine:
            unknown = "; ".join(QUESTIONS[stage] for stage in options.only)
            reason = " ".join(machine["reason"].split())
            print(f"gpu_report: nothing was measured: {reason}. Still unmeasured: {unknown}", file=sys.stderr)
            return 2
        if options.commit:
            machine["commit"] = options.commit
        report.results |= {
            "machine": machine,
            "command": shlex.join(["python", "benchmarks/gpu_report.py", *given]),
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        folders = [ROOT / "benchmarks/results", *options.out]
        run_stages(report, options.only, options.seconds, lambda results: save(results, folders))
    print("\n".join(str(folder / file_name(machine["gpu"])) + ".md" for folder in folders))
    return exit_code(report.results)


if __name__ == "__main__":
    sys.exit(main())
