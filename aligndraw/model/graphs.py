"""CUDA graphs: functions of tensors, recorded once per shape of their arguments and then replayed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from aligndraw.arguments import check_int, check_real
from aligndraw.model.interface import Model
from aligndraw.model.samples import Samples
from aligndraw.noise import Generators, draw_noise

LENGTH_MULTIPLE = 4  # captions are padded to a multiple of it, so that one graph serves several lengths


class Recorder(Protocol):
    """Records calls of functions."""

    def warm_up(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
        """Returns function(*inputs), and makes all that a first call makes."""

    def record(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
        """Returns a replay: each call computes function(*inputs) anew from the present contents of the inputs."""


class CudaRecorder:
    """PyTorch's CUDA graphs, on a device that need not be the current one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def warm_up(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
        current, other = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        other.wait_stream(current)
        with torch.cuda.stream(other):
            result = function(*inputs)
        current.wait_stream(other)
        return result

    def record(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
                    result = function(*inputs)
            except BaseException:
                torch.cuda.set_stream(current)  # torch does not restore it where the recording fails
                raise

        def replay() -> Any:
            graph.replay()
            return result

        return replay


class Graphs:
    """Functions that are recorded at the second call of a kind; the first call warms up.

    Args:
        device: of the functions' inputs.
        limit: recordings kept; the least recently used one goes first.
        recorder: CUDA's by default.

    Attributes:
        reason: why every function is called as it is and nothing is recorded; "" where calls are recorded.
    """

    def __init__(self, device: torch.device, limit: int, recorder: Recorder | None = None) -> None:
        self.device, self.limit = device, limit
        self.recorder: Recorder = recorder or CudaRecorder(device)
        self.reason = "" if recorder or device.type == "cuda" else f"there are no CUDA graphs on {device.type}"
        self._warm: set[Hashable] = set()
        self._recorded: OrderedDict[Hashable, tuple[tuple[Tensor, ...], Callable[[], Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recorded)

    def forget(self) -> None:
        """Drops all recordings; call it when tensors that the functions use have been replaced by others."""
        self._warm.clear()
        self._recorded.clear()

    def run(self, kind: Hashable, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Returns function(*inputs), with the inputs on the device.

        Args:
            kind: identifies the function: two calls of one kind with inputs of the same shapes may differ only in the
                inputs.

        Returns:
            the result. Of a recording it lies in memory that the next call of the kind overwrites.
        """
        if self.reason:
            return function(*(t.to(self.device) for t in inputs))
        key = (kind, tuple((t.shape, t.dtype) for t in inputs))
        if key not in self._recorded:
            if key not in self._warm:
                self._warm.add(key)
                return self.recorder.warm_up(function, tuple(t.to(self.device) for t in inputs))
            own = tuple(t.to(self.device, copy=True) for t in inputs)
            try:
                self._recorded[key] = own, self.recorder.record(function, own)
            except RuntimeError as error:  # raised by torch and by CUDA; nothing has run
                self.reason = f"CUDA cannot record it: {str(error).strip().splitlines()[0]}"
                return function(*own)
            if len(self._recorded) > self.limit:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        own, replay = self._recorded[key]
        for memory, given in zip(own, inputs):
            memory.copy_(fetchable(given, self.device), non_blocking=True)
        return replay()


def fetchable(given: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor where a GPU can fetch it while the host goes on: on a device, or in pinned memory.

    PyTorch keeps the pinned memory until the copy is done. A copy from other memory makes the host wait.
    """
    return given.pin_memory() if device.type == "cuda" and given.device.type == "cpu" else given


def pad_captions(captions: Tensor) -> Tensor:
    """Returns word ids [B, N] with N padded to a multiple of LENGTH_MULTIPLE; vectors of sentences as they are.

    No model reads ids beyond the length of a caption.
    """
    if captions.is_floating_point():
        return captions
    return torch.nn.functional.pad(captions, (0, -captions.shape[1] % LENGTH_MULTIPLE))


class GraphedSampler:
    """`Model.sample` by CUDA graphs, one per batch size, number of steps and bucket of caption lengths.

    On other devices, and where a model runs step by step, it is `sample` itself.

    Args:
        model: its parameters may change in place.
        limit: graphs kept.
        recorder: CUDA's by default.
    """

    def __init__(self, model: Model, limit: int = 8, recorder: Recorder | None = None) -> None:
        self.model = model
        self.graphs = Graphs(model.canvas.device, limit, recorder=recorder)

    def sample(
        self,
        captions: Tensor,
        lengths: Tensor,
        generator: Generators = None,
        temperature: float = 1.0,
        steps: int | None = None,
    ) -> Samples:
        """As `Model.sample`; the caller owns the results."""
        model, graphs = self.model, self.graphs
        check_real("temperature", temperature, 0)
        if steps is not None:
            check_int("steps", steps, 1)
        if graphs.reason or model.fallback_reason("unroll_prior"):
            return model.sample(captions, lengths, generator=generator, temperature=temperature, steps=steps)
        size = (model.config.steps if steps is None else steps, model.config.latent_units)
        noise = draw_noise(len(captions), size, generator, model.canvas) * temperature
        addresses = tuple(p.data_ptr() for p in model.parameters())  # a graph refers to memory addresses

        def drawn(captions: Tensor, lengths: Tensor, noise: Tensor) -> Samples:
            return model.sample(captions, lengths, noise=noise)

        drawing: Samples = graphs.run(addresses, drawn, pad_captions(captions), lengths, noise)
        return drawing.cloned(captions.shape[1])
