"""What the GPU report times, the most telling cases first."""

from __future__ import annotations

import importlib
from typing import Any

import bench_model
import cases
from cases import Case

FILES = ("read", "write", "attend", "lstm", "latent")  # the endings of bench_*.py
BATCH = 100  # the paper's
SAMPLED = (100, 1, 16)
TRAINED = ("eager", "products", "launches", "launches_tf32", "launches_bf16")
Pair = tuple[Any, Case]


def op_benchmarks() -> list[Any]:
    return [importlib.import_module(f"bench_{op}").BENCHMARK for op in FILES]


def plan(stage: str, device: str) -> list[Pair]:
    """(benchmark, case) in the order in which they are worth having.

    The loops of one launch, whose barriers can hang, come after the other forms of their batch and presets. On a CPU,
    which a dry run takes, all sizes are small.
    """
    pairs = {"ops": _ops, "model": _model, "more ops": _more_ops, "more model": _more_model, "compiled": _compiled}
    found = pairs[stage](device)
    return found if device == "cuda" else _small(found)


def _ops(device: str) -> list[Pair]:
    """Each op and its gradient at the paper's batch, in plain PyTorch, CUDA and Triton."""
    return [
        (benchmark, Case(benchmark.op, preset, BATCH, benchmark.windows[0], direction, form, device))
        for preset in cases.PRESETS
        for benchmark in op_benchmarks()
        for direction in ("forward", "backward")
        for form in ("eager", *(("cuda", "triton") if device == "cuda" else cases.built(benchmark.op, device)))
    ]


def _model(device: str) -> list[Pair]:
    """Training at the paper's batch in all forms, and sampling; then the forms that take one launch."""

    def training(*forms: str) -> list[Case]:
        return [Case("train", p, BATCH, "", "both", form, device) for p in cases.PRESETS for form in forms]

    def sampling(*forms: str) -> list[Case]:
        sizes = [(preset, batch) for preset in cases.PRESETS for batch in SAMPLED]
        return [Case("sample", p, batch, "", "forward", form, device) for p, batch in sizes for form in forms]

    launches, *at_once = bench_model.DESIGNS
    found = [*training(*TRAINED), *sampling("eager", launches), *training(*at_once), *sampling(*at_once)]
    return [(bench_model.BENCHMARK, case) for case in found]


def _more_ops(device: str) -> list[Pair]:
    """The ops at all batches, windows and forms but those of `_ops`; the compiled ones after those of their batch."""
    found = [(b, case) for b in op_benchmarks() for case in b.cases(device, full=False)]

    def rank(pair: Pair) -> int:
        benchmark, case = pair
        usual = case.batch == BATCH and case.window == benchmark.windows[0]
        if case.form == "compiled":
            return 2 if usual else 4
        return 0 if usual else 1 if case.batch == BATCH else 3

    return sorted(found, key=rank)  # stable: forms stay side by side


def _all_models(device: str) -> list[Pair]:
    found = [(bench_model.BENCHMARK, case) for case in bench_model.BENCHMARK.cases(device)]
    order = (BATCH, 1, 16, 1024)

    def rank(pair: Pair) -> tuple[int, bool, bool]:
        case = pair[1]
        return order.index(case.batch), case.preset not in cases.PRESETS, case.form.startswith(bench_model.DESIGNS[1:])

    return sorted(found, key=rank)


def _more_model(device: str) -> list[Pair]:
    done = {case for _, case in _model(device) if case.form != "eager"}
    return [(b, case) for b, case in _all_models(device) if case.form != "compiled" and case not in done]


def _compiled(device: str) -> list[Pair]:
    """Minutes each: the paper's models, beside the forms that they are compared with."""
    wanted = ("eager", "compiled", "fastest")
    found = _all_models(device)
    return [(b, c) for preset in cases.PRESETS for b, c in found if c.preset == preset and c.form in wanted]


def _small(pairs: list[Pair]) -> list[Pair]:
    """The same code at small sizes, each case once."""
    found: dict[Case, Any] = {}
    for benchmark, case in pairs:
        batch = {100: 2, 1: 1, 16: 3}.get(case.batch, 4)
        small = Case(case.op, "quick", batch, case.window, case.direction, case.form, case.device)
        found.setdefault(small, benchmark)
    return [(benchmark, case) for case, benchmark in found.items()]
