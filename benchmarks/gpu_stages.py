"""What `gpu_report.py` runs in processes of their own: a crash, a hang or a time limit then ends one stage alone.

Results go to a file, a line of JSON each, as they come: {"plan": [case, …]}, {"machine": …}, then for each case
{"begun": case} and what was found. A process that can measure no further ends with AGAIN; the next one takes the file
and the cases that are left.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from report import identity, json_files

AGAIN = 3  # an exit code
PROGRESS_EVERY = 1000  # updates of the paper's training between two records of how far it came
HANGS = 60.0  # seconds: a case that takes longer hangs, but for those under torch.compile
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


def touch(backends: Sequence[str]) -> list[str]:
    """Runs every op and gradient once on each of these that is built, in small odd shapes, for compute-sanitizer."""
    import cases
    import torch

    from aligndraw import ops

    done = []
    for benchmark in _op_benchmarks():
        for backend in sorted({*backends} & {*cases.built(benchmark.op, "cuda")}):
            arguments = benchmark.arguments(cases.Sizes(*ODD), 3, benchmark.windows[0])
            moved = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
            leaves = [moved[name].requires_grad_() for name in benchmark.inputs]
            with cases.forced(backend):
                outputs = cases.as_tuple(getattr(ops, benchmark.op)(*moved.values()))
                torch.autograd.grad(outputs, leaves, [torch.ones(o.shape).cuda() for o in outputs])
            torch.cuda.synchronize()
            done.append(f"{benchmark.op} {backend}")
    if "cuda" in backends and "cuda" in cases.built("unroll", "cuda"):
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


def stage_seconds(device: str = "cuda", steps: int = 256) -> float:
    """What one stage of a persistent loop takes with next to no work, by sampling nothing with a unit a multiprocessor.

    Of a step's two stages each has a barrier of the grid; nothing is drawn.

    Raises:
        RuntimeError: a call cannot be captured.
    """
    import bench_model
    import cases
    import cuda_clock
    import torch

    from aligndraw import ops

    units = torch.cuda.get_device_properties(0).multi_processor_count if device == "cuda" else 1

    def seconds(count: int) -> float:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, device=device)

        gates = zeros(4 * units, 2), zeros(4 * units, units), zeros(4 * units)
        decoder = ops.DecoderWeights(*gates, zeros(units), zeros(12, units), zeros(12), None)
        length = torch.ones(1, dtype=torch.int64, device=device)
        arguments = (zeros(0, 1, 1), zeros(1, 1, 1), None, length, zeros(1, count, 1), decoder, 1)
        times = cuda_clock.measure(lambda: ops.unroll_prior(*arguments), cold=False)
        if "reason" in times:
            raise RuntimeError(times["reason"])
        return times["replayed"]["median"]

    with cases.stream(device), torch.no_grad(), bench_model.loops("persistent"):
        few, many = seconds(1), seconds(1 + steps)
    return (many - few) / (2 * steps)


def paper(out: Path, seconds: float, device: str = "cuda") -> None:
    """Trains MNIST with captions by the paper's recipe from the first update to the last, or until the time is up."""
    import torch

    from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
    from aligndraw.data import MNISTCaptions, load_digits
    from aligndraw.files import atomic_write
    from aligndraw.training import Trainer
    from aligndraw.training.fit import fit

    began = time.monotonic()
    recipe = TrainingConfig.preset("paper")
    torch.manual_seed(0)
    model = AlignDRAW(AlignDRAWConfig.preset("mnist"))
    model.reset_parameters(recipe.init)
    trainer = Trainer(model.to(device), MNISTCaptions(load_digits()), recipe)
    last = None

    def write() -> None:
        found = {"updates": trainer.index, "total": trainer.total, "seconds": time.monotonic() - began}
        found |= {"bound": last and last.bound, "ungraphed": trainer.ungraphed_reason}
        with atomic_write(out) as path:
            path.write_text(json.dumps(found) + "\n")

    def on_update(update: Any) -> None:
        nonlocal last
        last = update
        if (update.index + 1) % PROGRESS_EVERY == 0:  # a stop keeps the figures so far
            write()

    fit(trainer, on_update=on_update, stopping=lambda: time.monotonic() - began >= seconds)
    if device == "cuda":
        torch.cuda.synchronize()
    write()


def read_lines(out: Path) -> list[dict[str, Any]]:
    """What a measurement has written so far; the last line may be half written."""
    lines = []
    for line in out.read_bytes().splitlines() if out.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json_files.parse_json(line))
    return lines


def measure(stage: str, out: Path, seconds: float) -> None:
    """Times the cases of a stage, the most telling first, until none is left or the time is up.

    Ends with AGAIN after a case that leaves this process unfit for the next.
    """
    import cases
    import cuda_clock
    import machine

    end = time.monotonic() + seconds
    planned = plan(stage)
    begun = {identity(line["begun"]) for line in read_lines(out) if "begun" in line}
    with out.open("a") as file:

        def say(**line: Any) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        if not begun:
            say(plan=[case.to_dict() for _, case in planned])
            say(machine=machine.describe("cuda"), ceilings=machine.ceilings("cuda"))
        for benchmark, case in planned:
            if identity(case.to_dict()) in begun:
                continue
            if time.monotonic() > end:
                break
            say(begun=case.to_dict())
            with contextlib.nullcontext() if case.form == "compiled" else _ending_what_hangs():
                found = _found(benchmark, case)
                say(**case.to_dict(), **found)
                if not _fit(found):
                    sys.exit(AGAIN)
        say(after=machine.gpu_state())
        if stage == "model" and "cuda" in cases.built("unroll_prior", "cuda"):
            try:
                with _ending_what_hangs():
                    say(stage_seconds=stage_seconds())
            except Exception as problem:
                say(stage_failed=cuda_clock.first_line(problem))


def _found(benchmark: Any, case: Any) -> dict[str, Any]:
    """The figures of a case, or why there are none: whatever goes wrong is that case's failure alone."""
    import cases
    import cuda_clock

    from aligndraw.ops import OPS

    try:
        with benchmark.prepared(case) as ready:
            facts = {"error": ready.error, "compile_seconds": ready.compile_seconds, "backends": ready.backends}
            return {**ready.work, **facts, **cuda_clock.measure(ready.call, cold=case.op in OPS)}
    except cases.WrongResult as problem:
        return {"wrong": cuda_clock.first_line(problem)}
    except cases.NotBuilt as problem:
        return {"reason": cuda_clock.first_line(problem)}
    except Exception as problem:
        return {"failed": cuda_clock.first_line(problem)}


def _fit(found: dict[str, Any]) -> bool:
    """Whether this process can go on after a case: not after a failed capture, nor with a CUDA context that is lost."""
    import torch

    if "called" in found:
        return "reason" not in found
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


@contextlib.contextmanager
def _ending_what_hangs() -> Iterator[None]:
    """Ends this process where its body takes too long: nothing else ends a wait for a kernel that never does."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def plan(stage: str) -> list[tuple[Any, Any]]:
    """(benchmark, case) in the order in which they are worth having.

    The persistent loops, whose barriers can hang, come after the other forms of their batch and presets.
    """
    if stage == "ops":
        benchmarks = _op_benchmarks()
        found = [(b, case) for b in benchmarks for case in b.cases("cuda", full=False)]
        return sorted(found, key=lambda pair: _rank(pair[1], pair[0].windows[0]))  # stable: forms stay side by side
    import bench_model
    import cases

    found = [(bench_model.BENCHMARK, case) for case in bench_model.BENCHMARK.cases("cuda")]
    order = (100, 1, 16, 1024)

    def rank(pair: tuple[Any, Any]) -> tuple[int, bool, bool]:
        case = pair[1]
        return order.index(case.batch), case.preset not in cases.PRESETS, case.form.startswith("persistent")

    found.sort(key=rank)
    if stage == "compiled":  # minutes each: the paper's models, beside the forms that they are compared with
        wanted = ("eager", "compiled", "fastest")
        return [(b, c) for preset in cases.PRESETS for b, c in found if c.preset == preset and c.form in wanted]
    return [(b, c) for b, c in found if c.form != "compiled"]


def _rank(case: Any, usual_window: str) -> int:
    """Batch 100 first; what torch.compile makes, in seconds a case, after what needs none of it."""
    usual = case.batch == 100 and case.window == usual_window
    if case.form == "compiled":
        return 2 if usual else 4
    return 0 if usual else 1 if case.batch == 100 else 3


def _op_benchmarks() -> list[Any]:
    return [importlib.import_module(f"bench_{op}").BENCHMARK for op in FILES]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("probe", "touch", "ops", "model", "compiled", "paper"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--backends", nargs="+")
    options = parser.parse_args(arguments)
    if options.stage in ("probe", "touch"):
        print(json.dumps(probe() if options.stage == "probe" else touch(options.backends)))
    elif options.stage == "paper":
        paper(options.out, options.seconds)
    else:
        measure(options.stage, options.out, options.seconds)


if __name__ == "__main__":
    main()
