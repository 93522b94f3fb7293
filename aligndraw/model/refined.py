"""A drawing model whose pictures are refined inside the bound: sharp pictures, trained end to end.

    p(x | Z, y) = Bernoulli(m) or N(m, σ²),  m = clip(σ(c_T) + G(s, 0, σ(c_T)), ε, 1 − ε)

G is the residual generator of a sharpener (`aligndraw.lapgan.generator`); s is the sentence from the model's language
model. A sharpener added after training makes the bound worse (paper, Table 3); here the bound trains both parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.config import RefinedConfig
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.generator import ResidualGenerator
from aligndraw.model.draw import AlignDRAW
from aligndraw.model.interface import Bound, Caption, Refine
from aligndraw.model.samples import Samples
from aligndraw.noise import Generators


class RefinedDRAW(AlignDRAW):
    """An `AlignDRAW` with `refiner`, a residual generator that sharpens its pictures.

    Args:
        config: the shape of both.
    """

    config: RefinedConfig

    def __init__(self, config: RefinedConfig) -> None:
        super().__init__(config)
        self.refiner = ResidualGenerator(
            SharpenerConfig(config.image_size, config.channels, config.caption_units, config.hidden_channels)
        )

    @classmethod
    def of(cls, model: AlignDRAW, generator: ResidualGenerator, epsilon: float = RefinedConfig.epsilon) -> RefinedDRAW:
        """Returns a model of copies of a drawing model and a generator that refines its pictures.

        Raises:
            ValueError: the generator is for other pictures or sentences.
        """
        channels = generator.state_dict()["convolutions.0.weight"].shape[0]
        refined = cls(RefinedConfig(**vars(model.config), hidden_channels=channels, epsilon=epsilon))
        wanted = {name: list(p.shape) for name, p in refined.refiner.named_parameters()}
        got = {name: list(p.shape) for name, p in generator.named_parameters()}
        if wanted != got:
            name = next(name for name in wanted if wanted[name] != got.get(name))
            raise ValueError(f"generator must have {name} of shape {wanted[name]} for the model, got {got.get(name)}")
        refined.load_state_dict(
            {**model.state_dict(), **{f"refiner.{name}": p for name, p in generator.state_dict().items()}}
        )
        return refined.to(model.canvas)

    def refine(self, images: Tensor, sentences: Tensor) -> Tensor:
        """Returns m of σ(c_T) [B, C, H, W] and sentences [B, d].

        Clipping keeps the gradients that point back inside; otherwise a pixel once outside would stay there.
        """
        noise = images.new_zeros(len(images), 1, *self.config.image_size)
        residuals = self.refiner(sentences, noise, images).to(images.dtype)
        mean: Tensor = _Clip.apply(images + residuals, self.config.epsilon)
        return mean

    def bound(
        self,
        images: Tensor,
        caption: Caption,
        noise: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
        refine: Refine | None = None,
    ) -> Bound:
        """As `Model.bound`; `refine` maps pictures that are refined already."""
        sentences = caption.sentence.repeat_interleave(samples, 0)

        def both(drawn: Tensor) -> Tensor:
            mean = self.refine(drawn, sentences)
            return mean if refine is None else refine(mean)

        return super().bound(images, caption, noise, generator, samples, both)

    def draw(self, caption: Caption, noise: Tensor) -> Samples:
        """As `Model.draw`: `images` are refined, the canvases of the steps are not."""
        drawing = super().draw(caption, noise)
        drawing.images = self.refine(drawing.images, caption.sentence)
        return drawing


class _Clip(torch.autograd.Function):
    """x clipped to [ε, 1 − ε], with the gradient of x outside where descent moves x back inside.

    In forward mode it has the derivative of clipping: 0 outside.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, epsilon: float) -> Tensor:
        return x.clamp(epsilon, 1 - epsilon)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.epsilon = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        away = ((x < ctx.epsilon) & (gradient > 0)) | ((x > 1 - ctx.epsilon) & (gradient < 0))
        return gradient.masked_fill(away, 0), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (x,), tangent = ctx.saved_tensors, tangents[0]
        outside: Tensor = (x < ctx.epsilon) | (x > 1 - ctx.epsilon)
        return tangent.masked_fill(outside, 0)  # type: ignore[no-any-return]
