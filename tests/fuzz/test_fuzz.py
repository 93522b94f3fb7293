"""Fuzzing: past finds and the corpus in the default run; with `-m slow`, new inputs guided by coverage.

    pip install "aligndraw[fuzz]"                     # atheris, for the readers
    apt install clang libclang-rt-dev                 # libFuzzer, for the C++
    pytest tests/fuzz -m slow --seconds 600 -rA

A find is left in the test's folder, which the message names. Mend the reader, and add the bytes to `corpus/`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import native  # of build_backend: the library's own compiler flags
import pytest

HERE = Path(__file__).parent
CORPUS, CSRC = HERE / "corpus", HERE.parents[1] / "csrc"
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


@pytest.mark.slow
@pytest.mark.parametrize("name", HARNESSES)
def test_kernel(name, seconds, tmp_path):
    """C++ that takes sizes and places from outside, under the address and undefined-behaviour sanitizers."""
    if not CLANGS:
        pytest.skip("clang++ is not here")
    program = tmp_path / name
    sources = [HERE / f"{name}.cpp", *(CSRC / f"cpu/{source}.cpp" for source in HARNESSES[name])]
    checks = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    flags = [f for f in native.CXX_FLAGS if not f.startswith("-O")]
    torch = native.Torch.find()  # for the ops in the files of the kernels, which no target calls
    library = torch.folder / "lib"
    linked = [f"-L{library}", f"-Wl,-rpath,{library}", "-ltorch_cpu", "-lc10"] if HARNESSES[name] else []
    built = subprocess.run(
        [CLANGS[0], *flags, *native.MATH_FLAGS, *torch.flags, *checks, "-I", CSRC, *sources, *linked, "-o", program],
        capture_output=True,
        text=True,
    )
    if "libclang_rt.fuzzer" in built.stderr:
        pytest.skip("libFuzzer is not here: `apt install libclang-rt-dev`")
    assert built.returncode == 0, built.stderr[-2000:]
    (tmp_path / "corpus").mkdir()
    options = [f"-max_total_time={int(seconds)}", "-max_len=512", "-timeout=200", "-print_final_stats=1"]
    fuzz([program, *options, "-artifact_prefix=./", "corpus"], seconds, tmp_path)
