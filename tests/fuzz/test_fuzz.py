"""Fuzzing: past finds and the corpus in the default run; with `-m slow`, new inputs guided by coverage.

    pip install "aligndraw[fuzz]"                     # atheris, for the readers
    apt install clang libclang-rt-dev                 # libFuzzer, for the C++
    pytest tests/fuzz -m slow --seconds 600 -rA

A find is left in the test's folder, which the message names. Mend the reader or the kernel, and add the bytes to
`corpus/` or `kernels/`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import emulated_cuda
import native  # of build_backend: the library's own compiler flags
import pytest

HERE = Path(__file__).parent
CORPUS, KERNELS, CSRC = HERE / "corpus", HERE / "kernels", HERE.parents[1] / "csrc"
READERS = sorted(path.name for path in CORPUS.iterdir())
HARNESSES = {
    "glimpse": ["portable_glimpse", "avx2_glimpse", "isa"],
    "paint": [],
    "product": ["portable_gemm", "neon_gemm"],
    "rows": ["attend", "energy", "isa", "latent", "lstm"],
}
CLANGS = [c for c in ("clang++", *(f"clang++-{v}" for v in range(23, 14, -1))) if shutil.which(c)]


@pytest.fixture(scope="module")
def targets():
    spec = importlib.util.spec_from_file_location("fuzz_targets", HERE / "targets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.remove_place()


def test_every_reader_has_a_corpus(targets):
    assert sorted(targets.TARGETS) == READERS


@pytest.mark.parametrize("name", READERS)
def test_corpus(name, targets):
    """Files of users and past finds: refused by one line, or taken."""
    taken = [targets.run(name, path.read_bytes()) for path in sorted((CORPUS / name).iterdir())]
    assert any(taken), "a corpus without a good file reaches nothing"


def fuzz(command, seconds, tmp_path, **options):
    """Runs a fuzzer, whose last lines it prints; fails on a find."""
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=seconds + 300, **options)
    done = re.findall(r"stat::number_of_executed_units:\s*(\d+)|(cov: \d+ .*corp: \S+)", ran.stderr)
    print(*("".join(found) for found in done[-2:]))
    finds = [path.name for path in tmp_path.rglob("*") if path.name.startswith(("crash", "timeout", "oom", "leak"))]
    assert not finds and ran.returncode == 0, f"{finds} in {tmp_path}: {ran.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_reader(name, seconds, tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed")
    (tmp_path / "new").mkdir()
    command = [sys.executable, HERE / "drive.py", name, str(int(seconds)), CORPUS / name, tmp_path / "new"]
    fuzz(command, seconds, tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})


def build(name, compiler, checks, more, program):
    """Builds a harness; returns the message of what failed, or an empty one."""
    sources = [HERE / f"{name}.cpp", *(CSRC / f"cpu/{source}.cpp" for source in HARNESSES[name]), *more]
    flags = [f for f in native.CXX_FLAGS if not f.startswith("-O")]
    torch = native.Torch.find()  # for the ops in the files of the kernels, which no target calls
    library = torch.folder / "lib"
    linked = [f"-L{library}", f"-Wl,-rpath,{library}", "-ltorch_cpu", "-lc10"] if HARNESSES[name] else []
    checks = ["-g1", "-O1", f"-fsanitize={checks}", "-fno-sanitize-recover=all"]
    command = [compiler, *flags, *native.MATH_FLAGS, *torch.flags, *checks, "-I", CSRC, *sources, *linked]
    built = subprocess.run([*command, "-o", program], capture_output=True, text=True)
    return built.stderr[-2000:] if built.returncode else ""


def test_every_kernel_has_a_corpus():
    assert sorted(path.name for path in KERNELS.iterdir()) == sorted(HARNESSES)


@pytest.mark.parametrize("name", HARNESSES)
def test_kernel_corpus(name, tmp_path):
    """Inputs that reach most of a kernel's branches, and past finds, under the same sanitizers."""
    compiler = emulated_cuda.compiler()
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not here")
    failed = build(name, compiler, "address,undefined", [HERE / "replay.cpp"], tmp_path / name)
    if re.search("cannot find.*asan|asan.*No such file", failed):
        pytest.skip("the address sanitizer's library is not here")
    assert not failed, failed
    inputs = sorted((KERNELS / name).iterdir())
    ran = subprocess.run([tmp_path / name, *inputs], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == [path.name for path in inputs]


@pytest.mark.slow
@pytest.mark.parametrize("name", HARNESSES)
def test_kernel(name, seconds, tmp_path):
    """C++ that takes sizes and places from outside, under the address and undefined-behaviour sanitizers."""
    if not CLANGS:
        pytest.skip("clang++ is not here")
    failed = build(name, CLANGS[0], "fuzzer,address,undefined", [], tmp_path / name)
    if "libclang_rt.fuzzer" in failed:
        pytest.skip("libFuzzer is not here: `apt install libclang-rt-dev`")
    assert not failed, failed
    (tmp_path / "new").mkdir()
    options = [f"-max_total_time={int(seconds)}", "-max_len=512", "-timeout=200", "-print_final_stats=1"]
    fuzz([tmp_path / name, *options, "-artifact_prefix=./", "new", KERNELS / name], seconds, tmp_path)
