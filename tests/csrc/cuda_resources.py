"""Registers, stack and static shared memory of every CUDA kernel of the installed library, by architecture.

python tests/csrc/cuda_resources.py    writes tests/data/cuda_resources.json
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from aligndraw import backends

TABLE = Path(__file__).parents[1] / "data" / "cuda_resources.json"
LINE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def cuobjdump() -> str | None:
    """CUDA's reader of compiled kernels: the toolkit's, else the one inside the triton package."""
    places = [os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin"]
    triton = importlib.util.find_spec("triton")
    if triton and triton.origin:
        places.append(str(Path(triton.origin).parent / "backends/nvidia/bin"))
    return shutil.which("cuobjdump") or next(filter(None, (shutil.which("cuobjdump", path=p) for p in places)), None)


def missing() -> str:
    """Why the installed library's kernels cannot be read; "" when they can."""
    if not backends.BUILD["cuda"]:
        return f"the installed library has no CUDA kernels: {backends.BUILD['cuda_reason']}"
    if cuobjdump() is None:
        return "cuobjdump was found neither in a CUDA toolkit nor in triton: `pip install triton`"
    return "" if shutil.which("c++filt") else "c++filt was not found: `apt install binutils`"


def measure() -> dict[str, dict[str, list[int]]]:
    """{"attend: forward<Exact<float>>": {"sm_90": [registers, stack, shared, local], ...}, ...}"""
    library = Path(backends.__file__).parent / "_C.so"
    tool = cuobjdump()
    assert tool is not None
    listing = subprocess.run(
        [tool, "--dump-resource-usage", library], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, dict[str, list[int]]] = {}
    arch = ""
    for line in re.sub(r":\n\s+REG", ": REG", listing).splitlines():
        arch = "".join(re.findall(r"arch = (sm_\w+)", line)) or arch
        if match := LINE.search(line):
            found.setdefault(match[1], {})[arch] = [int(n) for n in match.groups()[1:]]
    names = subprocess.run(["c++filt", *found], capture_output=True, text=True, check=True).stdout.splitlines()
    return {_short(mangled, name): by_arch for (mangled, by_arch), name in zip(found.items(), names, strict=True)}


def _short(mangled: str, name: str) -> str:
    """ "attend: forward<Exact<float>>": the file is in the mangled name of an anonymous namespace."""
    source = re.findall(r"_\d+_([a-z_]+)_cu_", mangled)
    name = re.sub(r"^void |aligndraw::cuda::|\(anonymous namespace\)::", "", name.rsplit(">(", 1)[0] + ">")
    return f"{source[0] if source else '?'}: {name}"


def main() -> None:
    if reason := missing():
        raise SystemExit(reason)
    table = {"nvcc": backends.BUILD["nvcc"], "kernels": dict(sorted(measure().items()))}
    text = json.dumps(table, indent=1)
    text = re.sub(r"\[\s+(\d+),\s+(\d+),\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2, \3, \4]", text)
    new = TABLE.with_name(TABLE.name + ".new")
    new.write_text(text + "\n")
    os.replace(new, TABLE)


if __name__ == "__main__":
    main()
