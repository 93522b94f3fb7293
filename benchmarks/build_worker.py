"""Times the cases of this folder for compare_builds.py, with the aligndraw of the Python that runs it.

A request is one line of JSON on standard input, [name, argument]; its answer is one line on standard output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import machine
import torch
from report import precision_of

import aligndraw
from aligndraw.backends import BUILD

FILES = ("read", "write", "attend", "lstm", "latent", "model", "sharpen")


class BuildWorker:
    """One prepared case at a time."""

    def __init__(self) -> None:
        self._cases: dict[str, tuple[Any, cases.Case]] = {}
        for file in FILES:
            benchmark = importlib.import_module(f"bench_{file}").BENCHMARK
            self._cases |= {str(case): (benchmark, case) for case in benchmark.cases("cpu")}
        self._prepared = contextlib.ExitStack()
        self._call: Callable[[], object] | None = None
        self._seconds = 0.0

    def facts(self, _: None = None) -> dict[str, Any]:
        """The machine, and what the build is."""
        folder = Path(aligndraw.__file__).parents[1]
        # An environment may lie inside some other checkout: its commit says nothing about the build.
        commit = machine.commit(folder) if (folder / ".git").exists() else None
        return machine.describe("cpu") | {"compiler": BUILD.get("compiler"), "commit": commit}

    def names(self, _: None = None) -> dict[str, str | None]:
        """All cases, each with the name of its reference, plain PyTorch in the same precision."""
        found: dict[str, str | None] = {}
        for name, (_benchmark, case) in self._cases.items():
            form = "eager_bf16" if precision_of(case.form) == "bf16" else "eager"
            reference = str(dataclasses.replace(case, form=form))
            found[name] = reference if reference in self._cases else None
        return found

    def prepare(self, given: tuple[str, bool]) -> str:
        """Keeps a case for `burst`, given its name and whether to check it; returns what is wrong with it, or ""."""
        name, check = given
        self._prepared.close()
        self._call = None
        benchmark, case = self._cases[name]
        try:
            self._call = self._prepared.enter_context(benchmark.prepared(case, check)).call
        except (cases.WrongResult, cases.NotBuilt) as problem:
            return str(problem)
        self._call()
        began = time.perf_counter()
        self._call()
        self._seconds = time.perf_counter() - began
        gc.collect()
        return ""

    def burst(self, seconds: float) -> float:
        """Seconds per call, of the calls that fit into so many seconds, one at least."""
        assert self._call is not None
        if self._seconds < seconds:
            self._call()  # fetches into the caches what the other builds evicted
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds or not calls:
            self._call()
            calls += 1
        took = (time.perf_counter() - began) / calls
        _settle()
        return took


def _settle() -> None:
    """Returns when this process's other threads sleep: OpenMP's wait for work actively, and take a core from others.

    Where Linux tells the state of a thread; the CPU time of one that runs lags by a tick of its clock.
    """
    threads = Path("/proc/self/task")
    own = str(threading.get_native_id())

    def is_running(thread: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):  # it has ended
            return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R"
        return False

    while threads.is_dir() and any(is_running(thread) for thread in threads.iterdir() if thread.name != own):
        time.sleep(2e-4)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    gc.disable()
    worker = BuildWorker()
    for line in sys.stdin:
        request, argument = json.loads(line)
        print(json.dumps(getattr(worker, request)(argument)), file=answers, flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
