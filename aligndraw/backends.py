"""The backend of each op on each device, and the reason where a backend is absent.

The backends in order of preference: `cpp` for CPU tensors; `cuda`, then `triton`, for CUDA tensors; `reference`, plain
PyTorch, on every device. The reference is the specification of the others.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from aligndraw.json_files import entry, naming, read_json

BACKENDS = ("reference", "cpp", "cuda", "triton")
NAMESPACES = {"cpp": "aligndraw", "cuda": "aligndraw", "triton": "aligndraw_triton"}
_BY_DEVICE = {"cpu": ("cpp", "reference"), "cuda": ("cuda", "triton", "reference")}
_BUILT = {"cpp": bool, "cuda": bool, "cpp_reason": str, "cuda_reason": str}
_HERE = Path(__file__).parent
# The instruction sets of the kernels of C++ products, in the order of their numbers in C++; each includes the earlier.
ISAS = ("portable", "avx2", "avx512", "avx512_bf16", "amx")


def _build_record() -> dict[str, Any]:
    """Returns the record of the build; an empty one where the source tree is unbuilt, or the record is damaged."""
    path = _HERE / "_build.json"
    reason = "this source tree has not been built: run `pip install .`"
    if path.is_file():
        try:
            with naming(path, "damaged"):
                record = read_json(path)
                return {**record, **{name: entry(record, name, kind) for name, kind in _BUILT.items()}}
        except ValueError as error:
            reason = f"{error}: run `pip install .` again"
            warnings.warn(f"aligndraw may run on its reference ops: {reason}", stacklevel=2)
    return {"cpp": False, "cuda": False, "cpp_reason": reason, "cuda_reason": reason}


def _load_library() -> str:
    """Loads the compiled kernels; returns "", or the reason why they do not load."""
    found = sorted(_HERE.glob("_C*.so"))
    if not found:
        return str(BUILD["cpp_reason"])
    try:
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        first = str(error).splitlines()[0]
        reason = f"{found[0].name} does not load under torch {torch.__version__} ({first}): run `pip install .` again"
        warnings.warn(f"aligndraw runs on its reference ops: {reason}", stacklevel=2)
        return reason
    return ""


BUILD = _build_record()
_library_reason = _load_library()


def missing_reason(op: str, backend: str, device: str) -> str:
    """Why `backend` cannot run `op` ("write", "attend", ...) on a device type ("cpu", "cuda"); "" when it can."""
    if backend == "reference":
        return ""
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed: run `pip install triton`"
        if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            return "triton runs on CPU tensors only in its interpreter: set TRITON_INTERPRET=1"
    elif device != {"cpp": "cpu", "cuda": "cuda"}[backend]:
        return f"{backend} runs on {'CPU' if backend == 'cpp' else 'CUDA'} tensors only"
    elif _library_reason:
        return _library_reason
    elif backend == "cuda" and not BUILD["cuda"]:
        return str(BUILD["cuda_reason"])
    if not torch._C._dispatch_has_kernel_for_dispatch_key(
        f"{NAMESPACES[backend]}::{op}", "CUDA" if device == "cuda" else "CPU"
    ):
        return f"this build has no {backend} kernel of {op}: run `pip install .` again"
    return ""


def best_isa() -> str:
    """The last of `ISAS` that this machine has; the C++ library must have been built."""
    return ISAS[torch.ops.aligndraw.best_isa()]


def served_isa() -> str:
    """The instruction set that the C++ products take: the best one, or the one that ALIGNDRAW_ISA names.

    Raises:
        RuntimeError: ALIGNDRAW_ISA names none of this machine's.
    """
    return ISAS[torch.ops.aligndraw.isa()]


_forced: str | None = os.environ.get("ALIGNDRAW_BACKEND") or None
_choices: dict[tuple[str, str], str] = {}
_used = _forked = False  # whether an op has run on the CPU; whether a parent had run one before this process was forked


def backend_for(op: str, device: str) -> str:
    """Returns the backend of `op` on a device type: the forced one, else the first in order of preference.

    Raises RuntimeError where a backend is forced that cannot run the op, or in a forked process that asks for threads;
    the message says why and what to do.
    """
    global _used
    if torch.compiler.is_compiling():
        return _choose(op, device, _forced)  # the compiler guards on _forced
    choice = _choices.get((op, device))
    if choice is None:
        choice = _choose(op, device, _forced)
        if device != "cpu":
            _choices[op, device] = choice
        elif not _forked:
            _used, _choices[op, device] = True, choice
        else:
            check_threads()
    return choice


def check_threads() -> None:
    """Raises RuntimeError where this process would wait for ever for threads that stayed with the parent of a fork."""
    if _forked and torch.get_num_threads() > 1:
        raise RuntimeError(
            "this process was forked after its parent had computed, and would wait for the parent's threads: call "
            "torch.set_num_threads(1), or start processes by spawn"
        )


def _in_forked_child() -> None:
    """Sets one thread where the parent has computed: OpenMP's other threads exist in the parent alone."""
    global _forked
    if _used or _forked:
        _forked = True
        _choices.clear()  # from now on each call looks at the number of threads
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


def cpp_or_reference(op: str, device: str) -> str:
    """Returns the backend of an op that has only the forms "cpp" and "reference", on a device type.

    Where "cuda" or "triton" is forced it is the reference, plain PyTorch on any device.
    """
    return backend_for(op, device) if device == "cpu" and _forced in (None, "cpp") else "reference"


def _choose(op: str, device: str, forced: str | None) -> str:
    if forced is None:
        order = _BY_DEVICE.get(device, ("reference",))
        return next(b for b in order if not missing_reason(op, b, device))
    if forced not in BACKENDS:  # from the environment; use_backend checks its own
        raise RuntimeError(f"ALIGNDRAW_BACKEND must be one of {', '.join(BACKENDS)}, got {forced!r}")
    reason = missing_reason(op, forced, device)
    if reason:
        raise RuntimeError(f"{op}: backend {forced!r} was asked for and cannot run on {device}: {reason}")
    return forced


# torch.compiler.assume_constant_result does the same, but imports the compiler: most of `import aligndraw`'s time.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _force(name: str | None) -> None:
    global _forced
    if name is not None and name not in BACKENDS:
        raise ValueError(f"there is no backend {name!r}; there are {', '.join(BACKENDS)}")
    _forced = name
    _choices.clear()


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs every op inside the `with` block on one backend: "reference", "cpp", "cuda" or "triton".

    It applies to the whole process. An op that the backend cannot run raises RuntimeError when called. The environment
    variable ALIGNDRAW_BACKEND sets the backend of a whole process.
    """
    before = _forced
    _force(name)
    try:
        yield
    finally:
        _force(before)
