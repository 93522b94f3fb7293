"""The configurations of the sharpening networks and of their training."""

from __future__ import annotations

from dataclasses import dataclass

from aligndraw.config import PRECISIONS
from aligndraw.settings import Config, setting


@dataclass(frozen=True)
class SharpenerConfig(Config):
    """One residual level: its generator and its discriminator. The defaults are the paper's, for COCO."""

    image_size: tuple[int, int] = setting((32, 32), "height and width of the images, in pixels")
    channels: int = setting(3, "channels of the images: 1 for grey, 3 for colour")
    sentence_units: int = setting(4800, "d, size of the sentence vector")
    hidden_channels: int = setting(
        128, "channels of each hidden convolution: 128 as the paper's authors, 64 as LAPGAN", formerly="planes"
    )

    def __post_init__(self) -> None:
        self._check()
        if min(self.image_size) < 9:
            raise ValueError(  # two 5 x 5 convolutions without padding, the second with stride 2
                f"image_size must be two whole numbers of at least 9, got {self.image_size!r}"
            )


@dataclass(frozen=True)
class LAPGANConfig(SharpenerConfig):
    """A pyramid of two levels; the defaults of the second are those of LAPGAN's released code for CIFAR-10."""

    title, in_steps, steps = "LAPGAN", False, 1

    sentences: str = setting("caption", "reader of captions: as for a drawing model")
    hidden_channels: int = setting(64, "channels of each hidden convolution of the finer level", formerly="planes")
    noise_units: int = setting(100, "size of the noise of the coarser level")
    generator_units: int = setting(8000, "units of both hidden layers of the coarser level's generator")
    discriminator_units: int = setting(1600, "units of both hidden layers of the coarser level's discriminator")


@dataclass(frozen=True)
class AdversarialConfig(Config):
    """How a generator is trained against its discriminator.

    The defaults are those of LAPGAN's released code. Options that it lacks are off by default.
    """

    epochs: int = setting(6, "epochs; each draws as many images at random as there are")
    batch_size: int = setting(128, "images per update of each network; half of the discriminator's are real")
    optimizer: str = setting("sgd", "sgd, gradient descent; or adam, whose beta1 is the momentum", ("sgd", "adam"))
    learning_rate: float = setting(0.02, "initial step size")
    decay: float = setting(4e-5, "each epoch divides the step size by 1 + decay, down to 1e-6")
    momentum: float = setting(0.0, "momentum in the first epoch; the gradient has the weight 1 - momentum")
    momentum_step: float = setting(8e-4, "increase of the momentum per epoch")
    momentum_limit: float = setting(0.7, "largest momentum")
    l1_weight: float = setting(
        0.0, "weight of the mean absolute difference from the real image in the generator's loss"
    )
    precision: str = setting(
        "auto",
        "precision of the convolutions: float32; bf16; tf32, on NVIDIA GPUs; or auto, bf16 where that is faster (CPUs "
        "with AVX512_BF16 or AMX), else float32",
        PRECISIONS,
    )

    def __post_init__(self) -> None:
        self._check()
        if self.batch_size % 2:
            raise ValueError(f"batch_size must be even, got {self.batch_size}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        for name in ("decay", "momentum_step", "l1_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}")
        for name in ("momentum", "momentum_limit"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}")

    def learning_rate_in(self, epoch: int) -> float:
        """Returns the step size of an epoch, counted from 0."""
        return max(self.learning_rate / (1 + self.decay) ** epoch, 1e-6)

    def momentum_in(self, epoch: int) -> float:
        """Returns the momentum of an epoch, counted from 0."""
        return max(self.momentum, min(self.momentum + self.momentum_step * epoch, self.momentum_limit))


@dataclass(frozen=True)
class SharpeningConfig(AdversarialConfig):
    """How a sharpener is trained."""

    coarse: str = setting(
        "pyramid",
        "blurry inputs in training: pyramid, up(down(x)) of real images x; or reconstructions of them by the drawing "
        "model, as blurry as its drawings",
        ("pyramid", "reconstructions"),
    )
    noise: float = setting(1.0, "half the range of the noise in training; a trained sharpener gets none")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise < 0:
            raise ValueError(f"noise must not be negative, got {self.noise!r}")


# Sizes and recipes of the sharpener and of LAPGAN. The first is the default, except for sharpeners of scenes.
SHARPENERS = {
    "published": (SharpenerConfig(), SharpeningConfig()),
    "scenes": (
        SharpenerConfig(hidden_channels=32),
        SharpeningConfig(
            epochs=1,
            batch_size=64,
            learning_rate=5e-4,
            momentum=0.5,
            momentum_step=0.0,
            coarse="reconstructions",
            optimizer="adam",
            noise=0.0,
            l1_weight=80.0,
        ),
    ),
}
PYRAMIDS = {
    "scenes": (
        LAPGANConfig(hidden_channels=16, generator_units=512, discriminator_units=256),
        AdversarialConfig(
            optimizer="adam", learning_rate=3e-4, decay=0.5, momentum=0.5, momentum_step=0.0, l1_weight=20.0
        ),
    ),
    "released": (LAPGANConfig(), AdversarialConfig()),
}
