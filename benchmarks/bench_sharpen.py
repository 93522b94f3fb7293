"""Sharpening a batch of images, 128 hidden channels, sentences of 4800: the paper's 32 x 32 in colour, and MNIST's.

The forms are `eager`, the module as it stands; `folded`, without the plane of its noise and, on a CPU, with the second
convolution by spectra; `folded-bf16`, in bfloat16, held against the module in bfloat16.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterator, Sequence

import torch
from cases import Case, Ready, WrongResult, config_of, stream
from torch import Tensor

from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.fast import FastSharpener
from aligndraw.lapgan.sharpen import Sharpener

PRESETS = ("coco", "mnist")
BATCHES = (1, 16, 100)
FORMS = ("eager", "folded", "folded-bf16")


class SharpenBenchmark:
    """With the interface of `cases.OpBenchmark`."""

    def cases(self, device: str, backends: Sequence[str] = (), full: bool = True) -> list[Case]:
        """All cases on a device; no backend has a part in them."""
        return [
            Case("sharpen", preset, batch, "", "forward", form, device)
            for preset in PRESETS
            for batch in BATCHES
            for form in FORMS
        ]

    def smoke(self, case: Case) -> bool:
        """Whether CI runs the case."""
        return case.preset == "coco" and case.batch == 1

    @contextlib.contextmanager
    def prepared(self, case: Case, check: bool = True) -> Iterator[Ready]:
        """The case after its result was held against float64 where `check` asks for it.

        Raises:
            WrongResult: it is further off than twice the error of the module in the same dtype.
        """
        with torch.no_grad(), stream(case.device):
            module, inputs = _module(case.preset, case.device), _inputs(case.preset, case.batch, case.device)
            dtype = torch.bfloat16 if case.form.endswith("bf16") else torch.float32
            sharpen = module if case.form == "eager" else FastSharpener(module, dtype)
            error = math.nan
            if check:
                some = [tensor[:16] for tensor in inputs]
                truth = copy.deepcopy(module).double()(*(tensor.double() for tensor in some))
                same = copy.deepcopy(module).to(dtype)(*(tensor.to(dtype) for tensor in some))
                off, allowed = _error(sharpen(*inputs)[:16], truth), 2 * _error(same, truth) + 1e-7
                if not off <= allowed:
                    raise WrongResult(f"{case}: images are off by {off:.1e}, allowed {allowed:.1e}: not timed")
                error = off / allowed
            yield Ready(lambda: sharpen(*inputs), _work(module.config, case.batch), error)


@functools.lru_cache(maxsize=1)
def _module(preset: str, device: str) -> Sharpener:
    model = config_of(preset)
    torch.manual_seed(0)
    return Sharpener(SharpenerConfig(image_size=model.image_size, channels=model.channels)).to(device)


def _inputs(preset: str, batch: int, device: str) -> list[Tensor]:
    config = _module(preset, device).config
    torch.manual_seed(1)
    images = torch.rand(batch, config.channels, *config.image_size)
    return [images.to(device), torch.randn(batch, config.sentence_units).to(device)]


def _error(result: Tensor, truth: Tensor) -> float:
    return float((result.double() - truth).abs().max())


def _work(config: SharpenerConfig, batch: int) -> dict[str, int]:
    """What the convolutions without the noise and the sentence's plane come to as they are written down."""
    hidden, pixels = config.hidden_channels, config.image_size[0] * config.image_size[1]
    taps = 49 * (1 + config.channels) * hidden + 49 * hidden**2 + 25 * hidden * config.channels
    return {"flops": 2 * batch * pixels * (taps + config.sentence_units), "bytes": 0}


BENCHMARK = SharpenBenchmark()


def test_sharpen(case, timed):
    timed(case)
