"""What `gpu_report.py` runs in processes of their own: a crash, a hang or a time limit then ends one stage alone.

Results go to a file, a line of JSON each, as they come: {"machine": …}, {"plan": [case, …]}, then one for each case.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILES = ("read", "write", "attend", "lstm", "latent")  # the endings of bench_*.py
ODD = (2, 7, 11, 4, 5, 6, 3, 5, 5)  # C, H, W, p, N, l, d, n, z


def probe() -> dict[str, Any]:
    """What the machine is, without the package; {"reason": …} where torch has no CUDA device."""
    try:
        import torch
    except ImportError:
        return {"reason": "torch is not installed"}
    if not torch.cuda.is_available():
        return {"reason": f"torch {torch.__version__} sees no CUDA device"}
    import machine

    return machine.describe("cuda")


def touch() -> list[str]:
    """Runs every op and gradient once on every GPU backend, in small odd shapes, for compute-sanitizer."""
    import cases
    import torch

    from aligndraw import ops

    done = []
    for benchmark in _op_benchmarks():
        for backend in cases.built(benchmark.op, "cuda"):
            arguments = benchmark.arguments(cases.Sizes(*ODD), 3, benchmark.windows[0])
            moved = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
            leaves = [moved[name].requires_grad_() for name in benchmark.inputs]
            with cases.forced(backend):
                outputs = cases.as_tuple(getattr(ops, benchmark.op)(*moved.values()))
                torch.autograd.grad(outputs, leaves, [torch.ones(o.shape).cuda() for o in outputs])
            torch.cuda.synchronize()
            done.append(f"{benchmark.op} {backend}")
    return done


def measure(stage: str, out: Path, seconds: float) -> None:
    """Times the cases of a stage, the most telling first, until none is left or the time is up."""
    import cases
    import cuda_clock
    import machine

    from aligndraw.ops import OPS

    end = time.monotonic() + seconds
    planned = plan(stage)
    with out.open("a") as file:

        def say(**line: Any) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        say(plan=[case.to_dict() for _, case in planned])
        say(machine=machine.describe("cuda"), ceilings=machine.ceilings("cuda"))
        for benchmark, case in planned:
            if time.monotonic() > end:
                break
            try:
                with benchmark.prepared(case) as ready:
                    facts = {"error": ready.error, "compile_seconds": ready.compile_seconds, "backends": ready.backends}
                    times = cuda_clock.measure(ready.call, cold=case.op in OPS)
                    say(**case.to_dict(), **ready.work, **facts, **times)
            except cases.WrongResult as problem:
                say(**case.to_dict(), wrong=str(problem))
            except RuntimeError as problem:
                say(**case.to_dict(), failed=str(problem).splitlines()[0])
        say(after=machine.gpu_state())


def plan(stage: str) -> list[tuple[Any, Any]]:
    """(benchmark, case) in the order in which they are worth having."""
    if stage == "ops":
        benchmarks = _op_benchmarks()
        found = [(b, case) for b in benchmarks for case in b.cases("cuda", full=False)]
        return sorted(found, key=lambda pair: _rank(pair[1], pair[0].windows[0]))  # stable: forms stay side by side
    import bench_model

    found = [(bench_model.BENCHMARK, case) for case in bench_model.BENCHMARK.cases("cuda")]
    if stage == "compiled":  # minutes each
        return [(b, c) for b, c in found if (c.preset, c.batch) == ("mnist", 100)]
    order = (100, 1, 16)
    return sorted(((b, c) for b, c in found if c.form != "compiled"), key=lambda pair: order.index(pair[1].batch))


def _rank(case: Any, usual_window: str) -> int:
    """Batch 100 whole; then what needs no compiling; then the rest."""
    if case.batch == 100 and case.window == usual_window:
        return 0
    return 1 if case.form != "compiled" else 2


def _op_benchmarks() -> list[Any]:
    return [importlib.import_module(f"bench_{op}").BENCHMARK for op in FILES]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("probe", "touch", "ops", "model", "compiled"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(arguments)
    if options.stage in ("probe", "touch"):
        print(json.dumps(probe() if options.stage == "probe" else touch()))
    else:
        measure(options.stage, options.out, options.seconds)


if __name__ == "__main__":
    main()
