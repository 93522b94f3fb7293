"""A CUDA that the CPU plays, for a dry run of the GPU report: every line runs, and no figure means anything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cuda_clock
import machine
import torch


class Event:
    def __init__(self, enable_timing: bool) -> None:
        self.time = 0.0

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds, a microsecond at least: a replay on the CPU does nothing."""
        return 1e3 * max(end.time - self.time, 1e-6)


class Graph:
    def __init__(self, keep_graph: bool = False) -> None:
        pass

    def instantiate(self) -> None:
        pass

    def replay(self) -> None:
        pass

    def raw_cuda_graph(self) -> int:
        return 0


@contextlib.contextmanager
def capture(graph: Graph, stream: Any = None) -> Iterator[None]:
    yield


@contextlib.contextmanager
def played() -> Iterator[None]:
    """`torch.cuda` as far as the report uses it, on the CPU; short measurements on small ceilings."""
    cuda: dict[str, Any] = {
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": capture,
        "synchronize": lambda *_: None,
        "current_stream": lambda *_: None,
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "get_device_properties": lambda *_: SimpleNamespace(multi_processor_count=2, L2_cache_size=2**16),
    }
    small = {"copy_gb_s": 1.0, "product_gflop_s": 1.0}
    with (
        mock.patch.multiple(torch.cuda, **cuda),
        mock.patch.multiple(cuda_clock, DEVICE="cpu", RISE=1e-3, SECONDS=1e-3, ROUNDS=1),
        mock.patch.object(machine, "ceilings", lambda device: small),
    ):
        yield
