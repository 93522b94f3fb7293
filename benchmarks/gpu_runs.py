"""Runs of the package that the GPU report makes beside its measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import bench_model
import cases
import cuda_clock
import gpu_cases
import torch
from gpu_stages import Say

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig, ops
from aligndraw.data import MNISTCaptions, load_digits
from aligndraw.training import Trainer
from aligndraw.training.fit import fit

PROGRESS_EVERY = 1000  # updates of the paper's training between two records
WARM_UPDATES = 8  # the first of each length of captions warms up, the second is recorded
PROFILED = 40  # kernels of a profile that are kept, the largest first
ODD = (2, 7, 11, 4, 5, 6, 3, 5, 5)  # C, H, W, p, N, l, d, n, z


def compiled_backend(device: str) -> str:
    return "cuda" if device == "cuda" else "cpp"


def touch(backends: Sequence[str], say: Say, device: str = "cuda") -> None:
    """Runs every op and gradient once on each of these backends that is built, in small odd shapes."""
    for benchmark in gpu_cases.op_benchmarks():
        built = cases.built(benchmark.op, device)
        for backend in [b for b in backends if b in built] if device == "cuda" else built:
            arguments = benchmark.arguments(cases.Sizes(*ODD), 3, benchmark.windows[0])
            moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
            leaves = [moved[name].requires_grad_() for name in benchmark.inputs]
            with cases.forced(backend):
                outputs = cases.as_tuple(getattr(ops, benchmark.op)(*moved.values()))
                torch.autograd.grad(outputs, leaves, [torch.ones(o.shape).to(device) for o in outputs])
            torch.cuda.synchronize()
            say(kernel=f"{benchmark.op} {backend}")
    loops = compiled_backend(device)
    if loops in cases.built("unroll", device) and (loops in backends or device == "cpu"):
        _touch_loops(say, device)


def _touch_loops(say: Say, device: str) -> None:
    """All steps of a small model, in C++."""
    sizes = {"encoder_units": 9, "decoder_units": 7, "latent_units": 5, "language_units": 4, "align_units": 6}
    model = AlignDRAW(AlignDRAWConfig(steps=2, image_size=(7, 11), read_size=3, write_size=4, **sizes)).to(device)
    captions = torch.randint(model.config.vocabulary_size, (3, 5)).to(device)
    backend = compiled_backend(device)
    for form in bench_model.DESIGNS:
        for bf16 in (False, True):
            with cases.forced(backend), bench_model.loops(form), torch.autocast(device, torch.bfloat16, enabled=bf16):
                model(torch.rand(3, 1, 7, 11).to(device), captions).loss.backward()
                model.sample(captions)
        torch.cuda.synchronize()
        say(kernel=f"unroll, unroll_prior and lstm_sequence {backend} {form}")


def step(device: str = "cuda") -> None:
    """Two steps of drawing and their gradient at the paper's sizes, by launches: for a tool that reads counters."""
    preset, batch = ("mnist", gpu_cases.BATCH) if device == "cuda" else ("quick", 2)
    config = cases.config_of(preset)
    torch.manual_seed(0)
    model = AlignDRAW(config.replace(steps=2)).to(device)
    images = torch.rand(batch, config.channels, *config.image_size).to(device)
    captions = torch.randint(config.vocabulary_size, (batch, cases.WORDS)).to(device)
    with bench_model.loops("launches"):
        model(images, captions).loss.backward()
    torch.cuda.synchronize()


def _paper_trainer(device: str) -> Trainer:
    """The paper's recipe on MNIST with captions; small on a CPU."""
    recipe, config = TrainingConfig.preset("paper"), AlignDRAWConfig.preset("paper")
    torch.manual_seed(0)
    model = AlignDRAW(config if device == "cuda" else config.replace(steps=2))
    model.reset_parameters(recipe.init)
    return Trainer(model.to(device), MNISTCaptions(load_digits()), recipe)


def profile(say: Say, device: str = "cuda") -> None:
    """The kernels of one update of the paper's training, replayed from its CUDA graph: time and launches of each."""
    trainer = _paper_trainer(device)
    for _ in range(WARM_UPDATES if device == "cuda" else 1):
        trainer.update()
    activity = torch.profiler.ProfilerActivity.CUDA if device == "cuda" else torch.profiler.ProfilerActivity.CPU
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[activity]) as trace:
        trainer.update()
        torch.cuda.synchronize()
    wanted = torch.autograd.DeviceType.CUDA if device == "cuda" else torch.autograd.DeviceType.CPU
    kernels: dict[str, list[float]] = {}
    for event in trace.events():
        if event.device_type == wanted and not event.is_user_annotation:  # which span kernels
            kernels.setdefault(event.name, []).append(1e-6 * event.time_range.elapsed_us())
    rows = [{"name": name, "launches": len(times), "seconds": sum(times)} for name, times in kernels.items()]
    rows.sort(key=lambda row: -row["seconds"])
    say(
        kernels=rows[:PROFILED],
        launches=sum(row["launches"] for row in rows),
        kernel_seconds=sum(row["seconds"] for row in rows),
        ungraphed=trainer.ungraphed_reason,
    )


def paper(say: Say, seconds: float, device: str = "cuda") -> None:
    """Trains MNIST with captions by the paper's recipe from the first update to the last, or until the time is up."""
    began = time.monotonic()
    trainer = _paper_trainer(device)
    last = None

    def record() -> None:
        say(
            updates=trainer.index,
            total=trainer.total,
            seconds=time.monotonic() - began,
            bound=last and last.bound,
            ungraphed=trainer.ungraphed_reason,
        )

    def on_update(update: Any) -> None:
        nonlocal last
        last = update
        if (update.index + 1) % PROGRESS_EVERY == 0:  # a stop keeps the figures so far
            record()

    fit(trainer, on_update=on_update, stopping=lambda: time.monotonic() - began >= seconds)
    torch.cuda.synchronize()
    record()


def stage_seconds(device: str = "cuda", steps: int = 256) -> float:
    """What one stage of a persistent loop takes with next to no work, by sampling nothing with a unit a multiprocessor.

    Of a step's two stages each has a barrier of the grid; nothing is drawn.

    Raises:
        RuntimeError: a call cannot be captured.
    """
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
