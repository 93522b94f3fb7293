"""Trainings for one or several processes: the gradient of the first update, and what some updates end in."""

from pathlib import Path

import torch
from recorder import Recorder

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.config import ConvolutionalVAEConfig, EndToEndConfig, FullyConnectedVAEConfig
from aligndraw.data import MNISTCaptions, Scenes, load_digits
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.lapgan.config import AdversarialConfig, LAPGANConfig, SharpenerConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator
from aligndraw.lapgan.generator import ResidualGenerator
from aligndraw.model import build_model
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.refined import RefinedDRAW
from aligndraw.text import Vocabulary
from aligndraw.training import Trainer
from aligndraw.training.adversarial import AdversarialTrainer, PyramidTrainer
from aligndraw.training.end_to_end import EndToEndTrainer
from aligndraw.training.ranks import started
from aligndraw.training.skipthoughts import (
    SkipThoughtsConfig,
    SkipThoughtsModel,
    SkipThoughtsRecipe,
    SkipThoughtsTrainer,
    Triples,
)

UPDATES = 4
SMALL = dict(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
RECIPE = TrainingConfig(epochs=2, epoch_size=30, batch_size=10, kl_warmup=3.0, precision="float32", init="fan_in")
# Models and recipes of drawing models and VAEs. 4 processes do not divide a batch of 10 evenly.
DRAWING = {
    "adam": (AlignDRAWConfig, SMALL, dict(optimizer="adam", ema=0.9, weight_decay=0.1), torch.float64),
    "global-clip": (AlignDRAWConfig, SMALL, dict(optimizer="rmsprop", clip="global", clip_norm=1.0), torch.float64),
    "sparse": (AlignDRAWConfig, SMALL, dict(optimizer="rmsprop", batch_size=5, clip_norm=0.5), torch.float32),
    "muon": (AlignDRAWConfig, SMALL, dict(optimizer="muon", shift=2, ema=0.9), torch.float32),
    "graphed": (AlignDRAWConfig, SMALL, dict(optimizer="rmsprop", clip_norm=0.5), torch.float32),
    "bf16": (AlignDRAWConfig, SMALL, dict(optimizer="rmsprop", precision="bf16"), torch.float32),
    "fc-vae": (FullyConnectedVAEConfig, dict(hidden_units=8), dict(optimizer="adam", flip=True), torch.float64),
    "conv-vae": (ConvolutionalVAEConfig, dict(hidden_channels=2), dict(optimizer="adam", shift=1), torch.float64),
}


def drawing(name):
    kind, sizes, changes, dtype = DRAWING[name]
    source = MNISTCaptions(load_digits()) if kind is AlignDRAWConfig else Scenes()
    shape = source.epoch(0, 0, 1).batch(slice(0, 1))[0].shape[1:]
    words = dict(vocabulary_size=len(source.vocabulary), channels=shape[0], image_size=tuple(shape[1:]))
    if kind is not AlignDRAWConfig:
        words |= dict(latent_units=3, language_units=4)
    recipe = RECIPE.replace(**changes)
    model = build_model(kind.from_dict({**kind().to_dict(), **words, **sizes}))
    model.reset_parameters(recipe.init)
    return Trainer(model.to(dtype), source, recipe, 1, Recorder() if name == "graphed" else None)


def end_to_end():
    model = AlignDRAW(AlignDRAWConfig(image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY), **SMALL))
    model.reset_parameters("fan_in")
    refined = RefinedDRAW.of(model, ResidualGenerator(SharpenerConfig((32, 32), 3, 8, hidden_channels=3)), 0.2)
    sizes = dict(batch_size=5, adversarial=20.0, discriminator_channels=3, precision="float32")
    return EndToEndTrainer(refined.double(), Scenes(), EndToEndConfig(epochs=2, epoch_size=10, **sizes), seed=4)


class Images:
    """Nine images, each with a caption that says which it is; also the encoder of these captions."""

    images = torch.rand(9, 2, 12, 14, generator=torch.Generator().manual_seed(3))

    def __len__(self):
        return 9

    def batch(self, rows):
        return self.images[torch.from_numpy(rows)], [str(i) for i in rows]

    def encode(self, captions):
        return torch.eye(9)[[int(caption) for caption in captions]]


SCHEDULE = AdversarialConfig(epochs=2, batch_size=10, momentum=0.3, momentum_step=0.1, precision="float32")
SIZES = dict(image_size=(12, 14), channels=2, sentence_units=9, hidden_channels=3)


def sharpener():
    networks = (network(SharpenerConfig(**SIZES)) for network in (ResidualGenerator, ResidualDiscriminator))
    return AdversarialTrainer(*networks, Images(), Images(), SCHEDULE, 2)


def lapgan():
    config = LAPGANConfig(**SIZES, noise_units=3, generator_units=8, discriminator_units=7, sentences="caption")
    return PyramidTrainer(LAPGAN(config, Vocabulary(("a",))), Images(), Images(), SCHEDULE.replace(optimizer="adam"), 2)


def skipthoughts():
    """The last batch of an epoch is smaller than four processes."""
    data = Triples.of(["a b c", "b a", "c", "a", "b b", "a c c b", "c a", "b", "d a", "c"], words=5, max_words=4)
    model = SkipThoughtsModel(SkipThoughtsConfig("bi", words=5, word_units=3, units=4), 5).double()
    recipe = SkipThoughtsRecipe(epochs=2, batch_size=5, learning_rate=0.01, max_words=4, clip_norm=1.0)
    return SkipThoughtsTrainer(model, data, recipe, seed=1)


OTHERS = {"end-to-end": end_to_end, "sharpener": sharpener, "lapgan": lapgan, "skipthoughts": skipthoughts}
CASES = {**{name: case[-1] for name, case in DRAWING.items()}, **dict.fromkeys(OTHERS, torch.float32)}
CASES["skipthoughts"] = CASES["end-to-end"] = torch.float64


def made(name):
    """Returns a fresh trainer of a case, always the same."""
    torch.manual_seed(0)
    return OTHERS[name]() if name in OTHERS else drawing(name)


def state_of(trainer):
    """Returns the tensors of a trainer's state, by kind and name."""
    state, names = trainer.state_dict(), [name for name, _ in trainer.model.named_parameters()]
    found = {f"{kind}/{n}": t.clone() for kind in ("model", "average", "auxiliary") for n, t in state[kind].items()}
    for i, values in state["optimizer"]["state"].items():
        found |= {f"optimizer/{names[i]}/{key}": t.clone() for key, t in values.items() if torch.is_tensor(t)}
    return found


def result_of(name):
    """Returns the state after some updates and the metrics, by name; of drawing models also the first gradient."""
    trainer, found = made(name), {}
    if isinstance(trainer, Trainer):
        trainer._gradient(*trainer._batch(0), weight=0.5)
        found |= {f"gradient/{n}": p.grad.to_dense().clone() for n, p in trainer.model.named_parameters()}
    metrics = [trainer.update().numbers() for _ in range(UPDATES)]
    found["metrics"] = torch.tensor([list(numbers.values()) for numbers in metrics], dtype=torch.float64)
    return found | state_of(trainer)


def save_results(folder):
    """Writes the results of all cases in every process."""
    with started("cpu") as ranks:
        for name in CASES:
            torch.save(result_of(name), folder / f"{name}-{ranks.rank}.pt")


def print_threads_left():
    """Prints the threads of gloo of this process: during a training, and after it, while its trainer is still held."""

    def found():
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        return sorted({name for name in names if "gloo" in name})

    with started("cpu") as ranks:
        trainer = made("adam")
        trainer.update()
        ranks.any(True)
        print(found())
    print(found())
