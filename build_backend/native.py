"""Compiles csrc/ into the two libraries of the package, as far as that can be done here.

`_C` holds the ops: PyTorch's stable ABI and no Python, loaded by `torch.ops.load_library`. `_host`
is an ordinary extension module without torch. The package works without either; `_build.json`,
written beside them, then says what is missing and what mends it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CSRC = Path("csrc")
OBJECTS = Path("build", "objects")  # kept between builds: what has not changed is not compiled again
CUDA_ARCHS = ("80", "90", "100", "120")
# nvcc reads a file once per virtual architecture, which takes most of its time; these have all that the kernels use.
VIRTUAL_ARCHS = ("80", "90")

CXX_FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
# g++ vectorises comparisons and divisions only when they need not set errno or trap.
MATH_FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
NVCC_FLAGS = [
    *("-std=c++20", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xptxas=-warn-spills"),
    "--threads=0",  # as many architectures of a file at a time as there are processors
]
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"  # 2.11's: runs on that and every later torch


class CannotBuild(Exception):
    """Says what is missing and the command that mends it; `log` is what a compiler printed."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


@dataclass
class Record:
    """What was built, and why the rest was not: the contents of `_build.json`."""

    torch: str | None = None
    compiler: str | None = None
    nvcc: str | None = None
    cuda_archs: Sequence[str] = ()
    cpp: bool = False
    cpp_reason: str = ""
    cuda: bool = False
    cuda_reason: str = ""
    host: bool = False
    host_reason: str = ""


def build(folder: Path) -> None:
    """Puts the libraries that can be made here, and `_build.json`, into `folder`.

    The environment decides: ALIGNDRAW_BUILD_CPP and ALIGNDRAW_BUILD_CUDA are `auto` (if possible),
    `0` (no) or `1` (or stop), ALIGNDRAW_CUDA_ARCHS lists compute capabilities ("80;90") or is `all`, and
    CXX names the C++ compiler.
    """
    cpp_required = _choice("ALIGNDRAW_BUILD_CPP") == "1"
    cuda_required = _choice("ALIGNDRAW_BUILD_CUDA") == "1"
    ops_library = folder / "_C.so"
    host_library = folder / f"_host{sysconfig.get_config_var('EXT_SUFFIX')}"
    folder.mkdir(parents=True, exist_ok=True)
    record = Record()
    with ThreadPoolExecutor(3) as parts:
        cuda = parts.submit(_compile_cuda, record)
        cpp = parts.submit(_build_ops, ops_library, cuda, record)
        host = parts.submit(_build_host, host_library)
    record.host_reason = _failure(host, cpp_required)
    record.cuda_reason = _failure(cuda, cuda_required)
    record.cpp_reason = _failure(cpp, cpp_required or cuda_required)
    if record.cpp_reason:
        record.cuda_reason = record.cpp_reason
        ops_library.unlink(missing_ok=True)  # an earlier build's
    if record.host_reason:
        host_library.unlink(missing_ok=True)
    record.cpp = not record.cpp_reason
    record.cuda = not record.cuda_reason
    record.host = not record.host_reason
    _write(folder / "_build.json", json.dumps(asdict(record), indent=2) + "\n")
    missing = {
        record.host_reason: "_host",
        record.cuda_reason: "CUDA ops",
        record.cpp_reason: "compiled ops",
    }
    for reason, part in missing.items():
        if reason:
            print(f"aligndraw: installing without {part}: {reason}", file=sys.stderr)


def _choice(variable: str) -> str:
    value = os.environ.get(variable, "auto")
    if value not in ("auto", "0", "1"):
        sys.exit(f"{variable} must be auto, 0 or 1, got {value!r}")
    return value


def _failure(part: Future[Any], required: bool) -> str:
    """Why the part could not be built, or ""; stops the build if it was required."""
    try:
        part.result()
    except CannotBuild as problem:
        print(problem.log, end="", file=sys.stderr)
        if required:
            sys.exit(f"aligndraw: {problem}")
        return str(problem)
    return ""


# ---- the parts ----


def _build_ops(target: Path, cuda: Future[list[Path]], record: Record) -> None:
    """_C from csrc/*.cpp and csrc/cpu, with the CUDA objects where there are any."""
    torch = Torch.find()
    record.torch = torch.version
    compiler = _compiler()
    record.compiler = _run([*compiler, "--version"], "its version").splitlines()[0]
    command = [*compiler, *CXX_FLAGS, *MATH_FLAGS, *torch.flags]
    objects = _compile(sorted(CSRC.glob("cpu/*.cpp")), command, torch.version)
    with_cuda = not cuda.exception()
    if with_cuda:
        objects += cuda.result()
        command.append("-DALIGNDRAW_CUDA")
    objects += _compile([CSRC / "register.cpp"], command, torch.version)
    # nvcc adds its static runtime, whose symbols stay inside.
    nvcc = [_nvcc(), "-ccbin", compiler[0], "-Xlinker", "--exclude-libs=ALL"] if with_cuda else None
    _link(target, [*(nvcc or compiler), *map(str, objects), *link_flags(sys.platform, torch.folder)])


def _compile_cuda(record: Record) -> list[Path]:
    """The objects of csrc/cuda: .cu files by nvcc, .cpp files by the C++ compiler."""
    again = "and run `ALIGNDRAW_BUILD_CUDA=1 pip install .`"
    compiler, torch, choice = _compiler(), Torch.find(), _choice("ALIGNDRAW_BUILD_CUDA")
    if choice == "0":
        raise CannotBuild(f"switched off by ALIGNDRAW_BUILD_CUDA=0: {again[4:]}")
    if choice == "auto" and torch.cuda is None:
        raise CannotBuild(f"torch {torch.version} has no CUDA: install a CUDA build of torch {again}")
    nvcc = _nvcc()
    release = re.findall(r"release (\d+\.\d+)", _run([nvcc, "--version"], "its version"))[0]
    if choice == "auto" and torch.cuda and release.split(".")[0] != torch.cuda.split(".")[0]:
        raise CannotBuild(
            f"nvcc is of CUDA {release} and torch of CUDA {torch.cuda}: install the CUDA toolkit {torch.cuda} {again}"
        )
    record.nvcc, record.cuda_archs = release, _archs(nvcc)
    for_cu = [nvcc, "-ccbin", compiler[0], *NVCC_FLAGS, *_gencode(record.cuda_archs)]
    for_cpp = [*compiler, *CXX_FLAGS, *torch.flags]
    return [
        *_compile(sorted(CSRC.glob("cuda/*.cu")), for_cu, release),
        *_compile(sorted(CSRC.glob("cuda/*.cpp")), for_cpp, torch.version),
    ]


def _build_host(target: Path) -> None:
    """_host from csrc/host, for the Python that runs this."""
    compiler = _compiler()
    python = Path(sysconfig.get_path("include"))
    if not (python / "Python.h").is_file():
        raise CannotBuild(
            "the headers of Python are missing: install them (`apt install python3-dev`) and run `pip install .` again"
        )
    command = [*compiler, *CXX_FLAGS, "-isystem", str(python), "-isystem", str(_pybind11())]
    objects = _compile(sorted(CSRC.glob("host/*.cpp")), command, sys.version)
    _link(target, [*compiler, *map(str, objects), *link_flags(sys.platform)])


# ---- what is there to build with ----


@dataclass
class Torch:
    """The PyTorch that is built against; it is not imported."""

    folder: Path
    version: str
    cuda: str | None

    @staticmethod
    def find() -> Torch:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            raise CannotBuild(
                "torch was not there to build against: run `pip install torch`, then `pip install .` again"
            )
        folder = Path(spec.origin).parent
        text = (folder / "version.py").read_text()
        version = re.findall(r"__version__ = '(.+)'", text)[0]
        cuda = re.findall(r"^cuda\b.*= '(.+)'", text, re.MULTILINE)
        return Torch(folder, version, cuda[0] if cuda else None)

    @property
    def flags(self) -> list[str]:
        return [STABLE_ABI, "-isystem", str(self.folder / "include")]


def _compiler() -> list[str]:
    if _choice("ALIGNDRAW_BUILD_CPP") == "0":
        raise CannotBuild("switched off by ALIGNDRAW_BUILD_CPP=0: unset it and run `pip install .` again")
    if sys.platform not in ("linux", "darwin"):
        raise CannotBuild(f"the compiled code is for Linux and macOS, and this is {sys.platform}: use it there")
    if sys.platform == "darwin" and _choice("ALIGNDRAW_BUILD_CPP") != "1":
        raise CannotBuild(
            "nobody has run the compiled code on macOS yet: `ALIGNDRAW_BUILD_CPP=1 pip install .` tries it"
        )
    command = shlex.split(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
    if shutil.which(command[0]) is None:
        install = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
        raise CannotBuild(
            f"no C++ compiler ({command[0]}) was found: install one (`{install}`), "
            "or name yours in CXX, and run `pip install .` again"
        )
    return command


def _nvcc() -> str:
    places = [f"{os.environ[v]}/bin" for v in ("CUDA_HOME", "CUDA_PATH") if v in os.environ]
    for place in [*places, None, "/usr/local/cuda/bin"]:  # None is PATH
        found = shutil.which("nvcc", path=place)
        if found:
            return found
    raise CannotBuild(
        "nvcc was not found: install the CUDA toolkit, or set CUDA_HOME to where it is, "
        "and run `ALIGNDRAW_BUILD_CUDA=1 pip install .`"
    )


def _archs(nvcc: str) -> list[str]:
    """The compute capabilities to compile for, oldest first: those of the GPUs here, where nvcc knows them all."""
    known = re.findall(r"compute_(\d+)", _run([nvcc, "--list-gpu-arch"], "its list"))
    every = [arch for arch in CUDA_ARCHS if arch in known]
    asked = re.findall(r"\w+", os.environ.get("ALIGNDRAW_CUDA_ARCHS", ""))
    if asked == ["all"]:
        return every
    for arch in asked:
        if arch.rstrip("af") not in known:
            sys.exit(f"ALIGNDRAW_CUDA_ARCHS must be all or name some of {';'.join(known)}, got {arch!r}")
    here = _gpus()
    return asked or (sorted(here, key=int) if here and here <= set(known) else every)


def _gencode(archs: Sequence[str]) -> list[str]:
    """nvcc's options: machine code for each architecture, and PTX for GPUs newer than all of them."""

    def virtual(arch: str) -> str:
        if not arch.isdigit():  # "90a" has what no other architecture has
            return arch
        return max((v for v in VIRTUAL_ARCHS if int(v) <= int(arch)), key=int, default=arch)

    codes: dict[str, list[str]] = {}
    for arch in archs:
        codes.setdefault(virtual(arch), []).append(f"sm_{arch}")
    newest = virtual(max((arch.rstrip("af") for arch in archs), key=int))
    codes.setdefault(newest, []).append(f"compute_{newest}")
    return [f"-gencode=arch=compute_{arch},code=[{','.join(code)}]" for arch, code in codes.items()]


def _gpus() -> set[str]:
    """The compute capabilities of the GPUs that nvidia-smi shows."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    lines = done.stdout.split("\n") if done.returncode == 0 else []
    return {line.strip().replace(".", "") for line in lines if line.strip()}


def _pybind11() -> Path:
    """pybind11's headers: the package's, else those that torch carries."""
    for package in ("pybind11", "torch"):
        spec = importlib.util.find_spec(package)
        if spec and spec.origin and (Path(spec.origin).parent / "include/pybind11").is_dir():
            return Path(spec.origin).parent / "include"
    raise CannotBuild("pybind11 was not found: run `pip install pybind11`, then `pip install .` again")


# ---- compiling ----


def _compile(sources: list[Path], command: list[str], versions: str) -> list[Path]:
    """The objects of the sources; `versions` are those of the headers outside this project."""

    def compile_one(source: Path) -> Path:
        target = OBJECTS / (str(source.relative_to(CSRC)).replace(os.sep, "-") + ".o")
        headers, recipe = target.with_suffix(".d"), target.with_suffix(".recipe")
        full = [*command, "-MMD", "-MF", str(headers), "-c", str(source), "-o", str(target)]
        wanted = f"{versions}\n{shlex.join(full)}\n"
        if not _is_fresh(target, headers, recipe, wanted):
            recipe.unlink(missing_ok=True)
            sys.stderr.write(_run(full, str(source)))
            _write(recipe, wanted)
        return target

    OBJECTS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def _is_fresh(target: Path, headers: Path, recipe: Path, wanted: str) -> bool:
    if not (target.is_file() and recipe.is_file() and recipe.read_text() == wanted):
        return False
    names = headers.read_text().replace("\\\n", " ").split(": ", 1)[1].split()
    return all(os.path.isfile(n) and os.path.getmtime(n) <= target.stat().st_mtime for n in names)


def link_flags(platform: str, torch: Path | None = None) -> list[str]:
    """Returns the linker's options for a library that a process loads while it runs.

    Args:
        platform: as in sys.platform.
        torch: PyTorch's folder, for a library with ops.
    """
    if platform == "darwin":
        # Torch is there before the library is: its symbols and Python's are found in the process. So no library is
        # named, and none has to be found by an rpath.
        return ["-bundle", "-undefined", "dynamic_lookup", "-Xlinker", "-x"]
    flags = ["-shared", "-Xlinker", "-s"]
    # libtorch stays among the needed libraries though nothing refers to it: it brings in libtorch_cuda where there is
    # one, for the weak symbol in csrc/cuda/glue.h.
    return [*flags, f"-L{torch / 'lib'}", "-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu"] if torch else flags


def _link(target: Path, command: list[str]) -> None:
    new = target.with_name(target.name + ".new")
    _run([*command, "-o", str(new)], target.name)
    os.replace(new, target)


def _run(command: list[str], what: str) -> str:
    """What the command prints; `what` it works on is named if it fails."""
    sys.stderr.write(shlex.join(command) + "\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        errors = [line.strip() for line in done.stdout.splitlines() if "error" in line]
        said = errors[0] if errors else f"exit status {done.returncode}"
        failure = f"{Path(command[0]).name} failed on {what} ({said})"
        raise CannotBuild(f"{failure}: run `pip install -v .` to see it all", log=done.stdout)
    return done.stdout


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)
