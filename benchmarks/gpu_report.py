"""Everything that a machine with an NVIDIA GPU can add, in two commands:

    python benchmarks/gpu_report.py --brief --wheel aligndraw-….whl     # the first eight minutes
    python benchmarks/gpu_report.py                                     # the rest

installs the package, tests its kernels, times the ops, the model and the paper's training, and writes
`benchmarks/results/<GPU>-brief.json` and `.md` (`-rest` for the second), anew after each stage. Figures of a stage
that runs stand in `.jsonl`, what the commands print in `.log`. It needs no network.

    python benchmarks/gpu_report.py --brief --plan     # the stages and their limits; needs no GPU
    python benchmarks/gpu_report.py --brief --dry      # the same code on the CPU, at small sizes

Exit code: 0 nothing failed, 1 something did, 2 there is no CUDA device and nothing was measured.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_command import NOT_MEASURED, Report, Runner, last_json, run
from gpu_page import markdown
from gpu_stages import AGAIN, read_lines
from gpu_tools import CLUSTER, DEVICE_TESTS, PERSISTENT, QUICK, REST, ROOT, counters, install, sanitizer, tests
from report import identity, write_text

FACTS = ("plan", "machine", "ceilings", "stage_seconds", "stage_failed", "after")  # of a measurement, beside its rows
GRACE = 5  # seconds between asking a stage to end and ending it
HANGS = 25  # seconds that one case may take
DRY_FACTOR = 5  # of all limits, on a CPU that other programs share
PROBE = 60  # seconds


@dataclass(frozen=True)
class Stage:
    """A part of a report.

    Attributes:
        seconds: that it takes at most.
        question: that it answers.
    """

    seconds: int
    question: str
    find: Callable[[Report, float], dict[str, Any]]


def measured(stage: str) -> Callable[[Report, float], dict[str, Any]]:
    return functools.partial(measure, stage)


def measure(stage: str, report: Report, seconds: float) -> dict[str, Any]:
    """Rows of one of gpu_stages' measurements; cases that the time did not reach stay without figures.

    A process that ends before the time is up is followed by another, as long as each begins a case at least.
    """
    spent, begun, lost, logs = 0.0, 0, [], []
    while True:
        left = seconds - spent
        done = report.child(
            stage, "--seconds", f"{max(1.0, left - GRACE):.0f}", "--hangs", HANGS * report.slowness, seconds=left
        )
        spent += done.seconds
        lines, before = read_lines(report.lines, stage), begun
        begun = sum("begun" in line for line in lines)
        broke = done.code not in (0, None, AGAIN)
        if broke:
            logs.append(done.tail)
            if begun and "begun" in lines[-1]:
                lost.append({**lines[-1]["begun"], "failed": f"its process ended with exit code {done.code}"})
        if not done.code or begun == before or seconds - spent < 2 * GRACE:
            break
    facts = {fact: line[fact] for line in lines for fact in FACTS if fact in line}
    rows_by_case = {identity(line): line for line in [*lines, *lost] if "op" in line}
    missed = {"reason": f"{NOT_MEASURED}: " + ("the stage broke off" if broke else "the time was up")}
    planned = {identity(case): case for case in facts.pop("plan", [])}
    rows = [rows_by_case.get(key, {**case, **missed}) for key, case in planned.items()]
    failed = broke or "stage_failed" in facts or any("wrong" in row or "failed" in row for row in rows)
    whole = done.code == 0 and planned.keys() <= rows_by_case.keys()
    return {
        "status": "failed" if failed else "done" if whole else "cut short",
        "seconds": spent,
        "rows": rows,
        "log": "\n".join(logs),
        **facts,
    }


def paper(report: Report, seconds: float) -> dict[str, Any]:
    """The paper's training on MNIST with captions, by the clock on the wall, as far as it gets."""
    asked = 0.0 if report.dry else max(1.0, seconds - 2 * GRACE)
    done = report.child("paper", "--seconds", f"{asked:.0f}", seconds=seconds)
    lines = read_lines(report.lines, "paper")
    run = lines[-1] if lines else {}
    whole = run and run["updates"] == run["total"]
    return {
        "status": "cut short" if done.code == 0 and not whole else done.status,
        "seconds": done.seconds,
        "run": run,
        "log": done.tail if done.code else "",
    }


def profile(report: Report, seconds: float) -> dict[str, Any]:
    """The kernels of one replayed update, the largest first."""
    done = report.child("profile", seconds=seconds)
    lines = read_lines(report.lines, "profile")
    found = {key: value for line in lines[-1:] for key, value in line.items() if key != "stage"}
    return {"status": done.status, "seconds": done.seconds, **found, "log": done.tail if done.code else ""}


# In this order; the last one takes what time is left.
BRIEF = {
    "install": Stage(60, "whether the package runs here", install),
    "tests": Stage(55, "each kernel against float64, without float16; Triton's once", tests(DEVICE_TESTS, "-k", QUICK)),
    "persistent": Stage(25, "the persistent loops against float64", tests(DEVICE_TESTS, "-x", "-k", PERSISTENT)),
    "cluster": Stage(25, "the loops in clusters against float64", tests(DEVICE_TESTS, "-x", "-k", CLUSTER)),
    "ops": Stage(40, "each op and its gradient at batch 100: PyTorch, CUDA, Triton", measured("ops")),
    "model": Stage(120, "MNIST's and COCO's training at batch 100 in all forms; sampling", measured("model")),
    "profile": Stage(15, "the kernels of one replayed update", profile),
    "paper": Stage(70, "the paper's training by the clock on the wall", paper),
    "counters": Stage(40, "hardware counters of the three largest kernels", counters),
    "sanitizer": Stage(30, "memcheck of one call of each CUDA kernel", sanitizer(("memcheck", ["cuda"]))),
}
BOTH = (("memcheck", ["triton"]), ("racecheck", ["cuda"]))
OTHERS = {
    "install": Stage(60, "whether the package runs here", install),
    "all tests": Stage(90, "every device test but those of the loops of one launch", tests(DEVICE_TESTS, "-k", REST)),
    "more ops": Stage(90, "each op at batches 1 to 1024, and under torch.compile", measured("more ops")),
    "more model": Stage(110, "all presets at batches 1 to 1024 in the forms that are left", measured("more model")),
    "compiled": Stage(150, "the model under torch.compile", measured("compiled")),
    "races": Stage(70, "memcheck of Triton's kernels, racecheck of CUDA's", sanitizer(*BOTH)),
}
PLANS = {"brief": BRIEF, "rest": OTHERS}
STAGES = {**OTHERS, **BRIEF}


def run_stages(report: Report, stages: Mapping[str, Stage], save: Callable[[dict[str, Any]], None]) -> None:
    """Runs stages in order, each within its limit and the time that is left."""
    found = report.results["stages"] = {name: {"status": NOT_MEASURED, "log": ""} for name in stages}
    for name, stage in stages.items():
        left = report.end - time.monotonic()
        if found.get("install", {}).get("status") == "failed":
            found[name]["log"] = "the package could not be installed"
        elif left < GRACE:
            found[name]["log"] = "the time was up"
        else:
            seconds = left if name == list(stages)[-1] else min(left, stage.seconds * report.slowness)
            print(f"{name}: at most {seconds:.0f} s", flush=True)
            try:
                found[name] = stage.find(report, seconds)
            except Exception:
                found[name] = {"status": "failed", "log": traceback.format_exc()}
            print(f"{name}: {found[name]['status']}", flush=True)
        save(report.results)


# ---- the command ----


def plan_page(stages: Mapping[str, Stage]) -> str:
    """The stages with their limits in seconds, and the sum."""
    width = max(map(len, stages)) + 2
    lines = [f"{'stage':{width}}{'s':>4}  question"]
    lines += [f"{name.replace(' ', '_'):{width}}{stage.seconds:4}  {stage.question}" for name, stage in stages.items()]
    return "\n".join([*lines, f"{'together':{width}}{sum(stage.seconds for stage in stages.values()):4}"])


def file_name(gpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def exit_code(results: Mapping[str, Any]) -> int:
    return 1 if any(found["status"] == "failed" for found in results["stages"].values()) else 0


def stage_list(text: str) -> dict[str, Stage]:
    names = text.replace("_", " ").split(",")
    unknown = [stage for stage in names if stage not in STAGES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no stage {', '.join(map(repr, unknown))}; there are {', '.join(STAGES)}")
    return {name: stage for name, stage in STAGES.items() if name in names}


def parse(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--brief", action="store_true", help="the stages most worth having, in eight minutes")
    which.add_argument("--only", type=stage_list, metavar="STAGE,…", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--plan", action="store_true", help="prints the stages and their limits, and ends")
    parser.add_argument("--dry", action="store_true", help="runs the stages on the CPU: no figure is of a GPU")
    parser.add_argument("--seconds", type=float, help="for everything together (default: the limits' sum)")
    parser.add_argument(
        "--wheel", type=Path, nargs="+", default=[], metavar="WHEEL",
        help="installs the package's wheel, and others that it needs; builds the package where it does not run",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder of the report (default: benchmarks/results)")
    parser.add_argument("--target", type=Path, help="install into this folder, not into Python's environment")
    parser.add_argument("--commit", help="written as the commit, where the sources come without git")
    options = parser.parse_args(given)
    if missing := [str(wheel) for wheel in options.wheel if not wheel.is_file()]:
        parser.error(f"--wheel: there is no file {', '.join(missing)}")
    options.plan_name = "only" if options.only else "brief" if options.brief else "rest"
    options.stages = options.only or PLANS[options.plan_name]
    return options


def main(arguments: Sequence[str] | None = None, runner: Runner | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(given)
    if options.plan:
        print(plan_page(options.stages))
        return 0
    slowness = DRY_FACTOR if options.dry else 1
    seconds = options.seconds or slowness * sum(stage.seconds for stage in options.stages.values())
    end = time.monotonic() + seconds
    out = options.out or (Path(tempfile.mkdtemp(prefix="gpu-report-")) if options.dry else ROOT / "benchmarks/results")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(Path(folder, "inductor"))}
        if options.target:
            paths = [str(options.target.resolve()), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        report = Report(
            runner or run,
            Path(folder, "probe.jsonl"),
            environment,
            end,
            target=options.target and options.target.resolve(),
            wheels=[wheel.resolve() for wheel in options.wheel],
            dry=options.dry,
            slowness=slowness,
        )
        found = report.child("probe", seconds=PROBE)
        machine = (last_json(found.output) if found.code == 0 else None) or {"reason": found.tail}
        if "reason" in machine:
            unknown = "; ".join(stage.question for stage in options.stages.values())
            reason = " ".join(machine["reason"].split())
            print(f"gpu_report: nothing was measured: {reason}. Still unmeasured: {unknown}", file=sys.stderr)
            return 2
        if options.commit:
            machine["commit"] = options.commit
        report.results |= {
            "machine": machine,
            "command": shlex.join(["python", "benchmarks/gpu_report.py", *given]),
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "dry": options.dry,
        }
        out.mkdir(parents=True, exist_ok=True)
        stem = out.resolve() / f"{file_name(machine['gpu'])}-{options.plan_name}"
        report.lines = stem.with_suffix(".jsonl")
        for old in (report.lines, stem.with_suffix(".log")):
            old.unlink(missing_ok=True)  # an earlier run's
        report.runner = runner or functools.partial(run, log=stem.with_suffix(".log"))

        def save(results: Mapping[str, Any]) -> None:
            write_text(stem.with_suffix(".json"), json.dumps(results, indent=1) + "\n")
            write_text(stem.with_suffix(".md"), markdown(results))

        run_stages(report, options.stages, save)
    print(stem.with_suffix(".md"))
    return exit_code(report.results)


if __name__ == "__main__":
    sys.exit(main())
