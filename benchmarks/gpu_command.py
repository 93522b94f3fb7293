"""Commands that the GPU report runs: each in a process of its own, under a time limit, its output kept as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("gpu_stages.py")
NOT_MEASURED = "not measured"


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


def run(command: Sequence[str], seconds: float, environment: Mapping[str, str], log: Path | None = None) -> Done:
    """Runs a command away from the source tree; it and its children end when the time is up.

    Args:
        log: file that receives the output as it comes, after its earlier contents; a temporary one when None.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("a+b") if log else tempfile.TemporaryFile("w+b"))
        start = file.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:  # its time is up, or the report is interrupted
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        file.seek(start)
        return Done(code, time.monotonic() - began, file.read().decode(errors="replace"))


@dataclass
class Report:
    """A report in the making.

    Attributes:
        lines: file to which the stages append their figures as they come, one JSON object per line.
        end: of all stages, by time.monotonic().
        slowness: factor of all limits.
        results: contents of the report's JSON file.
    """

    runner: Runner
    lines: Path
    environment: dict[str, str]
    end: float
    target: Path | None = None
    wheels: Sequence[Path] = ()
    dry: bool = False
    slowness: int = 1
    results: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        return max(1.0, self.end - time.monotonic())

    def python(self, *arguments: object, seconds: float, **environment: str) -> Done:
        return self.runner([sys.executable, *map(str, arguments)], seconds, {**self.environment, **environment})

    def child(
        self, stage: str, *options: object, seconds: float, under: Sequence[str] = (), **environment: str
    ) -> Done:
        """Runs a stage of gpu_stages.py, under a tool where one is named."""
        command = [*under, sys.executable, str(CHILD), stage, "--out", str(self.lines), *map(str, options)]
        command += ["--dry"] if self.dry else []
        return self.runner(command, seconds, {**self.environment, **environment})


def last_json(output: str) -> Any:
    """The last line that is JSON; None where there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith(("[", "{")):
            with contextlib.suppress(ValueError):
                return json.loads(line)
    return None
