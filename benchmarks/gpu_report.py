"""Everything that a machine with an NVIDIA GPU can add, in one command:

    python benchmarks/gpu_report.py

builds and installs the package with CUDA, runs the test suite, times the ops and the model, has compute-sanitizer look
at every kernel, and writes `benchmarks/results/<GPU>.json` and `.md`, anew after each stage. It needs no network.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_page import NOT_MEASURED, markdown
from report import identity, write_text

ROOT = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("gpu_stages.py")
# Of the time, relative to each other.
SHARES = {"build": 5, "tests": 5, "ops": 6, "model": 8, "sanitizer": 3, "paper": 6, "compiled": 12}
DEFAULT = ("build", "tests", "ops", "model", "sanitizer", "paper")
SECONDS = 510
FACTS = ("plan", "machine", "ceilings", "stage_seconds", "after")  # of a measurement, beside its rows
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
    info = report.python("-m", "aligndraw.info", seconds=60) if done.code == 0 else None
    return {
        "status": info.status if info else done.status,
        "seconds": done.seconds,
        "log": "" if done.code == 0 else done.tail,
        "info": info.output if info else "",
    }


OUTCOME = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] \S+?: (.*)$", re.MULTILINE)


def tests(report: Report, seconds: float) -> dict[str, Any]:
    """The whole suite, what needs the GPU first. A run that is cut short still counts what it got to."""
    # Python puts the folder that it runs in before the installed package.
    start = "import sys; sys.path = [p for p in sys.path if p]; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    suite = (ROOT / "tests/ops/test_device.py", ROOT / "tests")
    done = report.python("-c", start, "-v", "-rs", "-p", "no:cacheprovider", *suite, seconds=seconds)
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
    """Rows of one of gpu_stages' measurements; what the time did not reach stays without figures."""
    out = report.folder / f"{stage}.jsonl"
    arguments = (CHILD, stage, "--out", out, "--seconds", f"{max(1.0, seconds - GRACE):.0f}")
    done = report.python(*arguments, seconds=seconds)
    written = out.read_text().splitlines(keepends=True) if out.exists() else []
    lines = [json.loads(line) for line in written if line.endswith("\n")]  # the last may be half written
    facts = {fact: line[fact] for line in lines for fact in FACTS if fact in line}
    measured = {identity(line): line for line in lines if "op" in line}
    missed = {"reason": f"{NOT_MEASURED}: " + ("the stage broke off" if done.code else "the time was up")}
    rows = [measured.get(identity(case), {**case, **missed}) for case in facts.pop("plan", [])]
    failed = done.code or any("wrong" in row or "failed" in row for row in rows)
    whole = done.code == 0 and all("called" in row for row in rows)
    return {
        "status": "failed" if failed else "done" if whole else "cut short",
        "seconds": done.seconds,
        "rows": rows,
        "log": done.tail if done.code else "",
        **facts,
    }


SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (.*)$", re.MULTILINE)


def sanitizer(report: Report, seconds: float) -> dict[str, Any]:
    """compute-sanitizer's memcheck and racecheck over one call of every kernel."""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return {"status": NOT_MEASURED, "log": "compute-sanitizer is not on the PATH: it comes with the CUDA toolkit"}
    environment = {**report.environment, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # each tensor its own allocation
    found: dict[str, Any] = {"status": "done", "seconds": 0.0, "tools": {}}
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, str(CHILD), "touch"]
        done = report.runner(command, (seconds - found["seconds"]) / (2 if check == "memcheck" else 1), environment)
        summary = SUMMARY.findall(done.output)
        kernels = re.findall(r"^\[.*\]$", done.output, re.MULTILINE)
        found["tools"][check] = {
            "status": done.status,
            "summary": summary[-1] if summary else "no summary",
            "kernels": json.loads(kernels[-1]) if kernels else [],
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
    run = json.loads(out.read_text()) if done.code == 0 else {}
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
    "launch, with bf16 and by Triton; launches a step, peak memory, fractions of the rates of copies and products, the "
    "cost of one stage between barriers of the grid",
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
            stages[stage] = STAGES[stage](report, left * share)
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
        help=f"of {', '.join(STAGES)} (default: all but compiled, the model under torch.compile: minutes)",
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
        machine = json.loads(found.output.splitlines()[-1]) if found.code == 0 else {"reason": found.tail}
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
