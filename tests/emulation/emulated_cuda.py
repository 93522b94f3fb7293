"""Compiles the kernels of csrc/cuda for the stand-in CUDA runtime of this folder, and loads them as ops on CPU tensors.

Two builds: `race` watches every load and store for a missing barrier, `asan` for addresses and undefined behaviour
(its process must be started with `preloads()`). Objects are kept in build/emulation, named by what they are made of.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import native  # of build_backend: the compiler's flags
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EMULATED, CSRC = HERE / "emulated", ROOT / "csrc"
SANITIZERS = {
    "race": ["-fsanitize=thread"],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
}
NAMESPACE = "aligndraw_emulated"
# Functions in whose place register.cpp has its own.
WRAPPED = (
    "aoti_torch_create_tensor_from_blob_v2",
    *("aoti_torch_cpu_mm_out", "aoti_torch_cpu_bmm_out", "aoti_torch_cpu_addmm_out"),
    "_ZN11cuda_on_cpu3runERK18cudaLaunchConfig_tPKvPFvPvES5_",  # cuda_on_cpu::run
)


def compiler() -> str:
    return os.environ.get("CXX", "g++")


def link(kind: str, sources: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    """The library or program that `flags` ask for, of .cu and .cpp sources and the runtime."""
    runtime = [EMULATED / "cuda_on_cpu.cpp"] + ([EMULATED / "racecheck.cpp"] if kind == "race" else [])
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as jobs:
        objects = list(jobs.map(lambda source: _object(kind, source), [*sources, *runtime]))
    # The race check answers the hooks of -fsanitize=thread by itself, without the sanitizer's library.
    sanitizer = SANITIZERS[kind] if kind == "asan" else []
    script = f"-Wl,-T,{EMULATED / 'shared.ld'}"
    return made([compiler(), *map(str, objects), *sanitizer, script, *flags, "-ldl"], objects, "linked")


def _object(kind: str, source: Path) -> Path:
    command = [compiler(), "-std=c++20", "-fPIC", f"-I{EMULATED}"]
    if source.suffix == ".cu":
        command += ["-O1", "-g", *SANITIZERS[kind], f"-I{CSRC / 'cuda'}", f"-I{CSRC}", "-x", "c++"]
    elif source.parent == EMULATED:
        command += ["-O2"]
    else:
        torch_headers = str(Path(torch.__file__).parent / "include")
        command += ["-O1", "-fvisibility=hidden", native.STABLE_ABI, "-isystem", torch_headers, f"-I{CSRC}"]
    folders = [EMULATED, CSRC / "cuda", CSRC]
    return made([*command, "-c", str(source)], list(_included(source, folders)), source.stem)


def _included(source: Path, folders: Sequence[Path]) -> set[Path]:
    """The file itself and every file of this repository that it includes."""
    found, waiting = {source}, [source]
    while waiting:
        file = waiting.pop()
        for name in re.findall(r'^#include ["<]([^">]+)[">]', file.read_text(), re.MULTILINE):
            for path in ((folder / name).resolve() for folder in (file.parent, *folders)):
                if path.is_file() and path not in found:
                    found.add(path)
                    waiting.append(path)
    return found


def made(command: list[str], inputs: Sequence[Path], name: str) -> Path:
    digest = hashlib.sha256(f"{command} {torch.__version__}".encode())
    for path in sorted(inputs):
        digest.update(path.read_bytes())
    target = ROOT / "build" / "emulation" / f"{name}-{digest.hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f"{target.name}.{os.getpid()}.new")
        subprocess.run([*command, "-o", str(new)], check=True)
        os.replace(new, target)
    return target


class Emulation:
    """The ops of csrc/cuda on CPU tensors, as `torch.ops.aligndraw_emulated`; once a process."""

    def __init__(self, kind: str) -> None:
        from aligndraw import ops

        self._library = torch.library.Library(NAMESPACE, "DEF")
        for op in (*ops.OPS, *ops.LOOPS):
            for name in (op, f"{op}_backward"):
                if hasattr(torch.ops.aligndraw, name):  # sampling has no gradient
                    schema = str(getattr(torch.ops.aligndraw, name).default._schema)
                    self._library.define(schema.removeprefix("aligndraw::"))
        path = library(kind)
        torch.ops.load_library(str(path))
        self._runtime = ctypes.CDLL(str(path))

    def order(self, order: int) -> None:
        """In which order threads go on: 0 as numbered, -1 reversed, else shuffled by this seed."""
        self._runtime.cuda_on_cpu_order(order)

    def multiprocessors(self, count: int) -> None:
        """Of the pretended GPU, 4 at first."""
        self._runtime.cuda_on_cpu_multiprocessors(count)

    def capability(self, major: int) -> None:
        """The compute capability of the pretended GPU, 9 at first."""
        self._runtime.cuda_on_cpu_capability(major)

    def launched(self) -> tuple[int, int]:
        """How many kernels, and how many of PyTorch's products, have been launched so far."""
        kernels, products = (
            ctypes.c_int64.in_dll(self._runtime, name).value for name in ("launched_kernels", "launched_products")
        )
        return kernels, products

    def leave_out(self, file: str, line: int) -> None:
        """The barrier of a source line is passed without waiting; line 0 brings all back."""
        self._runtime.cuda_on_cpu_leave_out(file.encode() if line else b"", line)


def barriers(of_loops: bool) -> list[tuple[str, int]]:
    """(file, line) of every barrier of the kernels: of those that only the loops have, or of the others."""
    from aligndraw import ops

    found = []
    for source in sorted(CSRC.glob("cuda/*")):
        in_loop = ("loop", "persistent", "unroll_forward", "unroll_backward", *ops.LOOPS)
        if (source.stem in in_loop or source.stem.startswith("cluster")) != of_loops:
            continue
        for number, line in enumerate(source.read_text().splitlines(), 1):
            found += [(source.name, number)] * len(re.findall(r"__sync\w+\(|\.sync\(", line.split("//")[0]))
    return found


def library(kind: str) -> Path:
    sources = [*sorted(CSRC.glob("cuda/*.cu")), *sorted(CSRC.glob("cuda/*.cpp")), HERE / "register.cpp"]
    torch_lib = Path(torch.__file__).parent / "lib"
    needed = [f"-L{torch_lib}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu"]
    return link(kind, sources, ["-shared", *needed, *(f"-Wl,--wrap={name}" for name in WRAPPED)])


def preloads() -> dict[str, str]:
    """The environment for a process that loads the `asan` build."""
    found = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
