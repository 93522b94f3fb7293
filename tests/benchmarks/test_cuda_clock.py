"""The clock of a GPU, played by one that tells made-up times."""

import cuda_clock
import machine
import pytest
import torch


def raising(problem):
    def breaks(*arguments, **options):
        raise problem

    return breaks


@pytest.fixture
def clock(monkeypatch):
    """torch.cuda without a GPU; a call takes what `took` says."""
    took = {}
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4 * 2**20)
    monkeypatch.setattr(cuda_clock, "_launches", lambda graph, repeats: {"launches": 7})
    monkeypatch.setattr(cuda_clock, "_elapsed", lambda call, count: took[call])
    return took


def test_a_call_that_cannot_be_captured_keeps_its_other_time(clock, monkeypatch):
    def call():
        pass

    clock[call] = 2e-4
    problem = RuntimeError("operation not permitted when stream is capturing\nand so on")
    monkeypatch.setattr(cuda_clock, "_captured", raising(problem))
    found = cuda_clock.measure(call)
    assert found.pop("called") == {"median": 2e-4, "p20": 2e-4, "p80": 2e-4}
    reason = "operation not permitted when stream is capturing"
    assert found == {"peak_mib": 3.0, "launches": None, "replayed": None, "cold": None, "reason": reason}


def test_a_replayed_time_is_that_of_one_call(clock, monkeypatch):
    def call():
        pass

    class Graph:
        def replay(self):
            pass

    graph = Graph()
    replay = graph.replay
    graph.replay = replay
    clock[call], clock[replay] = 2.5e-4, 8e-4
    monkeypatch.setattr(cuda_clock, "_captured", lambda body, repeats: repeats == 4 and graph)
    found = cuda_clock._replayed(call, 0.1)
    assert found["replayed"]["median"] == pytest.approx(2e-4) and found["launches"] == 7


class Runtime:
    """CUDA's, for a graph with nodes of these kinds, whose handles are 1, 2, …"""

    def __init__(self, kinds, code=0):
        self.kinds, self.code = kinds, code

    def cudaGraphGetNodes(self, graph, nodes, count):
        assert graph.value == 77
        if nodes is None:
            count._obj.value = len(self.kinds)
        else:
            nodes[:] = range(1, len(self.kinds) + 1)
        return self.code

    def cudaGraphNodeGetType(self, node, kind):
        kind._obj.value = self.kinds[node.value - 1]
        return 0


class Graph:
    def raw_cuda_graph(self):
        return 77


@pytest.mark.parametrize(
    ("runtime", "found"),
    [
        (Runtime([0, 5, 2, 0, 5, 1]), {"launches": 2}),
        (Runtime([]), {"launches": 0}),
        (Runtime([0, 4]), {"launches": None, "uncounted": "nodes of the kinds [0, 4] stand in the graph"}),
        (Runtime([], code=1), {"launches": None, "uncounted": "cudaGraphGetNodes returned 1"}),
    ],
)
def test_launches_are_what_the_graph_of_two_calls_has(monkeypatch, runtime, found):
    monkeypatch.setattr(cuda_clock.ctypes, "CDLL", lambda name: runtime)
    assert cuda_clock._launches(Graph(), 2) == found


def test_without_a_cuda_runtime_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(cuda_clock.ctypes, "CDLL", lambda name: object())
    found = cuda_clock._launches(Graph(), 2)
    assert found["launches"] is None and "cudaGraphGetNodes" in found["uncounted"]


def test_a_gpu_is_kept_at_work_until_its_clock_has_risen(clock, monkeypatch):
    """Ten times as long as a burst was once all that went before the first time that counts."""
    spun = []

    def call():
        pass

    clock[call] = 2e-4
    elapsed = cuda_clock._elapsed
    monkeypatch.setattr(cuda_clock, "_elapsed", lambda call, count: spun.append(count * 2e-4) or elapsed(call, count))
    monkeypatch.setattr(cuda_clock, "_bursts", lambda call, seconds: {"median": sum(spun)})
    monkeypatch.setattr(cuda_clock, "_captured", raising(RuntimeError()))
    assert 0.1 <= cuda_clock.measure(call)["called"]["median"] < 0.12


def test_the_ceilings_too_are_of_a_clock_that_has_risen(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now[0])

    def call():
        calls.append(now[0])
        now[0] += 0.015 if now[0] < 0.1 else 0.01

    assert machine.median_seconds(call, "cpu") == pytest.approx(0.01)
