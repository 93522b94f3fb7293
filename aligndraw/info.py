"""The capabilities of this installation, with reasons for missing ones.

`aligndraw info`, `python -m aligndraw.info`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import aligndraw
from aligndraw.backends import BACKENDS, BUILD, ISAS, backend_for, best_isa, missing_reason, served_isa
from aligndraw.machine import processor
from aligndraw.ops import LOOPS, OPS
from aligndraw.printable import counted, escape

ENVIRONMENT = {
    "ALIGNDRAW_BACKEND": f"forces one backend: {', '.join(BACKENDS)}",
    "ALIGNDRAW_ISA": f"forces the instruction set of C++ products: {', '.join(ISAS)}",
    "ALIGNDRAW_LOOP": "forces a form of the loops on a GPU: auto, launches, persistent or cluster",
    "ALIGNDRAW_BUILD_CPP": "at installation, compiled ops: auto, 0 (no) or 1 (stop if it cannot be done)",
    "ALIGNDRAW_BUILD_CUDA": "at installation, CUDA ops: auto, 0 or 1",
    "ALIGNDRAW_CUDA_ARCHS": 'at installation, compute capabilities: "80;90", or all (default: the GPUs here)',
}


def page() -> str:
    """Returns the whole page, lines without trailing white space."""
    facts = [
        ("aligndraw", f"{aligndraw.__version__} in {Path(aligndraw.__file__).parent}"),
        ("python", platform.python_version()),
        ("torch", torch.__version__),
        ("triton", _version("triton")),
        ("numpy", np.__version__),
        ("CPU", _cpu()),
        ("ISA", _isa()),
        *_gpus(),
        *_build(),
    ]
    notes: list[str] = []
    rows = [_op_row(op, notes) for op in (*OPS, *LOOPS)]
    header = ["op", *BACKENDS, *(f"chosen on {device}" for device in _devices())]
    variables = [(name, os.environ.get(name, "not set"), text) for name, text in ENVIRONMENT.items()]
    unknown = sorted(k for k in os.environ if k.startswith("ALIGNDRAW_") and k not in ENVIRONMENT)
    variables += [(name, os.environ[name], "means nothing to aligndraw") for name in unknown]
    return "\n".join(
        [
            *_columns(facts),
            "",
            *_columns([header, *rows]),
            *(f"[{i}] {note}" for i, note in enumerate(notes, 1)),
            "",
            *_columns(variables),
        ]
    )


def main() -> None:
    """Prints the page."""
    print("\n".join(map(escape, page().split("\n"))))  # it shows environment variables


def device_fault(device: str) -> str:
    """Returns the rule that the name of a device breaks, with the name; "" for one that models run on here."""
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not index.isdecimal()):
        return f"must be cpu or cuda, got {device!r}"
    reason = no_cuda_reason() if kind == "cuda" else ""
    if not reason and kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        reason = f"there are {torch.cuda.device_count()} CUDA devices"
    elif reason:
        reason = f"there is no CUDA device: {reason}"
    return f"must be a device of this machine, got {device!r}: {reason}" if reason else ""


def no_cuda_reason() -> str:
    """Why there is no CUDA device, and what to do; "" when there is one."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA: install a CUDA build of torch"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA GPU: see whether nvidia-smi does"
    return ""


def _devices() -> list[str]:
    return ["cpu"] if no_cuda_reason() else ["cpu", "cuda"]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    features = torch.backends.cpu.get_cpu_capability()
    return (
        f"{processor()}, {features}, {counted(os.cpu_count() or 1, 'CPU')}, "
        f"{counted(torch.get_num_threads(), 'thread')} in use"
    )


def _isa() -> str:
    """Returns the instruction set of the C++ products, and the best one of this machine."""
    reason = missing_reason("product", "cpp", "cpu")
    if reason:
        return f"none: {reason}"
    best = best_isa()
    try:
        served = served_isa()
    except RuntimeError as error:  # ALIGNDRAW_ISA names one that the machine lacks
        return f"none: {error}"
    return f"C++ products use {served}, this machine has {best}"


def _gpus() -> list[tuple[str, str]]:
    reason = no_cuda_reason()
    if reason:
        return [("GPU", f"none: {reason}")]
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        (
            f"GPU {i}",
            f"{g.name}, compute capability {g.major}.{g.minor}, {g.total_memory / 2**30:.0f} GiB",
        )
        for i, g in enumerate(gpus)
    ]


def _build() -> list[tuple[str, str]]:
    parts = [("build", "cpp"), ("", "cuda"), ("", "host")]
    rows = [
        (head, f"{part}: {'yes' if BUILD.get(part) else BUILD.get(f'{part}_reason') or 'no'}") for head, part in parts
    ]
    tools = {tool: BUILD.get(tool) for tool in ("torch", "compiler", "nvcc", "cuda_archs")}
    return rows + [
        ("", f"{tool}: {' '.join(map(str, value)) if isinstance(value, list) else value}")
        for tool, value in tools.items()
        if value
    ]


def _op_row(op: str, notes: list[str]) -> list[str]:
    """Returns "yes" or a note's number per backend, then the chosen backend per device; adds to the notes."""

    def note(text: str) -> str:
        if text not in notes:
            notes.append(text)
        return f"[{notes.index(text) + 1}]"

    row = [op]
    for backend in BACKENDS:
        reason = _absence(op, backend)
        row.append(f"no {note(f'{backend}: {reason}')}" if reason else "yes")
    for device in _devices():
        try:
            row.append(backend_for(op, device))
        except (RuntimeError, ValueError) as error:
            row.append(f"none {note(str(error))}")
    return row


def _absence(op: str, backend: str) -> str:
    """Why a backend cannot run an op on this machine; "" when it can."""
    at_home = {"reference": "cpu", "cpp": "cpu", "cuda": "cuda"}.get(backend, _devices()[-1])
    return missing_reason(op, backend, at_home) or (no_cuda_reason() if at_home == "cuda" else "")


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the rows with aligned cells."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]


if __name__ == "__main__":
    main()
