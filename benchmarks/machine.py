"""What the figures were measured on, and how fast that machine copies memory and multiplies matrices."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
RISE = 0.1  # seconds of work in which an idle GPU reaches its clock
# As Linux spells them.
VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "asimdhp", "bf16", "sve", "sve2")


def describe(device: str) -> dict[str, Any]:
    """Hardware and versions; what is not there is None."""
    facts: dict[str, Any] = {
        "device": device,
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "isa": isa(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "aligndraw": _version("aligndraw"),
        "commit": commit(),
        "gpu": None,
    }
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        facts |= {
            "gpu": gpu.name,
            "compute_capability": f"{gpu.major}.{gpu.minor}",
            "multiprocessors": gpu.multi_processor_count,
            "memory_gib": round(gpu.total_memory / 2**30, 1),
            "l2_mib": round(gpu.L2_cache_size / 2**20, 1),
            "cuda": torch.version.cuda,
            **gpu_state(),
        }
    return facts


def gpu_state() -> dict[str, str]:
    """Driver and clocks as nvidia-smi reads them; nothing where it cannot be asked."""
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
    answer = _output(["nvidia-smi", "--id=0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
    values = [value.strip() for value in answer.split(",")]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def isa() -> str:
    """The processor's vector instructions that a kernel may be made for, narrowest first."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return " ".join(name for name in VECTORS if name in flags) or platform.machine()


def commit(checkout: Path = ROOT) -> str:
    """The commit of a checkout, "+changes" where files differ from it."""
    name = _output(["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"])
    if not name:
        return "unknown"
    return name + ("+changes" if _output(["git", "-C", str(checkout), "status", "--porcelain"]) else "")


def ceilings(device: str) -> dict[str, float]:
    """The rates that no op can pass for long, medians, measured now.

    copy: GB/s of a copy of 256 MiB (1 GiB on a GPU), bytes read and bytes written.
    product: GFLOP/s of a float32 matrix product of side 2048 (8192 on a GPU), 2 operations a multiplication.
    bf16_product, tf32_product: the same of bfloat16, and of float32 rounded to TF32, on a GPU.
    """
    numbers, side = (2**28, 8192) if device == "cuda" else (2**26, 2048)
    source = torch.rand(numbers, device=device)
    target = torch.empty_like(source)
    copying = median_seconds(lambda: target.copy_(source), device)
    factors = torch.randn(2, side, side, device=device)

    def product(left: torch.Tensor, right: torch.Tensor) -> float:
        return 2e-9 * side**3 / median_seconds(lambda: left @ right, device)

    found = {"copy_gb_s": 8e-9 * numbers / copying, "product_gflop_s": product(*factors)}
    if device == "cuda":
        from aligndraw.training.precision import float32_products  # the rest serves a machine without the package

        found["bf16_product_gflop_s"] = product(*factors.bfloat16())
        with float32_products(tf32=True):
            found["tf32_product_gflop_s"] = product(*factors)
    return found


def median_seconds(call: Callable[[], object], device: str, rounds: int = 7) -> float:
    """By the host's clock, the device waited for. The rounds of the first RISE seconds, two at least, do not count."""
    samples: list[float] = []
    warmed, start = 0, time.perf_counter()
    while warmed < 2 or time.perf_counter() - start < RISE:
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        warmed += 1
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median, 20th and 80th percentile."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "median": statistics.median(ordered),
        "p20": ordered[round(0.2 * last)],
        "p80": ordered[round(0.8 * last)],
    }


def _cpuinfo(key: str) -> str:
    """A field of the first processor in Linux's list, or ""."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
