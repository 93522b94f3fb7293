"""The trainer of drawing models and VAEs: each epoch draws new examples, each update reads one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aligndraw.config import TrainingConfig
from aligndraw.data import Examples, Resident, Source, as_images, to_parts, to_tensors
from aligndraw.data.augmentation import AugmentedSource
from aligndraw.model import Bound, Model
from aligndraw.model.graphs import Graphs, Recorder, pad_captions
from aligndraw.noise import draw_noise, stream
from aligndraw.training.fit import fit
from aligndraw.training.guards import NotFinite
from aligndraw.training.optimizer import RMSprop, build_optimizer, clip_scales, learning_rate
from aligndraw.training.precision import autocast_to, float32_products, resolve_precision
from aligndraw.training.state import Resumable

_UPLOADED = 4096  # images copied to a device together


@dataclass(frozen=True)
class Update:
    """The metrics of one update: means over its batch, in nats."""

    index: int  # from 0
    epoch: int  # from 0
    kl: float
    nll: float
    gradient_norm: float
    learning_rate: float
    more: Mapping[str, float] = field(default_factory=dict)  # metrics of further terms of the loss

    @property
    def bound(self) -> float:
        """KL + NLL, the negative of the variational bound (Eq. 9)."""
        return self.kl + self.nll

    def numbers(self) -> dict[str, float]:
        """Returns the bound, its terms and the further metrics."""
        names = ("bound", "kl", "nll", "gradient_norm", "learning_rate")
        return {**{name: getattr(self, name) for name in names}, **self.more}


class Trainer(Resumable[Update]):
    """Trains a model. `state_dict` holds all that the next `update` depends on.

    Args:
        model: trained in place, from its present parameters; call `model.reset_parameters(config.init)` for fresh ones.
        source: of the examples.
        config: the recipe.
        seed: of the examples and of the noise.
        recorder: of CUDA graphs; None records on GPUs with PyTorch's, and on other devices not at all.

    Raises:
        ValueError: words of sentence vectors are to be dropped; or several processes cannot
            share the batches.

    Attributes:
        graphs: the recorded updates.
        more: names of the metrics that an update measures beside the bound.
    """

    SHARED = True
    model: Model
    more: Sequence[str] = ()

    def __init__(
        self,
        model: Model,
        source: Source,
        config: TrainingConfig,
        seed: int = 0,
        recorder: Recorder | None = None,
    ) -> None:
        precision = resolve_precision(model.canvas.device, config.precision)
        super().__init__(model, build_optimizer(model, config, precision), precision)
        if config.word_dropout and model.language is None:
            raise ValueError(f"word_dropout must be 0 for a model of sentence vectors, got {config.word_dropout!r}")
        changes = {name: getattr(config, name) for name in ("flip", "shift", "word_dropout")}
        if any(changes.values()):
            source = AugmentedSource(source, **changes)
        self.source, self.config, self.seed = source, config, seed
        if config.ema:
            self.average = {n: p.detach().clone() for n, p in model.named_parameters()}
        if self.ranks.count > config.batch_size:
            raise ValueError(
                f"batch_size must be at least the number of processes, {self.ranks.count}, got {config.batch_size}"
            )
        if self.ranks.count > 1 and model.mixes_captions:
            raise ValueError("the released conventions mix the captions of a batch: train in one process")
        self._exchange = self.ranks.exchange(model)
        self.graphs = Graphs(model.canvas.device, limit=8, recorder=recorder)  # one per bucket of caption lengths
        self._epoch: tuple[int, Examples] | None = None
        self._on_device = model.canvas.is_cuda or recorder is not None
        self._resident: tuple[Resident, Tensor] | None = None  # examples, and their stored images on the device
        self._next_batch: tuple[Tensor, ...] | None = None  # the batch of the next update
        # 1 once a graphed update has a figure that is not finite. Later ones change nothing until the host resets it.
        self._skipped = torch.zeros((), device=model.canvas.device)

    @property
    def updates_per_epoch(self) -> int:
        return self.config.updates_per_epoch

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.config.epochs * self.updates_per_epoch

    @contextmanager
    def averaged(self) -> Iterator[Model]:
        """Yields the model; inside the block its parameters are their moving average, where `config.ema` keeps one."""
        if not self.average:
            yield self.model
            return
        own = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self._set_parameters(self.average)
        try:
            yield self.model
        finally:
            self._set_parameters(own)

    @torch.no_grad()
    def _set_parameters(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])

    @property
    def ungraphed_reason(self) -> str:
        """Why updates are not replayed from a CUDA graph; "" where they are."""
        if self.graphs.reason:
            return self.graphs.reason
        if stepwise := self.model.fallback_reason("unroll"):
            return f"step by step ({stepwise})"
        if any(getattr(part, "sparse", False) for part in self.model.modules()):
            return "sparse gradients"
        return ""

    @property
    def updates_in_flight(self) -> int:  # type: ignore[override]
        """1 where updates are graphed, so that the GPU never waits for the host; else 0."""
        return 0 if self.ungraphed_reason else 1

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.graphs.forget()  # they refer to the old tensors of the optimizer's state
        self._next_batch = None

    def update(self) -> Update:
        """Runs one update.

        Raises:
            aligndraw.training.guards.NotFinite: the loss or the gradient is not finite; the model keeps its parameters.
        """
        return self.launch()()

    def batch_name(self, index: int) -> str:
        epoch, position = divmod(index, self.updates_per_epoch)
        first = position * self.config.batch_size
        return f"examples {first + 1} to {first + self.config.batch_size} of epoch {epoch + 1}"

    def launch(self) -> Callable[[], Update]:
        """Starts one update.

        With a CUDA graph it returns without waiting for the GPU. Without one the update is finished when it returns.

        Returns:
            a function that returns the metrics of the update. With a CUDA graph it waits for them, and raises
            NotFinite if the loss or the gradient is not finite; the trainer is then in the state before that update,
            whatever was launched after it.

        Raises:
            aligndraw.training.guards.NotFinite: the loss or the gradient is not finite, and there is no CUDA graph; the
                model keeps its parameters.
        """
        config, index = self.config, self.index
        tensors, self._next_batch = self._next_batch or self._batch(index), None
        numbers = (
            min(1.0, (index + 1) / config.kl_warmup) if config.kl_warmup else 1.0,
            learning_rate(config, index),
            min(config.ema, (index + 1) / (index + 10)),  # a short memory at the start forgets the initial weights
        )
        if self.ungraphed_reason:
            device = self.model.canvas.device
            weight, rate, decay = numbers
            with float32_products(self.precision == "tf32"):
                measured, scales = self._gradient(*(t.to(device) for t in tensors), weight=weight)
                update = self._finish_update(index, rate, measured.tolist())
                self._step(scales, rate, decay)
            self.index += 1
            return lambda: update
        given = torch.tensor(numbers, dtype=torch.float32)  # float32 for every model: fused Adam reads its rate so
        with float32_products(self.precision == "tf32"):
            measured = self.graphs.run("update", self._graphed_update, *tensors, given)
        metrics = _async_to_host(measured)
        self.index += 1
        if self.index < self.total:
            self._next_batch = self._batch(self.index)  # while the GPU computes
        return lambda: self._finish_update(index, numbers[1], metrics())

    def _finish_update(self, index: int, rate: float, metrics: list[float]) -> Update:
        """Returns the update of these metrics.

        Where a figure is not finite, restores the state before it and raises.
        """
        kl, nll, norm, *rest = metrics
        more, marks = rest[: len(self.more)], rest[len(self.more) :]
        if not np.isfinite(metrics).all():
            self.index, self._next_batch = index, None
            self._skipped.zero_()
            what = "gradient" if np.isfinite([kl, nll, *more]).all() else "loss"
            raise NotFinite(what, index, self.batch_name(index), f"KL {kl:g}, NLL {nll:g} nats", marks=marks)
        return Update(index, index // self.updates_per_epoch, kl, nll, norm, rate, dict(zip(self.more, more)))

    def _batch(self, index: int) -> tuple[Tensor, ...]:
        """Returns this process's pictures (or their parts), captions, lengths and noise of an update.

        The index of the update determines those of all processes.
        """
        config, canvas = self.config, self.model.canvas
        epoch, position = divmod(index, self.updates_per_epoch)
        rows = self.ranks.share(range(position * config.batch_size, (position + 1) * config.batch_size))
        examples = self._examples(epoch)
        pictures: tuple[Tensor, ...]
        if self._resident is not None:
            pictures, captions, lengths = to_parts(self._resident[0], rows)
        else:
            images, captions, lengths = to_tensors(examples, rows)
            pictures = (images,)
        size = (self.model.config.steps, self.model.config.latent_units)
        noise = draw_noise(config.batch_size, size, stream(self.seed, index, canvas.device), canvas)
        noise = noise[self.ranks.share(range(config.batch_size))]
        return *pictures, captions if self.ungraphed_reason else pad_captions(captions), lengths, noise

    def _graphed_update(self, *inputs: Tensor) -> Tensor:
        """Runs an update that a CUDA graph can record; returns its metrics as `_gradient` does.

        Args:
            inputs: those of `_batch`; then the weight of the KL, the learning rate and the decay of the average.
        """
        *tensors, numbers = inputs
        weight, rate, decay = numbers.unbind()
        measured, scales = self._gradient(*tensors, weight=weight)
        self._skipped.copy_(torch.maximum(self._skipped, (~measured.isfinite().all()).to(self._skipped)))
        self._step(scales, rate, torch.where(self._skipped > 0, 1.0, decay), skipped=self._skipped)
        return measured

    def _gradient(self, *tensors: Tensor, weight: Tensor | float) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """Computes the gradient into `.grad`.

        Returns:
            KL, NLL, the norm of the gradient, the metrics `more` and the marks of `NotFinite`, in one tensor; the
            clipping factor of each parameter.
        """
        *pictures, captions, lengths, noise = tensors
        if self._resident is not None:
            examples, stored = self._resident
            images = as_images(examples.compose(stored, *pictures))
        else:
            (images,) = pictures
        bound, penalty, more = self._loss_terms(images, captions, lengths, noise)
        kl, nll = bound.kl.mean(), bound.nll.mean()
        self.optimizer.zero_grad()
        loss = weight * kl + nll + penalty
        share = self.ranks.weight(self.config.batch_size)
        loss.backward(torch.full_like(loss, share))
        metrics, marks = self._exchange.finish(torch.stack([kl.detach(), nll.detach(), *more]) * share)
        norm, scales = clip_scales(self.model.parameters(), self.config)
        return torch.cat([metrics[:2], norm[None], metrics[2:], marks]), scales

    def _step(
        self,
        scales: dict[Tensor, Tensor],
        rate: Tensor | float,
        decay: Tensor | float,
        skipped: Tensor | None = None,
    ) -> None:
        """Steps the parameters by their gradients times `scales`, then updates their average.

        Changes nothing where skipped.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if "capturable" in group:  # a torch optimizer
                group["capturable"] = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
        self._decay_weights(rate, skipped)
        if isinstance(self.optimizer, RMSprop):
            self.optimizer.step(scales=scales)
        else:
            for p, scale in scales.items():
                p.grad.mul_(scale)  # type: ignore[union-attr]
            self.optimizer.step()
        if self.average:
            self._update_ema(decay)

    @torch.no_grad()
    def _decay_weights(self, rate: Tensor | float, skipped: Tensor | None) -> None:
        """Subtracts `weight_decay` times the learning rate times every matrix from it; nothing where skipped."""
        if not self.config.weight_decay:
            return
        share = self.config.weight_decay * rate
        kept = 1 - (share if skipped is None else share * (1 - skipped))
        matrices = [p for p in self.model.parameters() if p.ndim == 2 and p.grad is not None]
        torch._foreach_mul_(matrices, kept)  # type: ignore[arg-type]

    def _loss_terms(
        self, images: Tensor, captions: Tensor, lengths: Tensor, noise: Tensor
    ) -> tuple[Bound, Tensor | float, Sequence[Tensor]]:
        """Returns the bound of a batch, further terms of the loss, and the metrics `more`."""
        with autocast_to(self.precision, self.model.canvas.device):
            return self.model(images, captions, lengths, noise=noise), 0.0, ()

    @torch.no_grad()
    def _update_ema(self, decay: Tensor | float) -> None:
        """Moves the average towards the parameters."""
        means, own = list(self.average.values()), [p.detach() for p in self.model.parameters()]
        if isinstance(decay, Tensor):
            steps = torch._foreach_sub(own, means)
            torch._foreach_mul_(steps, 1 - decay)
            torch._foreach_add_(means, steps)
        else:
            torch._foreach_lerp_(means, own, 1 - decay)

    def _examples(self, epoch: int) -> Examples:
        if self._epoch is None or self._epoch[0] != epoch:
            examples = self.source.epoch(self.seed, epoch, self.config.epoch_size)
            self._epoch, self._resident = (epoch, examples), self._upload(examples)
        return self._epoch[1]

    def _upload(self, examples: Examples) -> tuple[Resident, Tensor] | None:
        """Returns examples with their stored images on the device.

        Returns None where the device cannot compose their pictures, or the images do not fit.
        """
        if not (self._on_device and isinstance(examples, Resident) and self._fits(examples)):
            return None
        if self._resident is not None and self._resident[0].images is examples.images:
            return examples, self._resident[1]
        self.graphs.forget()  # they read the earlier images
        stored = torch.empty(examples.images.shape, dtype=torch.uint8, device=self.model.canvas.device)
        for start in range(0, len(stored), _UPLOADED):  # never all in the memory of the host
            stored[start : start + _UPLOADED] = torch.from_numpy(np.array(examples.images[start : start + _UPLOADED]))
        return examples, stored

    def _fits(self, examples: Resident) -> bool:
        """Returns whether the stored images take at most a quarter of the GPU's memory."""
        device = self.model.canvas.device
        if device.type != "cuda":
            return True
        memory: int = torch.cuda.get_device_properties(device).total_memory
        return 4 * examples.images.nbytes <= memory


def _async_to_host(measured: Tensor) -> Callable[[], list[float]]:
    """Starts copying metrics to the host; returns a function that waits for them."""
    metrics = torch.empty_like(measured, device="cpu", pin_memory=measured.is_cuda)
    metrics.copy_(measured, non_blocking=True)
    if not measured.is_cuda:
        return metrics.tolist
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(measured.device))

    def wait() -> list[float]:
        arrived.synchronize()
        numbers: list[float] = metrics.tolist()
        return numbers

    return wait


def train(
    model: Model,
    source: Source,
    config: TrainingConfig,
    seed: int = 0,
    on_update: Callable[[Update], None] = lambda update: None,
) -> Trainer:
    """Trains a model in place from its first update to its last; arguments as for `Trainer`.

    Args:
        on_update: called with each finished update.

    Returns:
        the trainer, with the optimizer's state.
    """
    trainer = Trainer(model, source, config, seed)
    fit(trainer, on_update=on_update)
    return trainer
