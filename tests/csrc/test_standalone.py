"""The kernels that need no torch, by every compiler that is here, and on aarch64 in an emulator."""

import os
import shutil
import subprocess
from pathlib import Path

import native  # of build_backend: the library's own compiler flags
import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
NAMES = ("neon_gemm", "portable_gemm", "portable_block", "round")
SOURCES = [HERE / "standalone.cpp", *(CSRC / f"cpu/{name}.cpp" for name in NAMES)]
CLANGS = ["clang++", *(f"clang++-{version}" for version in range(12, 24))]


def check(compiler, tmp_path, *flags, emulator=()):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not here")
    program = tmp_path / "standalone"
    command = [compiler, *native.CXX_FLAGS, *native.MATH_FLAGS, "-I", CSRC, *flags, *SOURCES, "-o", program]
    subprocess.run(command, check=True)
    done = subprocess.run([*emulator, program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "all as it should be\n")


def test_by_the_compiler_of_the_build(tmp_path):
    check(os.environ.get("CXX", "g++"), tmp_path)


@pytest.mark.parametrize("compiler", [c for c in CLANGS if shutil.which(c)] or CLANGS[:1])
def test_by_clang(compiler, tmp_path):
    """clang 14 takes functions with versions for each ISA, and calls an empty one from another file."""
    check(compiler, tmp_path)


def test_on_aarch64(tmp_path):
    """NEON's kernels: cross-compiled, and run by qemu."""
    emulators = [name for name in ("qemu-aarch64-static", "qemu-aarch64") if shutil.which(name)]
    if not emulators:
        pytest.skip("qemu-user is not here: `apt install g++-aarch64-linux-gnu qemu-user-static`")
    check("aarch64-linux-gnu-g++", tmp_path, "-static", emulator=emulators[:1])
