"""The configurations of models and of their training, with the paper's values.

The help of each field is that of its option on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from aligndraw.json_files import entry
from aligndraw.settings import Config, preset_named, setting

_C = TypeVar("_C", bound="Config")


class ModelConfig(Config):
    """The base of the configurations of models.

    Attributes:
        KIND: the entry "kind" of `to_dict`; a dictionary without one belongs to a drawing model.
        in_steps: true for a model that draws in steps.
        caption_units: size of the vectors of a caption.
    """

    KIND: ClassVar[str]
    in_steps: ClassVar[bool]

    image_size: tuple[int, int]
    channels: int
    steps: int
    latent_units: int
    language_units: int
    vocabulary_size: int
    sentences: str
    sentence_units: int
    likelihood: str
    observation_variance: float
    canvas_init: float
    conventions: str

    @property
    def title(self) -> str:
        """The paper's name of the model."""
        raise NotImplementedError

    @property
    def caption_units(self) -> int:
        return self.sentence_units or 2 * self.language_units

    def to_dict(self) -> dict[str, Any]:
        """Returns the kind and the fields as plain Python values, ready for JSON."""
        return {"kind": self.KIND, **super().to_dict()}

    @classmethod
    def from_dict(cls: type[_C], values: dict[str, Any]) -> _C:
        """Returns the configuration of a `to_dict`. Raises ValueError for an unknown field, or another kind."""
        kind = entry(values, "kind", str, default=AlignDRAWConfig.KIND)
        if kind != cls.KIND:  # type: ignore[attr-defined]
            raise ValueError(f"{cls.__name__} is of kind {cls.KIND!r}, got {kind!r}")  # type: ignore[attr-defined]
        return super().from_dict({k: v for k, v in values.items() if k != "kind"})

    def _check_model(self) -> None:
        self._check()
        if self.observation_variance <= 0:
            raise ValueError(f"observation_variance must be above 0, got {self.observation_variance!r}")


def model_config(values: dict[str, Any]) -> ModelConfig:
    """Returns the configuration of a `to_dict` of any kind of model.

    Raises:
        ValueError: there is no such kind, or a field is wrong.
    """
    kinds: dict[Any, type[ModelConfig]] = {kind.KIND: kind for kind in MODEL_CONFIGS}
    kind = entry(values, "kind", str, default=AlignDRAWConfig.KIND)
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
    return kinds[kind].from_dict(values)


_SENTENCES = setting(
    "caption",
    "reader of captions: caption, the model's own language model; or a sentence encoder, "
    "combined-skip:DIR, uni-skip:DIR, bi-skip:DIR, vectors:FILE or transformer:NAME",
)
_SENTENCE_UNITS = setting(
    0, "d, size of the vectors of a sentence encoder; 0 to take the encoder's own, or without one"
)


@dataclass(frozen=True)
class AlignDRAWConfig(ModelConfig):
    """The shape of a model (the paper's Table 2) and the choices that the paper leaves open.

    `AlignDRAWConfig.preset(name)` returns a named one; `replace(field=value)` changes fields.
    """

    KIND = "draw"
    in_steps = True

    image_size: tuple[int, int] = setting((60, 60), "height and width of the canvas, in pixels")
    channels: int = setting(1, "channels of the image: 1 for grey, 3 for colour")
    steps: int = setting(32, "T, the number of drawing steps")
    read_size: int = setting(8, "p of the glimpse, which a grid of p x p Gaussian filters reads")
    write_size: int = setting(8, "p of the patch written at each step")
    tints: int = setting(
        0, "masks of a step that are multiplied by a colour each and added to its patch; 0 for none, as in the paper"
    )
    opacity: bool = setting(
        False,
        "patches have an opacity and cover the canvas, so that they need not know the ground under them; false for "
        "patches that are added, as in the paper",
    )
    shape_units: int = setting(
        0,
        "units that are linear in the words of a step; from them come the patch, its opacity and the mask of its first "
        "tint, so that a word has one shape and its mirror image, wherever it is drawn. 0 for shapes that come from "
        "h_dec, as in the paper",
    )
    window_span: float = setting(
        0.0,
        "pixels from the first to the last filter of both grids, with sigma half the spacing; 0 for windows whose size "
        "depends on the state at each step, as in the paper",
    )
    read_window: str = setting(
        "own",
        "window of the glimpse: own, from a head of its own, as in the paper; or write, the window of the last write "
        "with the intensity e, so that the glimpse cannot part from the drawing",
        ("own", "write"),
    )
    encoder_units: int = setting(300, "units of the inference LSTM")
    decoder_units: int = setting(300, "n, units of the generative LSTM")
    latent_units: int = setting(150, "size of the latent z of a step")
    language_units: int = setting(128, "m, units of the language LSTM in each direction")
    align_units: int = setting(512, "l, hidden units of the attention to words")
    vocabulary_size: int = setting(22, "K, number of words in the vocabulary")
    align: bool = setting(True, "attend to the words at each step; false gives noalignDRAW")
    word_values: str = setting(
        "states",
        "values of the attention: states, the language model's states at the words, as in the paper; embeddings, a "
        "vector per word, so that the other words decide only where to attend; or both, of which shape units read the "
        "embeddings alone",
        ("states", "embeddings", "both"),
    )
    word_keys: str = setting(
        "states",
        "source of the attention's keys: states, as in the paper; or embeddings, so that a word is found by itself, "
        "whatever other words are beside it",
        ("states", "embeddings"),
    )
    attention_scale: float = setting(
        1.0, "factor of the energies of words before their softmax; above 1 each step attends to fewer words"
    )
    attention_query: str = setting(
        "state",
        "source of the attention's query: state, h_dec, as in the paper; or step, the number of the step alone, so "
        "that a step asks the same of all captions, and no combination of words can change its question",
        ("state", "step"),
    )
    sentences: str = _SENTENCES
    sentence_units: int = _SENTENCE_UNITS
    likelihood: str = setting("bernoulli", "distribution of a pixel given the canvas", ("bernoulli", "gaussian"))
    observation_variance: float = setting(1.0, "variance of a pixel under the gaussian likelihood")
    canvas_init: float = setting(-10.0, "initial value of the learned first canvas, before the sigmoid")
    conventions: str = setting(
        "paper",
        "paper, or the window grid and language model of the authors' released code",
        ("paper", "released"),
    )

    def __post_init__(self) -> None:
        self._check_model()
        if self.align and (self.sentence_units or self.sentences != "caption"):
            raise ValueError("align must be false for vectors of sentences, which have no words to attend to")
        if self.window_span < 0:
            raise ValueError(f"window_span must not be negative, got {self.window_span!r}")
        if self.window_span and min(self.read_size, self.write_size, max(self.image_size)) < 2:
            raise ValueError(
                f"window_span must be 0 for a grid of one filter or an image of one pixel, got {self.window_span!r}"
            )
        for name in ("word_values", "word_keys"):
            if not self.align and getattr(self, name) != "states":
                raise ValueError(f"{name} must be states where align is false, got {getattr(self, name)!r}")
        if not self.attention_scale > 0:
            raise ValueError(f"attention_scale must be above 0, got {self.attention_scale!r}")
        if not self.align and self.attention_scale != 1:
            raise ValueError(f"attention_scale must be 1 where align is false, got {self.attention_scale!r}")
        if not self.align and self.attention_query != "state":
            raise ValueError(f"attention_query must be state where align is false, got {self.attention_query!r}")
        if not self.align and self.shape_units:
            raise ValueError(f"shape_units must be 0 where align is false, got {self.shape_units!r}")

    @property
    def word_units(self) -> int:
        """Size of a word's value."""
        return 2 * self.caption_units if self.word_values == "both" else self.caption_units

    @property
    def title(self) -> str:
        """The paper's name of the model."""
        return "alignDRAW" if self.align else "skipthoughtDRAW" if self.sentences != "caption" else "noalignDRAW"

    @classmethod
    def preset(cls, name: str) -> AlignDRAWConfig:
        """Returns a named configuration.

        `paper`, `coco`: the rows of the paper's Table 2. `quick`: MNIST with captions with a quarter of the steps,
        alignment units and latents, for a laptop, and with windows, attention and words that serve captions never seen;
        `best`: the same with 12 steps. `scenes`: 32x32 in colour, for a laptop. `photos`: with half of its units, for a
        few thousand photographs. Raises ValueError for another name.
        """
        return preset_named(_MODELS, name)


@dataclass(frozen=True)
class RefinedConfig(AlignDRAWConfig):
    """A drawing model whose pictures a residual generator refines inside the bound (`aligndraw.model.refined`)."""

    KIND = "refined-draw"

    hidden_channels: int = setting(128, "channels of each hidden convolution of the refiner", formerly="planes")
    epsilon: float = setting(1e-3, "the refined mean of a pixel is clipped to [epsilon, 1 - epsilon]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.epsilon < 0.5:
            raise ValueError(f"epsilon must be above 0 and below 0.5, got {self.epsilon!r}")

    @property
    def title(self) -> str:
        """The paper's name of the drawing model, and that it is refined."""
        return f"end-to-end refined {super().title}"


@dataclass(frozen=True)
class VAEConfig(ModelConfig):
    """The base of the two variational auto-encoders: one latent, and a least-squares loss on pixels."""

    in_steps = False
    steps = 1
    conventions = "paper"

    image_size: tuple[int, int] = setting((32, 32), "height and width of the image, in pixels")
    channels: int = setting(3, "channels of the image: 1 for grey, 3 for colour")
    latent_units: int = setting(275, "size of the latent z")
    language_units: int = setting(128, "m, units of the language LSTM in each direction")
    vocabulary_size: int = setting(25323, "K, number of words in the vocabulary")
    sentences: str = _SENTENCES
    sentence_units: int = _SENTENCE_UNITS
    likelihood: str = setting("gaussian", "distribution of a pixel given the latent", ("bernoulli", "gaussian"))
    observation_variance: float = setting(1.0, "variance of a pixel under the gaussian likelihood")
    canvas_init: float = setting(0.0, "initial value of the learned mean of all images, before the sigmoid")

    def __post_init__(self) -> None:
        self._check_model()


@dataclass(frozen=True)
class FullyConnectedVAEConfig(VAEConfig):
    """The shape of the Fully-Connected VAE. The paper names it and gives no sizes."""

    KIND = "fc-vae"
    title = "Fully-Connected VAE"

    hidden_units: int = setting(1000, "units of each of the two hidden layers of the encoder and of the decoder")

    @classmethod
    def preset(cls, name: str) -> FullyConnectedVAEConfig:
        """Returns `coco`, or the smaller `scenes` or `photos`, for a laptop. Raises ValueError for another name."""
        return preset_named(_FULLY_CONNECTED, name)


@dataclass(frozen=True)
class ConvolutionalVAEConfig(VAEConfig):
    """The shape of the Conv-Deconv VAE. The paper names it and gives no sizes."""

    KIND = "conv-vae"
    title = "Conv-Deconv VAE"

    hidden_channels: int = setting(
        64,
        "channels of the first of three convolutions; the others have twice and four times as many",
        formerly="planes",
    )

    @classmethod
    def preset(cls, name: str) -> ConvolutionalVAEConfig:
        """Returns `coco`, or the smaller `scenes` or `photos`, for a laptop. Raises ValueError for another name."""
        return preset_named(_CONVOLUTIONAL, name)


MODEL_CONFIGS = (AlignDRAWConfig, RefinedConfig, FullyConnectedVAEConfig, ConvolutionalVAEConfig)


PRECISIONS = ("float32", "tf32", "bf16", "auto")


@dataclass(frozen=True)
class TrainingConfig(Config):
    """How a model is trained. `TrainingConfig.preset(name)` returns a named recipe."""

    epochs: int = setting(150, "epochs of epoch_size examples")
    epoch_size: int = setting(10_000, "examples per epoch; each epoch draws new ones")
    batch_size: int = setting(100, "examples per update")
    optimizer: str = setting(
        "rmsprop",
        "rmsprop as the authors run it; adam; or muon, with adam for biases and other non-matrix parameters",
        ("rmsprop", "adam", "muon"),
    )
    learning_rate: float = setting(1e-3, "initial step size")
    schedule: str = setting(
        "step",
        "step: learning_rate x 0.1 after drop_epoch epochs; cosine: falls to a hundredth at the end",
        ("step", "cosine"),
    )
    drop_epoch: int = setting(110, "epochs before the step schedule lowers the learning rate")
    clip_norm: float = setting(10.0, "norm to which larger gradients are scaled down; 0 for no clipping")
    clip: str = setting(
        "per_tensor",
        "per_tensor: each gradient by its own norm, as the authors run it; global: all by their joint norm",
        ("per_tensor", "global"),
    )
    init: str = setting(
        "paper",
        "paper: every parameter N(0, 0.01^2); fan_in: weights N(0, 0.7^2 / inputs)",
        ("paper", "fan_in"),
    )
    kl_warmup: float = setting(0.0, "updates in which the weight of the KL grows from 0 to 1")
    weight_decay: float = setting(
        0.0,
        "decoupled weight decay: each update subtracts weight_decay x learning rate x W from each matrix W; 0 for none",
    )
    flip: bool = setting(
        False, "mirror each training picture left-right with probability 1/2, unless its caption says left or right"
    )
    shift: int = setting(0, "most pixels by which a training picture is shifted along each side")
    word_dropout: float = setting(
        0.0, "share of the words of training captions that become [UNK], or are left out where the vocabulary has none"
    )
    ema: float = setting(
        0.0, "decay per update of a moving average of the weights, which is evaluated and saved; 0 for none"
    )
    precision: str = setting(
        "float32",
        "precision of the factors of large matrix products: float32; bf16; tf32, on NVIDIA GPUs; or auto, bf16 where "
        "that is faster (CPUs with AVX512_BF16 or AMX), else float32. Sums are in float32",
        PRECISIONS,
    )
    patience: int = setting(0, "epochs without a better validation bound before training stops; 0 to never stop early")

    def __post_init__(self) -> None:
        self._check()
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema!r}")
        if not 0 <= self.word_dropout < 1:
            raise ValueError(f"word_dropout must be at least 0 and below 1, got {self.word_dropout!r}")
        for name in ("clip_norm", "kl_warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}")
        if self.epoch_size % self.batch_size:
            raise ValueError(
                f"epoch_size must be a multiple of batch_size, got {self.epoch_size} and {self.batch_size}"
            )

    @property
    def updates_per_epoch(self) -> int:
        return self.epoch_size // self.batch_size

    @classmethod
    def preset(cls, name: str) -> TrainingConfig:
        """Returns a named recipe.

        `paper`, `coco`: RMSprop at 1e-3, then 1e-4 (appendix B), on MNIST with captions, and on COCO, each of its
        captions once per epoch. `quick`: Muon with a cosine schedule and weight decay, for about five minutes on two
        cores; `best`: the same for 6,300 updates; `scenes`: as quick, for 9,600; `photos`: as quick, for
        6,000, with mirrored and shifted pictures, dropped words and less weight decay; `vae`: Adam for 12,800. Raises
        ValueError for another name.
        """
        return preset_named(_RECIPES, name)


@dataclass(frozen=True)
class EndToEndConfig(TrainingConfig):
    """How a drawing model and its refiner are trained on together, from their present parameters."""

    epochs: int = setting(8, "epochs of epoch_size examples")
    epoch_size: int = setting(12_800, "examples per epoch; each epoch draws new ones")
    batch_size: int = setting(64, "examples per update")
    optimizer: str = setting("adam", "rmsprop as the authors run it; adam; or muon", ("rmsprop", "adam", "muon"))
    learning_rate: float = setting(2e-4, "initial step size")
    schedule: str = setting(
        "cosine",
        "step: learning_rate x 0.1 after drop_epoch epochs; cosine: falls to a hundredth at the end",
        ("step", "cosine"),
    )
    precision: str = setting(
        "auto", "precision of large matrix products and convolutions, as in other trainings", PRECISIONS
    )
    adversarial: float = setting(
        0.0, "weight, in nats, of the cross-entropy of a discriminator on refined pictures; 0 for no discriminator"
    )
    discriminator_channels: int = setting(
        64, "channels of each hidden convolution of the discriminator", formerly="discriminator_planes"
    )
    discriminator_rate: float = setting(0.02, "step size of the gradient descent of the discriminator")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversarial < 0:
            raise ValueError(f"adversarial must not be negative, got {self.adversarial!r}")
        if not self.discriminator_rate > 0:
            raise ValueError(f"discriminator_rate must be above 0, got {self.discriminator_rate!r}")


_LAPTOP = AlignDRAWConfig(
    steps=8,
    align_units=128,
    latent_units=40,
    window_span=24.0,
    read_window="write",
    word_values="embeddings",
    attention_scale=1.7,
    canvas_init=-7.0,
)

_MODELS = {
    "paper": AlignDRAWConfig(),
    "coco": AlignDRAWConfig(
        image_size=(32, 32),
        channels=3,
        read_size=9,
        write_size=9,
        encoder_units=550,
        decoder_units=550,
        latent_units=275,
        vocabulary_size=25323,
        canvas_init=0.0,
    ),
    "quick": _LAPTOP,
    "best": _LAPTOP.replace(steps=12),
    "scenes": AlignDRAWConfig(
        image_size=(32, 32),
        channels=3,
        steps=10,
        read_size=12,
        write_size=16,
        tints=4,
        opacity=True,
        shape_units=64,
        encoder_units=256,
        decoder_units=256,
        latent_units=64,
        align_units=128,
        vocabulary_size=107,
        word_values="embeddings",
        attention_scale=5.0,
        canvas_init=0.0,
    ),
    "photos": AlignDRAWConfig(
        image_size=(32, 32),
        channels=3,
        steps=8,
        encoder_units=128,
        decoder_units=128,
        latent_units=32,
        language_units=32,
        align_units=64,
        vocabulary_size=1000,
        word_values="embeddings",
        canvas_init=0.0,
    ),
}

_FULLY_CONNECTED = {
    "coco": FullyConnectedVAEConfig(),
    "photos": FullyConnectedVAEConfig(hidden_units=512, latent_units=64, language_units=32, vocabulary_size=1000),
    "scenes": FullyConnectedVAEConfig(hidden_units=512, latent_units=64, vocabulary_size=107),
}
_CONVOLUTIONAL = {
    "coco": ConvolutionalVAEConfig(),
    "photos": ConvolutionalVAEConfig(hidden_channels=32, latent_units=64, language_units=32, vocabulary_size=1000),
    "scenes": ConvolutionalVAEConfig(hidden_channels=32, latent_units=64, vocabulary_size=107),
}

_QUICK = TrainingConfig(
    epochs=30,
    epoch_size=8_960,
    batch_size=64,
    optimizer="muon",
    learning_rate=2e-3,
    schedule="cosine",
    init="fan_in",
    kl_warmup=500.0,
    ema=0.99,
    precision="auto",
)
_LAPTOP_DIGITS = _QUICK.replace(weight_decay=0.5)

_RECIPES = {
    "paper": TrainingConfig(),
    "coco": TrainingConfig(epochs=18, epoch_size=413_900, drop_epoch=11),
    "quick": _LAPTOP_DIGITS,
    "best": _LAPTOP_DIGITS.replace(epochs=45),
    "scenes": _LAPTOP_DIGITS.replace(epochs=48, epoch_size=12_800),
    "photos": _QUICK.replace(epochs=30, epoch_size=12_800, weight_decay=0.1, flip=True, shift=4, word_dropout=0.1),
    "vae": _QUICK.replace(epochs=64, epoch_size=12_800, optimizer="adam", learning_rate=1e-3, kl_warmup=0.0),
}
