"""What every CUDA kernel of the installed library asks of a GPU, by architecture.

python tests/csrc/cuda_resources.py    writes tests/data/cuda_resources.json and the table of its page in docs/
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from aligndraw import backends

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests/data/cuda_resources.json"
PAGE = ROOT / "docs/measurements/cuda-kernels.md"
PAGE_ARCH = "sm_90"
PAGE_HEAD = "| kernel | registers | spilled | code |\n|---|---|---|---|\n"
LINE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
SECTION = re.compile(r"\] \.text\.(\S+)\s+PROGBITS\s+\S+ \S+ ([0-9a-f]+)")


class Kernel(NamedTuple):
    registers: int  # of a thread
    spilled: int  # bytes of a thread's stack and local memory: registers that do not fit
    code: int  # bytes


def tool(name: str) -> str | None:
    """A reader of compiled kernels: the toolkit's, else the one inside the triton package."""
    places = [os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin"]
    triton = importlib.util.find_spec("triton")
    if triton and triton.origin:
        places.append(str(Path(triton.origin).parent / "backends/nvidia/bin"))
    return shutil.which(name) or next(filter(None, (shutil.which(name, path=p) for p in places)), None)


def missing() -> str:
    """Why the installed library's kernels cannot be read; "" when they can."""
    if not backends.BUILD["cuda"]:
        return f"the installed library has no CUDA kernels: {backends.BUILD['cuda_reason']}"
    if tool("cuobjdump") is None:
        return "cuobjdump was found neither in a CUDA toolkit nor in triton: `pip install triton`"
    absent = [name for name in ("c++filt", "readelf") if shutil.which(name) is None]
    return f"{absent[0]} was not found: `apt install binutils`" if absent else ""


def library() -> Path:
    return Path(backends.__file__).parent / "_C.so"


def measure() -> dict[str, dict[str, Kernel]]:
    """{"attend: forward<Exact<float>>": {"sm_90": Kernel(registers=64, spilled=0, code=9216), ...}, ...}"""
    found: dict[str, dict[str, Kernel]] = {}
    with tempfile.TemporaryDirectory() as folder:
        _run("cuobjdump", "-xelf", "all", library(), cwd=folder)
        for part in sorted(Path(folder).glob("*.cubin")):
            arch = re.findall(r"sm_\w+?(?=\.)", part.name)[-1]
            sizes = {name: int(size, 16) for name, size in SECTION.findall(_run("readelf", "-SW", part))}
            usage = re.sub(r":\n\s+REG", ": REG", _run("cuobjdump", "--dump-resource-usage", part))
            for name, registers, stack, local in LINE.findall(usage):
                kernel = Kernel(int(registers), int(stack) + int(local), sizes[name])
                found.setdefault(name, {})[arch] = kernel
    names = _run("c++filt", *found).splitlines()
    return {_short(mangled, name): by_arch for (mangled, by_arch), name in zip(found.items(), names, strict=True)}


def instructions(arch: str) -> dict[str, list[str]]:
    """The instructions of each kernel: {"attend: forward<Exact<float>>": ["S2R", "LDG.E.CONSTANT", ...], ...}"""
    listing = _run("cuobjdump", "-sass", "-arch", arch, library())
    found = {}
    for name, body in re.findall(r"Function : (\S+)\n(.*?)(?=\n\t\t\.{5}|\Z)", listing, re.DOTALL):
        found[name] = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", body)
    names = _run("c++filt", *found).splitlines()
    return {_short(mangled, name): body for (mangled, body), name in zip(found.items(), names, strict=True)}


def _run(name: str, *arguments: str | Path, cwd: str | None = None) -> str:
    program = tool(name)
    assert program is not None
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True, cwd=cwd).stdout


def _short(mangled: str, name: str) -> str:
    """ "attend: forward<Exact<float>>": the file is in the mangled name of an anonymous namespace."""
    source = re.findall(r"_\d+_([a-z_]+)_cu_", mangled)
    name = re.sub(r"^void |aligndraw::cuda::|\(anonymous namespace\)::", "", name.rsplit(">(", 1)[0] + ">")
    return f"{source[0] if source else '?'}: {name}"


def page_rows(kernels: dict[str, dict[str, Kernel]]) -> list[str]:
    """The rows of the page's table."""
    rows = []
    for name, by_arch in sorted(kernels.items()):
        kernel = Kernel(*by_arch[PAGE_ARCH])
        rows.append(f"| `{name}` | {kernel.registers} | {kernel.spilled} | {kernel.code / 1024:.1f} |")
    return rows


def main() -> None:
    if reason := missing():
        raise SystemExit(reason)
    kernels = dict(sorted(measure().items()))
    text = json.dumps({"nvcc": backends.BUILD["nvcc"], "kernels": kernels}, indent=1)
    _write(TABLE, re.sub(r"\[\s+(\d+),\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2, \3]", text) + "\n")
    before, head, _ = PAGE.read_text().partition(PAGE_HEAD)
    _write(PAGE, before + head + "\n".join(page_rows(kernels)) + "\n")


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


if __name__ == "__main__":
    main()
