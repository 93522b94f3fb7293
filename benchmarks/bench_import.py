"""`import aligndraw`, all of it, in the CPU time of `import torch`."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

EVERYTHING = "from aligndraw import AlignDRAW, nn, ops, pipelines"
MOST = 1.15  # of torch's own
TRIES = 5


def cpu_seconds(code: str) -> float:
    """The least CPU time of a process that runs the code."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    found = []
    for _ in range(TRIES):
        before = used()
        subprocess.run([sys.executable, "-c", code], check=True)
        found.append(used() - before)
    return min(found)


@pytest.mark.smoke
def test_import() -> None:
    torch, ours = cpu_seconds("import torch"), cpu_seconds(EVERYTHING)
    print(f"\nimport torch {torch:.2f} s, aligndraw {ours:.2f} s of CPU time: {ours / torch:.2f}x")
    assert ours <= MOST * torch
