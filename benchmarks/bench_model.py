"""The whole model: `train`, the bound and the gradients of all parameters, without the optimiser; `sample`, T steps.

The forms are `eager`, the reference ops; `fastest`, the backends that the package takes by itself; `eager_bf16` and
`bf16`, the same under autocast to bfloat16; `products`, the matrix products that the sizes of the model alone imply
(products.py); where asked for, `compiled`, the reference under `torch.compile`: on a GPU the whole loop, on a CPU one
step of it, called T times, since there the whole takes the compiler longer than anyone would wait. On a GPU also
`triton`, whose loops are made of its ops' kernels, and the forms of the loops in C++, `launches` for each step and all
steps in one launch, `persistent` or `cluster`, of which `fastest` takes one by itself, with and without `_bf16`; and
`eager_tf32` and `launches_tf32`, whose products are of factors rounded to TF32.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence

import products
import torch
from cases import WORDS, Case, NotBuilt, Ready, WrongResult, built, config_of, forced, named, stream, tolerance
from report import precision_of
from torch import Tensor

from aligndraw import AlignDRAW, ops
from aligndraw.backends import backend_for
from aligndraw.training.precision import float32_products

PRESETS = ("quick", "mnist", "coco")
BATCHES = {"cpu": (1, 16, 100), "cuda": (1, 16, 100, 1024)}
DESIGNS = ("launches", "persistent", "cluster")  # forms of the loops on a GPU: what ALIGNDRAW_LOOP says
Results = dict[str, list[Tensor]]


class ModelBenchmark:
    """Training step and sampling, with the interface of `cases.OpBenchmark`."""

    def cases(self, device: str, backends: Sequence[str] = (), full: bool = True) -> list[Case]:
        """All cases on a device. Raises NotBuilt where a backend that was named cannot serve one of the ops."""
        forms = ["eager", "compiled"]
        if backends:
            forms += [name for name in backends if all(named(op, device, [name]) for op in ops.OPS)]
        elif any(built(op, device) for op in ops.OPS):
            forms.append("fastest")
            if all("triton" in built(op, device) for op in ops.OPS):
                forms.append("triton")
        forms += ["products", "eager_bf16", *(["bf16"] if "fastest" in forms else [])]
        if device == "cuda" and "cuda" in built("unroll", device):
            forms += [*DESIGNS, *(f"{design}_bf16" for design in DESIGNS), "eager_tf32", "launches_tf32"]
        return [
            Case(op, preset, batch, "", direction, form, device)
            for preset in PRESETS
            for batch in BATCHES[device]
            for op, direction in (("train", "both"), ("sample", "forward"))
            for form in forms
            if op == "train" or precision_of(form) == "float32"
        ] + [
            Case(op, preset, batch, "", "forward", form, device)
            for preset in PRESETS
            for batch in BATCHES[device]
            for op in ("bound", "frames")
            for form in forms
            if form in ("eager", "fastest", *backends)
        ]

    def smoke(self, case: Case) -> bool:
        """Whether CI runs the case."""
        return case.preset == "quick" and case.batch == 1 and case.form != "compiled"

    @contextlib.contextmanager
    def prepared(self, case: Case, check: bool = True) -> Iterator[Ready]:
        """The case with its backends chosen, after its results were held against float64 where `check` asks for it.

        Raises:
            WrongResult: they are further off than they may be.
        """
        config, work = config_of(case.preset), {}
        if case.op in ("train", "sample"):  # of the products alone
            needed = (products.training if case.op == "train" else products.sampling)(config, case.batch)
            work = {"flops": products.flops(needed), "bytes": 0, "steps": config.steps}
        if case.form == "products":
            with stream(case.device):
                yield Ready(products.call(needed, case.device), work, 0.0)
            return
        with stream(case.device):
            model, inputs = _model(case.preset, case.device), _inputs(case.preset, case.batch, case.device)
            precision = precision_of(case.form)
            design = case.form.removesuffix(f"_{precision}")
            chosen = case.form in ("fastest", "bf16") or design in DESIGNS
            backend = contextlib.nullcontext() if chosen else forced(case.form)
            with backend, loops(design):
                seconds = None
                call = _call(case.op, model, inputs, compiled=case.form == "compiled", precision=precision)
                if case.form == "compiled":
                    torch.compiler.reset()
                    began = time.perf_counter()
                    call()
                    seconds = time.perf_counter() - began
                error = math.nan
                if check:
                    truth, allowed = _truth(case.op, case.preset, case.batch, case.device, precision)
                    error = _check(str(case), call(), truth, allowed)
                served = {op: backend_for(op, case.device) for op in (*ops.OPS, *ops.LOOPS)}
                yield Ready(call, work, error, seconds, served)


@contextlib.contextmanager
def loops(form: str) -> Iterator[None]:
    """The loops in one of DESIGNS, or as they are by themselves. Raises NotBuilt where one has no room on this GPU."""
    before = os.environ.pop("ALIGNDRAW_LOOP", None)
    if form in DESIGNS:
        os.environ["ALIGNDRAW_LOOP"] = form
    try:
        yield
    except RuntimeError as problem:
        if "ALIGNDRAW_LOOP" in str(problem):
            raise NotBuilt(str(problem)) from problem
        raise
    finally:
        os.environ.pop("ALIGNDRAW_LOOP", None)
        if before is not None:
            os.environ["ALIGNDRAW_LOOP"] = before


@functools.lru_cache(maxsize=1)
def _model(preset: str, device: str) -> AlignDRAW:
    torch.manual_seed(0)
    return AlignDRAW(config_of(preset)).to(device)


def _inputs(preset: str, batch: int, device: str) -> dict[str, Tensor]:
    config = config_of(preset)
    torch.manual_seed(1)
    inputs = {
        "images": torch.rand(batch, config.channels, *config.image_size),
        "captions": torch.randint(config.vocabulary_size, (batch, WORDS)),
        "noise": torch.randn(batch, config.steps, config.latent_units),
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _call(
    op: str, model: AlignDRAW, inputs: dict[str, Tensor], compiled: bool = False, precision: str = "float32"
) -> Callable[[], Results]:
    """What is timed; its results, the gradients of all parameters counting as one.

    A training step alone rounds, and enters autocast in each call: autocast keeps rounded weights until it is left,
    and a call would otherwise find those of the call before, which no real step does.
    """
    images, captions, noise = inputs.values()
    whole = compiled and images.is_cuda
    if compiled and not whole:
        model = copy.deepcopy(model)
        model.step = torch.compile(model.step, dynamic=False)  # type: ignore[method-assign]
    parameters = list(model.parameters())

    def bound() -> tuple[Tensor, Tensor, Tensor]:
        found = model(images, captions, noise=noise)
        return found.kl_steps, found.nll, found.loss

    def draw() -> Tensor:
        return model.sample(captions, noise=noise).images

    compute_bound = torch.compile(bound, dynamic=False) if whole else bound
    compute_pictures = torch.compile(draw, dynamic=False) if whole else draw

    def train() -> Results:
        with float32_products(precision == "tf32"):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
                kl, nll, loss = compute_bound()
            gradients = torch.autograd.grad(loss, parameters)
        return {"the KLs of the steps": [kl.detach()], "the NLLs": [nll.detach()], "the gradients": list(gradients)}

    @torch.no_grad()
    def forward() -> Results:
        kl, nll, _ = compute_bound()
        return {"the KLs of the steps": [kl], "the NLLs": [nll]}

    def sample() -> Results:
        return {"the pictures": [compute_pictures()]}

    def frames() -> Results:
        drawing = model.sample(captions, noise=noise)
        return {"the pictures": [drawing.images], "the canvases": [drawing.canvases]}

    return {"train": train, "bound": forward, "sample": sample, "frames": frames}[op]


@functools.lru_cache(maxsize=1)
def _truth(op: str, preset: str, batch: int, device: str, precision: str) -> tuple[Results, dict[str, float]]:
    """Results in float64, and what is allowed: twice the error of the reference in that precision, and 4 eps."""
    model, inputs = _model(preset, device), _inputs(preset, batch, device)
    exact = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    with forced("eager"):
        truth = _call(op, copy.deepcopy(model).double(), exact)()
        single = _call(op, model, inputs, precision=precision)()
    return truth, {name: tolerance(_error(single[name], true)) for name, true in truth.items()}


def _error(results: list[Tensor], truth: list[Tensor]) -> float:
    """Length of the error over the length of the true value, all tensors as one vector."""
    error = sum(float((r.double() - t).square().sum()) for r, t in zip(results, truth, strict=True))
    return (error / sum(float(t.square().sum()) for t in truth)) ** 0.5


def _check(name: str, results: Results, truth: Results, allowed: dict[str, float]) -> float:
    """The largest error over what is allowed. Raises WrongResult when that is not at most 1."""
    errors = {key: _error(results[key], true) for key, true in truth.items()}
    for key, error in errors.items():
        if not error <= allowed[key]:
            raise WrongResult(
                f"{name}: {key} are off by {error:.1e} of their length, allowed {allowed[key]:.1e}: not timed"
            )
    return max(error / allowed[key] for key, error in errors.items())


BENCHMARK = ModelBenchmark()


def test_model(case, timed):
    timed(case)
