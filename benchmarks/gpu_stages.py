"""Stages of `gpu_report.py` that run in processes of their own: a crash, a hang or a time limit ends one alone.

Figures go to a file as they come, one line of JSON each with the stage's name. A measurement writes
{"plan": [case, …]}, {"machine": …}, then for each case {"begun": case} and its figures. A process that can measure no
further ends with AGAIN; the next one takes the file and the cases that are left.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from report import identity, json_files

AGAIN, LACKING = 3, 4  # exit codes
NEEDED = {  # modules beside torch and the package, and the distributions that hold them
    "numpy": "numpy", "safetensors": "safetensors", "PIL": "pillow", "tqdm": "tqdm", "pytest": "pytest",
    "hypothesis": "hypothesis",
}  # fmt: skip
HANGS = 60.0  # seconds: a case that takes longer hangs, but for those under torch.compile
MEASUREMENTS = ("ops", "model", "more ops", "more model", "compiled")
Say = Callable[..., None]


def probe(dry: bool = False) -> dict[str, Any]:
    """What the machine is, without the package; {"reason": …} where torch has no CUDA device."""
    try:
        import torch
    except ImportError:
        return {"reason": "torch is not installed"}
    if dry:
        import machine

        return {**machine.describe("cpu"), "gpu": "dry run", "compute_capability": "0.0"}
    if not torch.cuda.is_available():
        return {"reason": f"torch {torch.__version__} sees no CUDA device"}
    import machine

    return machine.describe("cuda")


def load(device: str = "cuda") -> None:
    """Runs a kernel of the installed library. Ends with LACKING where a package that the report needs is not there.

    Raises:
        RuntimeError: the library does not load, has no code for this device, or computes another value.
    """
    lacking = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if lacking:
        print(f"the report needs {', '.join(lacking)}: install them, or give their wheels to --wheel")
        sys.exit(LACKING)
    import torch

    from aligndraw import ops, use_backend

    with use_backend("cuda" if device == "cuda" else "cpp"):
        h, c = ops.lstm_gates(torch.zeros(2, 12, device=device), torch.ones(2, 3, device=device))
    if not torch.equal(c.cpu(), torch.full((2, 3), 0.5)):
        raise RuntimeError(f"lstm_gates of zeros must leave half of the cell state, got {c.cpu().tolist()}")


def sayer(out: Path, stage: str) -> Say:
    """Appends lines of a stage to a file, each written at once, and apart from a half line that was left there."""

    def say(**line: Any) -> None:
        with out.open("a") as file:
            file.write("\n" + json.dumps({"stage": stage, **line}) + "\n")

    return say


def read_lines(out: Path, stage: str) -> list[dict[str, Any]]:
    """The lines of a stage so far; the last line of the file may be half written."""
    lines = []
    for line in out.read_bytes().splitlines() if out.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json_files.parse_json(line))
    return [line for line in lines if line["stage"] == stage]


def measure(stage: str, out: Path, seconds: float, device: str = "cuda", hangs: float = HANGS) -> None:
    """Times the cases of a stage, the most telling first, until none is left or the time is up.

    Ends with AGAIN after a case that leaves this process unfit for the next.
    """
    import cases
    import cuda_clock
    import gpu_cases
    import gpu_runs
    import machine

    end = time.monotonic() + seconds
    planned = gpu_cases.plan(stage, device)
    begun = {identity(line["begun"]) for line in read_lines(out, stage) if "begun" in line}
    say = sayer(out, stage)
    if not begun:
        say(plan=[case.to_dict() for _, case in planned])
        say(machine=machine.describe(device), ceilings=machine.ceilings(device))
    for benchmark, case in planned:
        if identity(case.to_dict()) in begun:
            continue
        if time.monotonic() > end:
            break
        say(begun=case.to_dict())
        with contextlib.nullcontext() if case.form == "compiled" else _ending_what_hangs(hangs):
            found = _found(benchmark, case)
            say(**case.to_dict(), **found)
            if not _fit(found):
                sys.exit(AGAIN)
    say(after=machine.gpu_state())
    if stage == "model" and "cuda" in cases.built("unroll_prior", device):
        try:
            with _ending_what_hangs(hangs):
                say(stage_seconds=gpu_runs.stage_seconds(device))
        except Exception as problem:
            say(stage_failed=cuda_clock.first_line(problem))


def _found(benchmark: Any, case: Any) -> dict[str, Any]:
    """The figures of a case, or why there are none: whatever goes wrong is that case's failure alone."""
    import cases
    import cuda_clock

    from aligndraw.ops import OPS

    try:
        with benchmark.prepared(case) as ready:
            facts = {"error": ready.error, "compile_seconds": ready.compile_seconds, "backends": ready.backends}
            return {**ready.work, **facts, **cuda_clock.measure(ready.call, cold=case.op in OPS)}
    except cases.WrongResult as problem:
        return {"wrong": cuda_clock.first_line(problem)}
    except cases.NotBuilt as problem:
        return {"reason": cuda_clock.first_line(problem)}
    except Exception as problem:
        return {"failed": cuda_clock.first_line(problem)}


def _fit(found: dict[str, Any]) -> bool:
    """Whether this process can go on after a case: not after a failed capture, nor with a CUDA context that is lost."""
    import torch

    if "called" in found:
        return "reason" not in found
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


@contextlib.contextmanager
def _ending_what_hangs(seconds: float) -> Iterator[None]:
    """Ends this process where its body takes too long: nothing else ends a wait for a kernel that never does."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("probe", "load", "touch", "step", "profile", "paper", *MEASUREMENTS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--hangs", type=float, default=HANGS)
    parser.add_argument("--backends", nargs="+", default=())
    parser.add_argument("--dry", action="store_true", help="on the CPU, at small sizes, with a CUDA that is played")
    options = parser.parse_args(arguments)
    if options.stage == "probe":
        print(json.dumps(probe(options.dry)))
        return
    if options.stage == "load":
        load("cpu" if options.dry else "cuda")
        return
    import gpu_runs

    device, playing = "cuda", contextlib.nullcontext()
    if options.dry:
        import gpu_dry

        device, playing = "cpu", gpu_dry.played()
    say = sayer(options.out, options.stage)
    with playing:
        if options.stage == "touch":
            gpu_runs.touch(options.backends, say, device)
        elif options.stage == "step":
            gpu_runs.step(device)
        elif options.stage == "profile":
            gpu_runs.profile(say, device)
        elif options.stage == "paper":
            gpu_runs.paper(say, options.seconds, device)
        else:
            measure(options.stage, options.out, options.seconds, device, options.hangs)


if __name__ == "__main__":
    main()
