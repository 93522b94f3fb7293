"""csrc/cpu under the address and undefined-behaviour sanitizers.

As a plugin of pytest (`-p sanitized_cpu`) it puts that build in the place of the installed one: the tests are the same.
Their process must be started with `emulated_cuda.preloads()`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import emulated_cuda
import native  # of build_backend: the compiler's flags
import torch
from emulated_cuda import CSRC, SANITIZERS

TORCH = Path(torch.__file__).parent
STAND_IN = Path(__file__).parent / "amx/stand_in.cpp"


def library() -> Path:
    """Its path; unoptimised, which compiles in a third of the time and leaves every access in place.

    The instructions of AMX are those of amx/stand_in.cpp, so that loops run on tiles where the machine has AVX512_BF16.
    """
    headers = [*CSRC.glob("*.h"), *CSRC.glob("cpu/*.h"), *CSRC.glob("math/*.h"), *STAND_IN.parent.glob("*.h")]
    command = [emulated_cuda.compiler(), "-std=c++20", "-O0", "-g1", "-fPIC"]
    command += SANITIZERS["asan"]
    command += ["-include", str(STAND_IN.with_suffix(".h"))]
    for_torch = [native.STABLE_ABI, "-isystem", str(TORCH / "include")]

    def compiled(source: Path) -> Path:
        optimised = ["-O2"] if source == STAND_IN else []  # it stands for single instructions
        whole = [*command, *optimised, *for_torch, "-c", str(source)]
        return emulated_cuda.made(whole, [source, *headers], f"cpu-{source.stem}")

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as jobs:
        objects = list(jobs.map(compiled, [*sorted(CSRC.glob("cpu/*.cpp")), CSRC / "register.cpp", STAND_IN]))
    libraries = [f"-L{TORCH / 'lib'}", "-ltorch", "-ltorch_cpu"]
    return emulated_cuda.made([*command, "-shared", *map(str, objects), *libraries], objects, "cpu-linked")


def pytest_load_initial_conftests() -> None:
    """Before a conftest imports the package."""
    load, ours = torch.ops.load_library, str(library())

    def load_ours(path: str) -> None:
        load(ours if Path(path).name.startswith("_C") else path)

    torch.ops.load_library = load_ours


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.line(f"loaded {[Path(path).name for path in torch.ops.loaded_libraries]}")
