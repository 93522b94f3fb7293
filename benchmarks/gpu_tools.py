"""Stages of the GPU report that install, test, or run a tool of CUDA. Each returns a dict with a `status`."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu_command import NOT_MEASURED, Done, Report
from gpu_stages import LACKING, read_lines

ROOT = Path(__file__).parents[1]
BUILD_SECONDS = 240  # a build on the spot takes it from the stages at the end
LOAD_SECONDS = 60


def install(report: Report, seconds: float) -> dict[str, Any]:
    """Installs the wheels, or the source tree where there is no wheel or a kernel of it does not run here."""
    attempts: list[tuple[str, Sequence[Path]]] = [("built here", [ROOT])]
    if report.wheels:
        attempts.insert(0, (report.wheels[0].name, report.wheels))
    if report.dry:
        attempts = [("as it was", [])]
    found: dict[str, Any] = {"status": "failed", "seconds": 0.0, "log": "", "info": "", "installed": ""}
    for name, paths in attempts:
        done = _installed(
            report, paths, max(seconds, min(BUILD_SECONDS, report.left())) if paths == [ROOT] else seconds
        )
        found["seconds"] += done.seconds
        if done.code == 0:
            done = report.child("load", seconds=min(LOAD_SECONDS, report.left()))
            found["seconds"] += done.seconds
        if done.code == 0:
            info = report.python("-m", "aligndraw.info", seconds=min(LOAD_SECONDS, report.left()))
            return {**found, "status": "done", "installed": name, "info": info.output}
        found["log"] += f"{name}: {done.status}\n{done.tail}\n"
        if done.code == LACKING:
            break
    return found


def _installed(report: Report, paths: Sequence[Path], seconds: float) -> Done:
    """What pip says to these wheels or trees; nothing where there are none."""
    if not paths:
        return Done(0, 0.0, "")
    where = ["--target", report.target, "--upgrade"] if report.target else ["--force-reinstall"]
    return report.python(
        *("-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", *where, *paths),
        seconds=seconds,
        ALIGNDRAW_BUILD_CUDA="1",
        ALIGNDRAW_CUDA_ARCHS=report.results["machine"]["compute_capability"].replace(".", ""),
    )


# ---- tests ----

DEVICE_TESTS = ROOT / "tests/ops/test_device.py"
# Every kernel in C++ in three dtypes, and each kernel of Triton, which compiles it anew for each dtype, once.
QUICK = (
    "not fp16 and not persistent and not cluster and not -reference- and not test_the_same_bits_every_time and "
    "(not triton or (test_as_exact and fp32-odd-trained) or (test_the_loops and odd-True))"
)
PERSISTENT, CLUSTER = "persistent", "cluster"  # their barriers can hang
REST = "not persistent and not cluster"

# Python puts the folder that it runs in before the installed package. A dry run collects tests as if CUDA were there.
PYTEST = """
import sys; sys.path = [p for p in sys.path if p]
import pytest
if "--collect-only" in sys.argv:
    import torch; torch.cuda.is_available = lambda: True
sys.exit(pytest.main(sys.argv[1:]))
"""
OUTCOME = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)
COLLECTED = re.compile(r"^(\S+::\S+)$", re.MULTILINE)
BEGUN = re.compile(r"^(\S+::.*?) ?$")
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] \S+?: (.*)$", re.MULTILINE)


def tests(*arguments: object) -> Callable[[Report, float], dict[str, Any]]:
    """The stage that gives pytest these arguments. A run that is cut short counts the tests that ended."""

    def find(report: Report, seconds: float) -> dict[str, Any]:
        options = ("--collect-only", "-q") if report.dry else ("-v", "-rs")
        done = report.python("-c", PYTEST, *arguments, *options, "-p", "no:cacheprovider", seconds=seconds)
        return outcomes(done, report.dry)

    return find


def outcomes(done: Done, dry: bool) -> dict[str, Any]:
    """Counts of a run of pytest, failures by name, and the test that was running when the time was up."""
    outcomes = dict(OUTCOME.findall(done.output))
    if dry:
        outcomes = dict.fromkeys(COLLECTED.findall(done.output), "COLLECTED")
    counts = {kind: sum(1 for o in outcomes.values() if o == kind) for kind in sorted(set(outcomes.values()))}
    skips: dict[str, int] = {}
    for count, reason in SKIPPED.findall(done.output):
        skips[reason] = skips.get(reason, 0) + int(count)
    failures = [test for test, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")]
    begun = BEGUN.match(done.output.splitlines()[-1]) if done.code is None and done.output else None
    return {
        "status": "failed" if failures else done.status,
        "seconds": done.seconds,
        "counts": counts,
        "failures": failures,
        "skips": skips,
        "unended": begun[1] if begun else "",
        "log": done.tail if done.code or failures else "",
    }


# ---- tools of CUDA ----


def tool_of_cuda(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")


KERNELS = 3
SECTIONS = ("SpeedOfLight", "LaunchStats", "Occupancy", "WarpStateStats", "MemoryWorkloadAnalysis")
FUNCTION = re.compile(r"(\w+)\s*(?:[<(]|$)")


def function_name(kernel: str) -> str:
    """The name of a kernel as ncu's filter knows it: without its type, namespaces, templates and parameters."""
    found = FUNCTION.search(kernel.replace("(anonymous namespace)::", "").removeprefix("void "))
    return found[1] if found else kernel


def counters(report: Report, seconds: float) -> dict[str, Any]:
    """Hardware counters of the kernels that take most of an update, one launch of each, as ncu reads them."""
    kernels = report.results["stages"].get("profile", {}).get("kernels", [])[:KERNELS]
    tool = tool_of_cuda("ncu")
    if report.dry:
        tool, kernels = "", [{"name": "void aligndraw::kernel<float>(int)"}]
    if tool is None:
        return {"status": NOT_MEASURED, "log": "ncu is not on the PATH: it comes with the CUDA toolkit"}
    if not kernels:
        return {"status": NOT_MEASURED, "log": "the profile named no kernel"}
    names = "|".join(sorted({re.escape(function_name(kernel["name"])) for kernel in kernels}))
    under = [tool, "--csv", "--clock-control", "none", "--target-processes", "all", "--launch-count", "12"]
    under += [part for section in SECTIONS for part in ("--section", section)]
    under += ["--kernel-name", f"regex:^({names})$"]
    done = report.child("step", seconds=seconds, under=under if tool else ())
    measured = read_counters(done.output)
    return {
        "status": done.status if measured or done.code or report.dry else "failed",
        "seconds": done.seconds,
        "counters": measured,
        "log": done.tail if done.code or not measured else "",
    }


def read_counters(output: str) -> dict[str, dict[str, str]]:
    """{kernel: {metric: value with its unit}} of the first launch of each kernel in ncu's CSV."""
    lines = [line for line in output.splitlines() if line.startswith('"')]
    found: dict[str, dict[str, str]] = {}
    launches: dict[str, str] = {}
    for row in csv.DictReader(lines):
        kernel, metric = row.get("Kernel Name"), row.get("Metric Name")
        if kernel and metric and launches.setdefault(kernel, row["ID"]) == row["ID"]:
            found.setdefault(kernel, {})[metric] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return found


SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (.*)$", re.MULTILINE)


def sanitizer(*checks: tuple[str, Sequence[str]]) -> Callable[[Report, float], dict[str, Any]]:
    """The stage that runs compute-sanitizer's checks, each over one small call of every kernel of some backends.

    Racecheck counts as an error what Triton's reductions do: lanes that write the same word at the same time.
    """

    def find(report: Report, seconds: float) -> dict[str, Any]:
        tool = "" if report.dry else tool_of_cuda("compute-sanitizer")
        if tool is None:
            reason = "compute-sanitizer is not on the PATH: it comes with the CUDA toolkit"
            return {"status": NOT_MEASURED, "log": reason}
        found: dict[str, Any] = {"status": "done", "seconds": 0.0, "tools": {}}
        for i, (check, backends) in enumerate(checks):
            under = (tool, "--tool", check, "--error-exitcode", "9") if tool else ()
            before = len(read_lines(report.lines, "touch"))
            done = report.child(
                *("touch", "--backends", *backends),
                seconds=(seconds - found["seconds"]) / (len(checks) - i),
                under=under,
                PYTORCH_NO_CUDA_MEMORY_CACHING="1",  # each tensor is an allocation of its own
            )
            summary = SUMMARY.findall(done.output)
            found["tools"][f"{check} of {' and '.join(backends)}"] = {
                "status": done.status,
                "summary": summary[-1] if summary else "no summary",
                "kernels": [line["kernel"] for line in read_lines(report.lines, "touch")[before:]],
                "log": done.tail if done.code else "",
            }
            found["seconds"] += done.seconds
        statuses = {tool["status"] for tool in found["tools"].values()}
        found["status"] = next(s for s in ("failed", "cut short", "done") if s in statuses)
        return found

    return find
