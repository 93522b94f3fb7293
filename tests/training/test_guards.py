"""Numbers that are not finite: each training stops with one line, or by an option skips the batch and counts it."""

import re

import numpy as np
import pytest
import torch
from recorder import Recorder
from torch import nn

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.config import ConvolutionalVAEConfig, EndToEndConfig
from aligndraw.data import MNISTCaptions, Scenes, load_digits
from aligndraw.data.labelled import LabelledImages
from aligndraw.evaluation.features import FeatureNetwork, FeaturesConfig
from aligndraw.lapgan.config import AdversarialConfig, LAPGANConfig, SharpenerConfig, SharpeningConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator
from aligndraw.lapgan.generator import ResidualGenerator
from aligndraw.model import RefinedDRAW, build_model
from aligndraw.model.lapgan import LAPGAN
from aligndraw.text import Vocabulary
from aligndraw.training import Trainer
from aligndraw.training.adversarial import PyramidTrainer, SharpenerTrainer, log_epoch
from aligndraw.training.checkpoint import load_checkpoint
from aligndraw.training.end_to_end import EndToEndTrainer
from aligndraw.training.features import FeaturesRecipe, FeaturesTrainer
from aligndraw.training.fit import fit
from aligndraw.training.guards import NotFinite, listed
from aligndraw.training.reader import ReaderTrainer
from aligndraw.training.run import RunFolder
from aligndraw.training.skipthoughts import (
    SkipThoughtsConfig,
    SkipThoughtsModel,
    SkipThoughtsRecipe,
    SkipThoughtsTrainer,
    Triples,
)

SIZES = dict(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
COLOUR = dict(image_size=(32, 32), channels=3, vocabulary_size=len(Scenes.vocabulary))
RECIPE = TrainingConfig(epochs=2, epoch_size=12, batch_size=4, kl_warmup=0.0, ema=0.9)
BAD = 2  # the update, from 0, whose gradient the tests spoil


class Pictures:
    """Twelve images, each with a caption that says which it is; and the encoder of these captions."""

    def __init__(self, shape):
        self.images = torch.rand(12, *shape, generator=torch.Generator().manual_seed(3))

    def __len__(self):
        return 12

    def batch(self, rows):
        return self.images[torch.from_numpy(rows)], [str(i) for i in rows]

    def encode(self, captions):
        return torch.eye(12)[[int(caption) for caption in captions]]


def drawing(recorder=None, **changes):
    model = AlignDRAW(AlignDRAWConfig(**SIZES))
    trainer = Trainer(model, MNISTCaptions(load_digits()), RECIPE.replace(**changes), recorder=recorder)
    return trainer, model.canvas


def graphed():
    """Updates of which one is in flight while the next is launched."""
    trainer, parameter = drawing(Recorder(), optimizer="adam")  # RMSprop's gradients are sparse in batches so small
    assert trainer.updates_in_flight == 1
    return trainer, parameter


def vae():
    model = build_model(ConvolutionalVAEConfig(**COLOUR, hidden_channels=2, latent_units=3, language_units=4))
    return Trainer(model, Scenes(), RECIPE.replace(precision="float32")), list(model.parameters())[-1]


def end_to_end():
    model = AlignDRAW(AlignDRAWConfig(**COLOUR, **SIZES))
    refined = RefinedDRAW.of(model, ResidualGenerator(SharpenerConfig((32, 32), 3, 8, hidden_channels=3)))
    recipe = EndToEndConfig(**{**RECIPE.to_dict(), "precision": "float32"}, adversarial=20.0, discriminator_channels=3)
    trainer = EndToEndTrainer(refined, Scenes(), recipe)
    return trainer, list(trainer.auxiliary.parameters())[0]


def sharpener():
    config, data = SharpenerConfig((11, 14), 2, 12, hidden_channels=5), Pictures((2, 11, 14))
    networks = ResidualGenerator(config), ResidualDiscriminator(config)
    trainer = SharpenerTrainer(*networks, data, data, SharpeningConfig(epochs=2, batch_size=8, precision="float32"))
    return trainer, list(networks[1].parameters())[0]


def lapgan():
    sizes = dict(hidden_channels=5, noise_units=3, generator_units=8, discriminator_units=7)
    model, data = LAPGAN(LAPGANConfig((12, 12), 2, 12, **sizes), Vocabulary(("a",))), Pictures((2, 12, 12))
    trainer = PyramidTrainer(model, data, data, AdversarialConfig(epochs=2, batch_size=8, precision="float32"))
    return trainer, list(trainer.levels["top"].discriminator.parameters())[0]


def skipthoughts():
    data = Triples.of(["a b c", "b a", "c", "b b", "a b", "c c", "a", "b c"], words=5, max_words=4)
    model = SkipThoughtsModel(SkipThoughtsConfig("uni", words=5, word_units=3, units=4), len(data.words))
    recipe = SkipThoughtsRecipe(epochs=2, batch_size=2, learning_rate=0.01, max_words=4)
    return SkipThoughtsTrainer(model, data, recipe), model.output.weight


def features():
    images = np.random.default_rng(0).integers(0, 256, (60, 2, 9, 6)).astype(np.uint8)
    data = LabelledImages(images, np.arange(60) % 3, "abc", "")
    network = FeatureNetwork(FeaturesConfig((9, 6), channels=2, classes=3, hidden_channels=2))
    return FeaturesTrainer(network, data, FeaturesRecipe(epochs=2, epoch_size=60, batch_size=20)), network.classes.bias


def reader():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def loss_of(update):
        return network(torch.randn(8, 3, generator=torch.Generator().manual_seed(update))).square().mean()

    return ReaderTrainer(network, loss_of, 6, 0.01), network[2].weight


TRAININGS = {
    drawing: "examples 9 to 12 of epoch 1",
    graphed: "examples 9 to 12 of epoch 1",
    vae: "examples 9 to 12 of epoch 1",
    end_to_end: "examples 9 to 12 of epoch 1",
    sharpener: r"images (\d+, )+\d+( and \d+ more)? \(from 0\)",
    lapgan: r"images (\d+, )+\d+( and \d+ more)? \(from 0\)",
    skipthoughts: r"the triples around sentences \d+, \d+ \(from 0\)",
    features: "images 41 to 60 of epoch 1",
    reader: "batch 3 of epoch 1",
}
every_training = pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)


def made(training, spoiled=()):
    """A trainer from one seed; the gradient of one of its parameters is infinite in some updates."""
    torch.manual_seed(0)
    trainer, parameter = training()
    wholly = trainer.levels["top"] if training is lapgan else trainer

    def spoil(gradient):
        return gradient * float("inf") if wholly.index in spoiled else gradient

    parameter.register_hook(spoil)
    return trainer


def state_of(trainer):
    state = trainer.state_dict()
    kept = {kind: {n: t.clone() for n, t in state[kind].items()} for kind in ("model", "average", "auxiliary")}
    slots = state["optimizer"]["state"]
    return {**kept, "optimizer": {i: {k: v.clone() for k, v in slot.items()} for i, slot in slots.items()}}


@every_training
def test_it_stops_with_one_line(training, tmp_path):
    """The line names update, batch and last checkpoint, which holds all that the good updates made."""
    good = made(training)
    while good.index < BAD:
        good.update()
    run, trainer = RunFolder(tmp_path, {}), made(training, {BAD})
    with pytest.raises(FloatingPointError) as caught:
        fit(trainer, run, checkpoint_every=1)
    place = re.escape(str(tmp_path / "checkpoints" / "update-00000002"))
    line = rf"the gradient( of the discriminator)? of update 3 is not finite \([^()]+\) on {TRAININGS[training]}: "
    line += rf"lower (learning|discriminator)_rate; the last good checkpoint is {place}"
    assert re.fullmatch(line, str(caught.value)), caught.value
    again = made(training)
    assert load_checkpoint(again, tmp_path / "checkpoints" / "update-00000002") == ""
    torch.testing.assert_close(state_of(again), state_of(good), rtol=0, atol=0)
    assert [m["update"] for m in run.metrics()] == [1, 2]


@every_training
def test_a_skipped_batch_changes_nothing(training, tmp_path):
    """The training ends in the bits of one that has never heard of the batch, and says how many it skipped.

    Of graphed updates the next one is in flight by then; its figures come once.
    """
    wanted = made(training)
    while wanted.index < wanted.total:
        if wanted.index == 1:
            wanted.index, wanted._next_batch = 2, None
        wanted.update()
    run, trainer, skipped = RunFolder(tmp_path, {}), made(training, {1}), []
    assert fit(trainer, run, checkpoint_every=5, max_skipped=1, on_skip=skipped.append) == "finished"
    assert [(e.index, e.skippable) for e in skipped] == [(1, True)]
    assert trainer.index == trainer.total == 6
    assert [m["update"] for m in run.metrics()] == list(range(1, trainer.total + 1))
    assert [m for m in run.metrics() if "skipped" in m] == [{"update": 2, "skipped": 1}]
    torch.testing.assert_close(state_of(trainer), state_of(wanted), rtol=0, atol=0)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    "training, last",
    [
        (end_to_end, lambda trainer: trainer.model),
        (sharpener, lambda trainer: trainer.generator),
        (lapgan, lambda trainer: trainer.levels["residual"].generator),
    ],
    ids=["end_to_end", "sharpener", "lapgan"],
)
def test_a_fault_in_the_last_of_several_networks_changes_none(training, last, index):
    """The others have taken their steps by then, and the optimizer has a state of its first steps."""
    trainer = made(training)
    while trainer.index < index:
        trainer.update()
    before = state_of(trainer)
    spoil = list(last(trainer).parameters())[-1].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFinite, match=f"the gradient of update {index + 1} is not"):
        trainer.update()
    assert trainer.index == index
    torch.testing.assert_close(state_of(trainer), before, rtol=0, atol=0)
    spoil.remove()
    trainer.update()
    wanted = made(training)
    while wanted.index < trainer.index:
        wanted.update()
    torch.testing.assert_close(state_of(trainer), state_of(wanted), rtol=0, atol=0)


@pytest.mark.parametrize("training", [drawing, graphed, lapgan], ids=lambda training: training.__name__)
def test_one_more_than_may_be_skipped_stops_it_also_after_resuming(training, tmp_path):
    run, trainer = RunFolder(tmp_path, {}), made(training, {1})
    stopping = lambda: trainer.index >= 3  # noqa: E731
    assert fit(trainer, run, checkpoint_every=1, max_skipped=1, stopping=stopping) == "stopped"
    again = made(training, {4})
    assert run.restore(again) == [] and run.skipped() == 1
    with pytest.raises(FloatingPointError, match="of update 5 is not .*, after 1 skipped batch; .*update-00000004$"):
        fit(again, run, checkpoint_every=1, max_skipped=1)
    assert again.index == 4


def test_an_epoch_without_a_good_batch(tmp_path):
    run, trainer = RunFolder(tmp_path, {}), made(lapgan, {0, 1, 2})
    epochs = []
    options = dict(max_skipped=3, end_epoch=lambda epoch: epochs.append(log_epoch(run, trainer, epoch)))
    assert fit(trainer, run, **options) == "finished"
    assert epochs[0] == {} and len(epochs[1]) == 8


@pytest.mark.parametrize("training", [drawing, graphed], ids=lambda training: training.__name__)
def test_a_loss_that_is_not_finite_is_told_from_a_gradient(training):
    trainer = made(training)
    with torch.no_grad():
        trainer.model.posterior.log_variance.bias.fill_(1e4)
    with pytest.raises(FloatingPointError, match=r"the loss of update 1 is not .*KL nan.*; no checkpoint was saved$"):
        fit(trainer)


@pytest.mark.parametrize("training", [drawing, graphed, skipthoughts], ids=lambda training: training.__name__)
def test_no_checkpoint_holds_a_parameter_that_a_step_has_spoiled(training, tmp_path):
    """The gradient is finite; the step is not. It is found before the checkpoint, and no batch is skipped for it."""
    run, trainer = RunFolder(tmp_path, {}), made(training)
    fit(trainer, run, checkpoint_every=1, stopping=lambda: True)
    step = trainer.optimizer.step

    def too_long(*arguments, **options):
        step(*arguments, **options)
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(float("nan"))

    trainer.optimizer.step = too_long
    with pytest.raises(FloatingPointError, match="^a parameter is not finite after update 2: .*update-00000001$"):
        fit(trainer, run, checkpoint_every=1, max_skipped=9)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-00000001"]


def test_statistics_of_normalisation_forget_a_bad_batch():
    """The batch is read before its loss is known."""
    trainer = made(features)
    before = state_of(trainer)
    with torch.no_grad():
        trainer.model.classes.weight.fill_(float("inf"))
        before["model"]["classes.weight"].fill_(float("inf"))
    with pytest.raises(NotFinite, match="the loss of update 1"):
        trainer.update()
    torch.testing.assert_close(state_of(trainer), before, rtol=0, atol=0)


def test_listed():
    assert listed("images", [3, 7, 3]) == "images 3, 7 (from 0)"
    assert listed("images", range(10)) == "images 0, 1, 2, 3, 4, 5, 6, 7 and 2 more (from 0)"
