"""Times of a call on a GPU, by its own clock.

The call runs on the current stream, and must be made there from the start: see `cases.stream`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from machine import spread

Call = Callable[[], object]


def measure(call: Call, seconds: float = 0.1, cold: bool = True) -> dict[str, Any]:
    """The times of one call, each {"median", "p20", "p80"} in seconds.

    called: as Python calls it, in bursts, launches included.
    replayed: from a CUDA graph, so without launches, and with what the call before left in the L2 cache.
    cold: from a CUDA graph that first reads twice the L2 cache's size of other memory; if asked for.
    peak_mib: memory that the call allocates at most.
    launches: kernels, copies and fills of one call, by PyTorch's profiler; None where it cannot see them.

    `replayed` and `cold` are None, with a `reason`, for a call that cannot be captured.
    """
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    times: dict[str, Any] = {"peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
    times["launches"] = _launches(call)
    times |= {"called": _bursts(call, seconds), "replayed": None, "cold": None}
    try:
        times["replayed"] = _replayed(call, seconds)
        if cold:
            times["cold"] = _cold(call, seconds)
    except RuntimeError as problem:  # it waits for the GPU, say
        times["reason"] = str(problem).splitlines()[0]
    return times


def _launches(call: Call) -> int | None:
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize()
    except RuntimeError:
        return None
    on_gpu = [e for e in profile.events() or [] if e.device_type == torch.autograd.DeviceType.CUDA]
    return len(on_gpu) or None


def _elapsed(call: Call, count: int) -> float:
    """Seconds a call, over `count` calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return 1e-3 * start.elapsed_time(end) / count


def _bursts(call: Call, seconds: float) -> dict[str, float]:
    """Bursts of a millisecond at least, after as many calls to warm up."""
    once = _elapsed(call, 3)
    count = max(1, round(1e-3 / once))
    _elapsed(call, count)
    rounds = max(5, min(100, round(seconds / (count * once))))
    return spread([_elapsed(call, count) for _ in range(rounds)])


def _replayed(call: Call, seconds: float) -> dict[str, float]:
    """Calls one after another in a graph that takes about a millisecond."""
    repeats = max(1, min(20, round(1e-3 / _elapsed(call, 3))))
    return _graph_times(_captured(call, repeats), repeats, seconds)


def _cold(call: Call, seconds: float) -> dict[str, float]:
    """With the time of the reading that empties the cache, measured alone, taken off."""
    other = torch.ones(2 * torch.cuda.get_device_properties(0).L2_cache_size // 4, device="cuda")
    repeats = 10

    def flush_and_call() -> None:
        other.sum()
        call()

    flush = _graph_times(_captured(other.sum, repeats), repeats, seconds)["median"]
    both = _graph_times(_captured(flush_and_call, repeats), repeats, seconds)
    return {key: value - flush for key, value in both.items()}


def _captured(body: Call, repeats: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(repeats):
            body()
    return graph


def _graph_times(graph: torch.cuda.CUDAGraph, repeats: int, seconds: float) -> dict[str, float]:
    return {k: v / repeats for k, v in _bursts(graph.replay, seconds).items()}
