"""Joint training of a drawing model and its refiner, with an optional discriminator beside the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from aligndraw.config import EndToEndConfig
from aligndraw.data import Source
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator
from aligndraw.model import Bound, RefinedDRAW
from aligndraw.noise import stream
from aligndraw.training.guards import check_finite, kept
from aligndraw.training.precision import autocast_to
from aligndraw.training.trainer import Trainer, Update


class EndToEndTrainer(Trainer):
    """Trains a `RefinedDRAW` on KL + NLL of the refined pictures + adversarial · E[−log D(m, s)].

    D is the discriminator of a sharpener, s the sentence, m the refined picture of the posterior's latents. Before each
    update of the model, D takes one step of gradient descent on discriminating m from x. With `config.adversarial` = 0
    there is no discriminator.

    Args:
        model: trained in place, from its present parameters.
        source, config, seed: as for `Trainer`; the seed also determines the discriminator.
    """

    model: RefinedDRAW
    config: EndToEndConfig

    def __init__(self, model: RefinedDRAW, source: Source, config: EndToEndConfig, seed: int = 0) -> None:
        super().__init__(model, source, config, seed)
        if config.adversarial:
            shape = model.config
            sizes = SharpenerConfig(
                shape.image_size, shape.channels, shape.caption_units, config.discriminator_channels
            )
            with torch.random.fork_rng(devices=()):
                torch.default_generator.manual_seed(seed)
                self.auxiliary = ResidualDiscriminator(sizes).to(model.canvas)  # and its dtype
            self.more = ("discriminator_loss", "generator_loss", "accuracy")

    @property
    def ungraphed_reason(self) -> str:
        """As `Trainer.ungraphed_reason`."""
        return "a discriminator is trained too" if self.auxiliary is not None else super().ungraphed_reason

    def launch(self) -> Callable[[], Update]:
        """As `Trainer.launch`; an error in the model's gradient undoes the step of the discriminator too."""
        with kept(() if self.auxiliary is None else self.auxiliary.parameters()):
            return super().launch()

    def _loss_terms(
        self, images: Tensor, captions: Tensor, lengths: Tensor, noise: Tensor
    ) -> tuple[Bound, Tensor | float, Sequence[Tensor]]:
        if self.auxiliary is None:
            return super()._loss_terms(images, captions, lengths, noise)
        refined: list[Tensor] = []

        def capture(mean: Tensor) -> Tensor:
            refined.append(mean)
            return mean

        with autocast_to(self.precision, images.device):
            caption = self.model.encode_captions(captions, lengths)
            bound = self.model.bound(images, caption, noise, refine=capture)
        (mean,), sentences = refined, caption.sentence.detach()
        device = images.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(stream(self.seed, self.total + self.index).initial_seed())  # for dropout
            loss, accuracy = self._step_discriminator(images, mean.detach(), sentences)
            with self.ranks.dropout(self.config.batch_size):
                logits = self.auxiliary.requires_grad_(False)(sentences, mean)
        self.auxiliary.requires_grad_(True)
        generator_loss = binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        return bound, self.config.adversarial * generator_loss, (loss, generator_loss.detach(), accuracy)

    def _step_discriminator(self, real: Tensor, fake: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
        """Steps the discriminator; returns its loss and its accuracy."""
        assert self.auxiliary is not None
        with self.ranks.dropout(self.config.batch_size, 2):
            logits = self.auxiliary(sentences.repeat(2, 1), torch.cat([real, fake]))
        targets = (torch.arange(len(logits), device=logits.device) < len(real)).to(logits)
        loss = binary_cross_entropy_with_logits(logits, targets)
        parameters = list(self.auxiliary.parameters())
        share = self.ranks.weight(self.config.batch_size)
        own = torch.autograd.grad(loss, parameters, torch.full_like(loss, share))
        (total, *gradients), marks = self.ranks.summed([loss.detach() * share, *own])
        what, option = "gradient of the discriminator", "discriminator_rate"
        check_finite(gradients, total, self.index, self.batch_name(self.index), what, option, marks)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                parameter.sub_(self.config.discriminator_rate * gradient)
        return loss.detach(), ((logits > 0) == (targets > 0)).to(logits).mean()
