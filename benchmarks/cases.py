"""What is timed: an op at the shapes of a preset, in one of its forms, checked before the clock starts.

A form is `eager`, the reference as it stands; `compiled`, the reference under `torch.compile`; or the name of a
backend. `eager_bf16` and a backend's name with `_bf16` take bfloat16 arguments, under autocast.

Letters as everywhere: B batch, C channels, HxW canvas, p patch side, N words, l alignment units, d width of a word's
state, n decoder units, z latent size.
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch._functorch.config
from report import NOT_OURS, REFERENCES, precision_of
from torch import Tensor

import aligndraw
from aligndraw import AlignDRAWConfig, ops
from aligndraw.backends import BACKENDS, missing_reason

PRESETS = ("mnist", "coco")
BATCHES = (1, 16, 100, 1024)
WORDS = 12  # N: the captions of the paper's MNIST
WINDOWS = {  # (g̃_X, g̃_Y, log σ², log δ̃, log γ), spread by 0.05 over the batch
    "trained": (0.3, -0.4, 0.5, -1.2, 0.4),
    "initial": (0.0, 0.0, 0.0, 0.0, 0.0),
    "off-image": (4.0, -6.0, -2.0, -1.0, 0.3),
}

# A gradient pass is timed again and again on one graph, which torch.compile forbids where it reuses saved memory.
torch._functorch.config.donated_buffer = False


class WrongResult(AssertionError):
    """A result outside the tolerance: it is not timed."""


class NotBuilt(RuntimeError):
    """A backend that was asked for by name and cannot run here."""


@dataclass(frozen=True)
class Case:
    """One figure of a report."""

    op: str  # of aligndraw.ops, or what bench_model.py times
    preset: str
    batch: int
    window: str  # "" for what has none
    direction: str  # "forward", "backward" or "both"
    form: str
    device: str

    def __str__(self) -> str:
        parts = (self.op, self.preset, f"B{self.batch}", self.window, self.direction, self.form)
        return "-".join(part for part in parts if part)

    @property
    def question(self) -> tuple[object, ...]:
        """What the forms of a case have in common."""
        return self.op, self.preset, self.batch, self.window, self.direction, self.device

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def config_of(preset: str) -> AlignDRAWConfig:
    """Returns the model of a preset of the cases, whose names are those of the data."""
    if preset == "mnist":
        # Builds before 30 November 2026 call it mnist, and compare_builds.py times them.
        with contextlib.suppress(ValueError):
            return AlignDRAWConfig.preset("paper")
    return AlignDRAWConfig.preset(preset)


@dataclass(frozen=True)
class Sizes:
    """The letters of a preset."""

    C: int
    H: int
    W: int
    p: int
    N: int
    l: int  # noqa: E741
    d: int
    n: int
    z: int

    @staticmethod
    def of(preset: str) -> Sizes:
        c = config_of(preset)
        return Sizes(
            C=c.channels,
            H=c.image_size[0],
            W=c.image_size[1],
            p=c.read_size,
            N=WORDS,
            l=c.align_units,
            d=2 * c.language_units,
            n=c.decoder_units,
            z=c.latent_units,
        )


@dataclass(frozen=True)
class Work:
    """What one call has to do at least, for one example of a batch; `once` is for the whole batch.

    Attributes:
        flops: additions, multiplications, divisions, and calls of exp, tanh or σ, one each.
        numbers: float32 numbers read and written, each once.
        once: numbers that all examples share.
    """

    flops: int
    numbers: int
    once: int = 0

    def of(self, batch: int) -> dict[str, int]:
        return {"flops": batch * self.flops, "bytes": 4 * (batch * self.numbers + self.once)}


@dataclass
class Ready:
    """A checked case: `call()` is what the clock runs around."""

    call: Callable[[], object]
    work: dict[str, int]  # flops, bytes; empty where no formula is stated
    error: float  # the largest of all results, over what is allowed: at most 1; NaN where it was not checked
    compile_seconds: float | None = None
    backends: dict[str, str] | None = None  # what served each op, where that was the package's own choice
    in_turn: Callable[[], dict[str, float]] = dict  # how many times as long the references take, where it can tell


@dataclass(frozen=True)
class OpBenchmark:
    """An op, its arguments and its costs.

    Attributes:
        op: name in `aligndraw.ops`.
        arguments: (sizes, batch, window) -> the op's arguments by name, in order, on the CPU.
        inputs: names of the arguments that ask for a gradient in the model.
        forward, backward: sizes -> the work of the op and of its gradient.
        windows: names in WINDOWS, the first being the usual one.
    """

    op: str
    arguments: Callable[[Sizes, int, str], dict[str, Any]]
    inputs: tuple[str, ...]
    forward: Callable[[Sizes], Work]
    backward: Callable[[Sizes], Work]
    windows: tuple[str, ...] = ("",)

    def cases(self, device: str, backends: Sequence[str] = (), full: bool = True) -> list[Case]:
        """All cases on a device, the forms of one question side by side.

        Args:
            device: "cpu" or "cuda".
            backends: those to time beside the reference; every one that is built when empty.
            full: every window at every batch; else the usual window, and the others at batch 100.

        Raises:
            NotBuilt: a backend that was named cannot serve the op.
        """
        ours = named(self.op, device, backends) or built(self.op, device)
        forms = ["eager", "compiled", *ours]
        rounded = [f"{form}_bf16" for form in ("eager", *ours)] if device == "cpu" else []
        return [
            Case(self.op, preset, batch, window, direction, form, device)
            for preset in PRESETS
            for batch in BATCHES
            for window in self.windows
            if full or batch == 100 or window == self.windows[0]
            for direction in ("forward", "backward")
            for form in forms + (rounded if batch <= 100 else [])
        ]

    def smoke(self, case: Case) -> bool:
        """Whether CI runs the case."""
        usual = case.preset == "mnist" and case.batch == 16 and case.window == self.windows[0]
        return usual and case.form != "compiled" and precision_of(case.form) == "float32"

    @contextlib.contextmanager
    def prepared(self, case: Case, check: bool = True) -> Iterator[Ready]:
        """The case with its backend forced, after its results were held against float64 where `check` asks for it.

        Raises:
            WrongResult: they are further off than they may be.
        """
        rounded = precision_of(case.form) == "bf16"
        with forced(case.form), stream(case.device), torch.autocast(case.device, torch.bfloat16, enabled=rounded):
            problem = _problem(self, case.preset, case.batch, case.window, case.device, rounded)
            function, seconds = getattr(ops, self.op), None
            if case.form == "compiled":
                function, seconds = _compiled(self, problem, self._shapes(case))
            error = problem.check(str(case), function) if check else math.nan
            if case.direction == "forward":
                arguments = tuple(problem.arguments.values())
                call, work = lambda: function(*arguments), self.forward
            else:
                outputs = as_tuple(function(*problem.arguments.values()))
                call = functools.partial(torch.autograd.grad, outputs, problem.leaves, problem.grads, retain_graph=True)
                work = self.backward
            in_turn = functools.partial(self._in_turn, case, call)
            yield Ready(call, work(Sizes.of(case.preset)).of(case.batch), error, seconds, in_turn=in_turn)

    def _shapes(self, case: Case) -> object:
        """What a compiled function is made for."""
        return self, case.preset, case.batch, case.device

    def _in_turn(self, case: Case, call: Callable[[], object]) -> dict[str, float]:
        """How many times as long each reference takes; the compiled one where it is there already."""
        found = {}
        for form in REFERENCES if case.device == "cpu" and case.form not in NOT_OURS else ():
            if form == "eager" or self._shapes(case) in _latest:
                reference = replace(case, form=form)
                with self.prepared(reference) as ready:
                    found[form] = _ratio_in_turn((form, ready.call), (case.form, call))
        return found


@dataclass(frozen=True, eq=False)
class Problem:
    """Arguments, the gradients of the results, and what must come out, to how much."""

    arguments: dict[str, Any]
    leaves: list[Tensor]
    grads: list[Tensor]
    truth: dict[str, Tensor]  # float64
    allowed: dict[str, float]

    def check(self, name: str, function: Callable[..., Any]) -> float:
        """The largest error over what is allowed. Raises WrongResult when that is not at most 1."""
        found = evaluate(function, self.arguments, self.leaves, self.grads)
        ratios = {k: error_of(found[k], true) / self.allowed[k] for k, true in self.truth.items()}
        for key, ratio in ratios.items():
            if not ratio <= 1:
                raise WrongResult(
                    f"{name}: {key} is off by {ratio * self.allowed[key]:.1e} of its largest value, "
                    f"allowed {self.allowed[key]:.1e}: not timed"
                )
        return max(ratios.values())


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@functools.lru_cache(maxsize=1)
def _problem(benchmark: OpBenchmark, preset: str, batch: int, window: str, device: str, rounded: bool) -> Problem:
    """Allowed is twice the error of the reference in the same precision, and 4 eps of float32; an error is relative to
    the largest value. With `rounded` arguments are bfloat16."""
    torch.manual_seed(0)
    arguments = benchmark.arguments(Sizes.of(preset), batch, window)
    if rounded:
        arguments = {k: v.bfloat16() if _is_float(v) else v for k, v in arguments.items()}
    moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    leaves = [moved[name].requires_grad_() for name in benchmark.inputs]
    reference = getattr(ops, f"{benchmark.op}_reference")
    grads = [torch.randn(o.shape).to(o) for o in as_tuple(reference(*moved.values()))]
    exact = {k: v.detach().double() if _is_float(v) else v for k, v in moved.items()}
    exact_leaves = [exact[name].requires_grad_() for name in benchmark.inputs]
    with torch.autocast(device, enabled=False):
        truth = evaluate(reference, exact, exact_leaves, [g.double() for g in grads])
    single = evaluate(reference, moved, leaves, grads)
    allowed = {k: tolerance(error_of(single[k], true)) for k, true in truth.items()}
    return Problem(moved, leaves, grads, truth, allowed)


_latest: dict[object, tuple[Callable[..., Any], float]] = {}  # one at a time: a reset forgets those before it


def _compiled(benchmark: OpBenchmark, problem: Problem, shapes: object) -> tuple[Callable[..., Any], float]:
    """The op under torch.compile for fixed shapes, and the seconds that took, both directions together."""
    if shapes not in _latest:
        _latest.clear()
        torch.compiler.reset()
        function = torch.compile(getattr(ops, benchmark.op), fullgraph=True, dynamic=False)
        began = time.perf_counter()
        evaluate(function, problem.arguments, problem.leaves, problem.grads)
        _latest[shapes] = function, time.perf_counter() - began
    return _latest[shapes]


def _ratio_in_turn(slow: tuple[str, Callable[[], object]], quick: tuple[str, Callable[[], object]]) -> float:
    """How many times as long one form's call takes as the other's: the median of neighbours in time.

    The forms have bursts of some milliseconds in turn, for 0.3 seconds. What else a shared machine does changes its
    speed by half from one second to the next, and with it the times of forms of which each has its own seconds.
    """

    def burst(form: str, call: Callable[[], object], seconds: float) -> float:
        with forced(form):
            call()  # brings back into the caches what the other form drove out
            calls, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds or not calls:
                call()
                calls += 1
            return (time.perf_counter() - began) / calls

    ratios, end = [], time.perf_counter() + 0.3
    while time.perf_counter() < end or len(ratios) < 5:
        ratios.append(burst(*slow, 4e-3) / burst(*quick, 2e-3))
    return statistics.median(ratios)


def evaluate(
    function: Callable[..., Any], arguments: dict[str, Any], leaves: list[Tensor], grads: list[Tensor]
) -> dict[str, Tensor]:
    """The results of a function and the gradients of its leaves, by name."""
    outputs = as_tuple(function(*arguments.values()))
    found = torch.autograd.grad(outputs, leaves, grads)
    names = [next(k for k, v in arguments.items() if v is leaf) for leaf in leaves]
    return {
        **{f"result {i}": output.detach() for i, output in enumerate(outputs)},
        **{f"the gradient of {name}": gradient for name, gradient in zip(names, found, strict=True)},
    }


def as_tuple(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def error_of(result: Tensor, truth: Tensor) -> float:
    """Largest error over the largest true value."""
    return ((result.double() - truth).abs().max() / truth.abs().max().clamp(min=1e-300)).item()


def tolerance(reference_error: float) -> float:
    """What is allowed where the reference in float32 makes this error."""
    return 2 * reference_error + 4 * torch.finfo(torch.float32).eps


# ---- backends and devices ----


def built(op: str, device: str) -> list[str]:
    """The backends that have kernels for an op. Triton's interpreter, on CPU tensors, is for tests alone."""
    candidates = [b for b in BACKENDS if b != "reference" and not (b == "triton" and device == "cpu")]
    return [b for b in candidates if not missing_reason(op, b, device)]


def named(op: str, device: str, backends: Sequence[str]) -> list[str]:
    """The same backends. Raises NotBuilt unless all of them are built for an op."""
    for backend in backends:
        if backend not in built(op, device):
            reason = missing_reason(op, backend, device) or "Triton's interpreter is not worth timing"
            raise NotBuilt(f"{op}: backend {backend!r} was asked for and cannot be timed on {device}: {reason}")
    return list(backends)


@contextlib.contextmanager
def forced(form: str) -> Iterator[None]:
    with aligndraw.use_backend("reference" if form in NOT_OURS else form.removesuffix("_bf16")):
        yield


@functools.lru_cache(maxsize=1)
def _side_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


@contextlib.contextmanager
def stream(device: str) -> Iterator[None]:
    """Work on CUDA goes to one stream that can be captured into a graph: a gradient runs where its forward ran."""
    if device != "cuda":
        yield
        return
    torch.cuda.synchronize()
    with torch.cuda.stream(_side_stream()):
        yield
    torch.cuda.synchronize()
