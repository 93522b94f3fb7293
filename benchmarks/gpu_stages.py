"""What `gpu_report.py` runs in processes of their own: a crash, a hang or a time limit then ends one stage alone.

Results go to a file, a line of JSON each, as they come: {"machine": …}, {"plan": [case, …]}, then one for each case.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections import deque
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
    if "cuda" in cases.built("unroll", "cuda"):
        done += _touch_loops()
    return done


def _touch_loops() -> list[str]:
    """All steps of a small model, in C++."""
    import bench_model
    import cases
    import torch

    from aligndraw import AlignDRAW, AlignDRAWConfig

    sizes = {"encoder_units": 9, "decoder_units": 7, "latent_units": 5, "language_units": 4, "align_units": 6}
    model = AlignDRAW(AlignDRAWConfig(steps=2, image_size=(7, 11), read_size=3, write_size=4, **sizes)).cuda()
    captions = torch.randint(model.config.vocabulary_size, (3, 5)).cuda()
    done = ["lstm_sequence cuda"]
    for form in bench_model.DESIGNS:
        for bf16 in (False, True):
            with cases.forced("cuda"), bench_model.loops(form), torch.autocast("cuda", torch.bfloat16, enabled=bf16):
                model(torch.rand(3, 1, 7, 11).cuda(), captions).loss.backward()
                model.sample(captions)
        done += [f"unroll cuda {form}", f"unroll_prior cuda {form}"]
    torch.cuda.synchronize()
    return done


def stage_seconds(device: str = "cuda", steps: int = 256) -> float | None:
    """What one stage of a persistent loop takes with next to no work, by sampling nothing with a unit a multiprocessor.

    None where a call cannot be captured. Of a step's two stages each has a barrier of the grid; nothing is drawn.
    """
    import bench_model
    import cases
    import cuda_clock
    import torch

    from aligndraw import ops

    units = torch.cuda.get_device_properties(0).multi_processor_count if device == "cuda" else 1

    def seconds(count: int) -> float | None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, device=device)

        gates = zeros(4 * units, 2), zeros(4 * units, units), zeros(4 * units)
        decoder = ops.DecoderWeights(*gates, zeros(units), zeros(12, units), zeros(12), None)
        length = torch.ones(1, dtype=torch.int64, device=device)
        arguments = (zeros(0, 1, 1), zeros(1, 1, 1), None, length, zeros(1, count, 1), decoder, 1)
        replayed = cuda_clock.measure(lambda: ops.unroll_prior(*arguments), cold=False)["replayed"]
        return replayed and replayed["median"]

    with cases.stream(device), torch.no_grad(), bench_model.loops("persistent"):
        few, many = seconds(1), seconds(1 + steps)
    return None if few is None or many is None else (many - few) / (2 * steps)


def paper(out: Path, seconds: float, device: str = "cuda") -> None:
    """Trains MNIST with captions by the paper's recipe from the first update to the last, or until the time is up."""
    import torch

    from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
    from aligndraw.data import MNISTCaptions, load_digits
    from aligndraw.training import Trainer
    from aligndraw.training.loop import read

    began = time.monotonic()
    recipe = TrainingConfig.preset("paper")
    torch.manual_seed(0)
    model = AlignDRAW(AlignDRAWConfig.preset("mnist"))
    model.reset_parameters(recipe.init)
    trainer = Trainer(model.to(device), MNISTCaptions(load_digits()), recipe)
    launched, last = [], deque(maxlen=1)
    while trainer.index < trainer.total and time.monotonic() - began < seconds:
        launched.append(trainer.launch())
        last.extend(read(launched, trainer.lag))
    last.extend(read(launched, 0))
    torch.cuda.synchronize()
    found = {"updates": trainer.index, "total": trainer.total, "seconds": time.monotonic() - began}
    found |= {"bound": last[0].bound if last else None, "ungraphed": trainer.ungraphed_reason}
    out.write_text(json.dumps(found) + "\n")


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
        if stage == "model" and "cuda" in cases.built("unroll_prior", "cuda"):
            say(stage_seconds=stage_seconds())
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
            except cases.NotBuilt as problem:
                say(**case.to_dict(), reason=str(problem))
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
    import cases

    found = [(bench_model.BENCHMARK, case) for case in bench_model.BENCHMARK.cases("cuda")]
    order = (100, 1, 16, 1024)
    found.sort(key=lambda pair: (order.index(pair[1].batch), pair[1].preset not in cases.PRESETS))
    if stage == "compiled":  # minutes each: the paper's models, beside the forms that they are compared with
        wanted = ("eager", "compiled", "fastest")
        return [(b, c) for preset in cases.PRESETS for b, c in found if c.preset == preset and c.form in wanted]
    return [(b, c) for b, c in found if c.form != "compiled"]


def _rank(case: Any, usual_window: str) -> int:
    """Batch 100 whole; then what needs no compiling; then the rest."""
    if case.batch == 100 and case.window == usual_window:
        return 0
    return 1 if case.form != "compiled" else 2


def _op_benchmarks() -> list[Any]:
    return [importlib.import_module(f"bench_{op}").BENCHMARK for op in FILES]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("probe", "touch", "ops", "model", "compiled", "paper"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(arguments)
    if options.stage in ("probe", "touch"):
        print(json.dumps(probe() if options.stage == "probe" else touch()))
    elif options.stage == "paper":
        paper(options.out, options.seconds)
    else:
        measure(options.stage, options.out, options.seconds)


if __name__ == "__main__":
    main()
