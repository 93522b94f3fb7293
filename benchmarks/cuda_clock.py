"""Times of a call on a GPU, by its own clock.

The call runs on the current stream, and must be made there from the start: see `cases.stream`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from machine import RISE, spread

Call = Callable[[], object]
DEVICE = "cuda"
SECONDS, ROUNDS = 0.1, 5  # of each measurement at least
KERNEL, COPY, FILL, EMPTY = 0, 1, 2, 5  # of cudaGraphNodeType; an empty node joins others


def measure(call: Call, cold: bool = True) -> dict[str, Any]:
    """The times of one call, each {"median", "p20", "p80"} in seconds, after RISE seconds of calls to warm up.

    called: as Python calls it, in bursts, launches included.
    replayed: from a CUDA graph, so without launches, and with what the call before left in the L2 cache.
    cold: from a CUDA graph that first reads twice the L2 cache's size of other memory; if asked for.
    peak_mib: memory that the call allocates at most.
    launches: kernels, copies and fills of one call, as its CUDA graph has them; None, with `uncounted` saying why,
        where the nodes of a graph cannot be read.

    `replayed`, `cold` and `launches` are None, with a `reason`, for a call that cannot be captured. PyTorch's allocator
    and its generator on the GPU are then as in a capture until the process ends.
    """
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    times: dict[str, Any] = {"peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
    _warm_up(call)
    times |= {"called": _bursts(call, SECONDS), "replayed": None, "cold": None, "launches": None}
    try:
        times |= _replayed(call, SECONDS)
        if cold:
            times["cold"] = _cold(call, SECONDS)
    except Exception as problem:  # it waits for the GPU, say
        times["reason"] = first_line(problem)
    return times


def first_line(problem: Exception) -> str:
    """What went wrong, in one line that is never empty."""
    return next((line for line in str(problem).splitlines() if line.strip()), repr(problem))


def _elapsed(call: Call, count: int) -> float:
    """Seconds a call, over `count` calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return 1e-3 * start.elapsed_time(end) / count


def _warm_up(call: Call) -> None:
    """Keeps the GPU at work until its clock has risen: it falls while a result is checked on the CPU."""
    spun = 0.0
    while spun < RISE:
        count = max(1, round(1e-2 / max(_elapsed(call, 1), 1e-6)))
        spun += count * _elapsed(call, count)


def _bursts(call: Call, seconds: float) -> dict[str, float]:
    """Bursts of a millisecond at least, after as many calls to warm up."""
    once = _elapsed(call, 3)
    count = max(1, round(1e-3 / once))
    _elapsed(call, count)
    rounds = max(ROUNDS, min(100, round(seconds / (count * once))))
    return spread([_elapsed(call, count) for _ in range(rounds)])


def _replayed(call: Call, seconds: float) -> dict[str, Any]:
    """Calls one after another in a graph that takes about a millisecond; and what they launch."""
    repeats = max(1, min(20, round(1e-3 / _elapsed(call, 3))))
    graph = _captured(call, repeats)
    return {"replayed": _graph_times(graph, repeats, seconds), **_launches(graph, repeats)}


def _launches(graph: torch.cuda.CUDAGraph, repeats: int) -> dict[str, Any]:
    """From the graph, not from a profiler: that slows what is timed after it, and may lose kernels."""
    try:
        kinds = _node_kinds(graph.raw_cuda_graph())
        if not set(kinds) <= {KERNEL, COPY, FILL, EMPTY}:
            raise RuntimeError(f"nodes of the kinds {sorted(set(kinds))} stand in the graph")
    except (AttributeError, RuntimeError) as problem:  # a PyTorch that hides its CUDA runtime, say
        return {"launches": None, "uncounted": first_line(problem)}
    return {"launches": sum(kind != EMPTY for kind in kinds) // repeats}


def _node_kinds(graph: int) -> list[int]:
    runtime = ctypes.CDLL(None)  # PyTorch loads the CUDA runtime for all of the process to see
    count, kind = ctypes.c_size_t(), ctypes.c_int()

    def ask(function: str, *arguments: object) -> None:
        code = getattr(runtime, function)(*arguments)
        if code:
            raise RuntimeError(f"{function} returned {code}")

    ask("cudaGraphGetNodes", ctypes.c_void_p(graph), None, ctypes.byref(count))
    nodes = (ctypes.c_void_p * count.value)()
    ask("cudaGraphGetNodes", ctypes.c_void_p(graph), nodes, ctypes.byref(count))
    kinds = []
    for node in nodes:
        ask("cudaGraphNodeGetType", ctypes.c_void_p(node), ctypes.byref(kind))
        kinds.append(kind.value)
    return kinds


def _cold(call: Call, seconds: float) -> dict[str, float]:
    """With the time of the reading that empties the cache, measured alone, taken off."""
    other = torch.ones(2 * torch.cuda.get_device_properties(0).L2_cache_size // 4, device=DEVICE)
    repeats = 10

    def flush_and_call() -> None:
        other.sum()
        call()

    flush = _graph_times(_captured(other.sum, repeats), repeats, seconds)["median"]
    both = _graph_times(_captured(flush_and_call, repeats), repeats, seconds)
    return {key: value - flush for key, value in both.items()}


def _captured(body: Call, repeats: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph(keep_graph=True)  # its nodes can then be read
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(repeats):
            body()
    graph.instantiate()
    return graph


def _graph_times(graph: torch.cuda.CUDAGraph, repeats: int, seconds: float) -> dict[str, float]:
    return {k: v / repeats for k, v in _bursts(graph.replay, seconds).items()}
