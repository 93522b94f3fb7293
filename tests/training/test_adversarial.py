"""Adversarial training: what an update does, that it resumes to the bit, and how it ends when it diverges."""

import copy
import json

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from aligndraw.lapgan import pyramid
from aligndraw.lapgan.config import AdversarialConfig, SharpenerConfig, SharpeningConfig
from aligndraw.lapgan.discriminator import ResidualDiscriminator, TopDiscriminator
from aligndraw.lapgan.generator import ResidualGenerator, TopGenerator
from aligndraw.model.lapgan import LAPGAN
from aligndraw.text import Vocabulary
from aligndraw.training.adversarial import (
    AdversarialTrainer,
    LAPGANRun,
    PyramidTrainer,
    SharpenerRun,
    SharpenerTrainer,
    log_epoch,
)
from aligndraw.training.conditions import current_conditions
from aligndraw.training.fit import fit

RECIPE = AdversarialConfig(epochs=2, batch_size=4, momentum=0.3, momentum_step=0.1, precision="float32")


def train_adversarial(run, trainer, on_epoch=lambda epoch, means: None, **options):
    """Whether training comes to its end."""

    def end_epoch(epoch):
        on_epoch(epoch, log_epoch(run, trainer, epoch))

    return fit(trainer, run, end_epoch=end_epoch, **options) == "finished"


class Source:
    """Five images, each with a caption that says which it is."""

    def __init__(self, shape):
        self.images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(3))
        self.asked = []

    def __len__(self):
        return 5

    def batch(self, rows):
        self.asked.append(rows.tolist())
        return self.images[torch.from_numpy(rows)], [str(i) for i in rows]


class Encoder:
    def encode(self, captions):
        return torch.eye(6)[[int(caption) for caption in captions]]


@pytest.fixture
def make(sharpener_config):
    def trainer(recipe=RECIPE, seed=0):
        torch.manual_seed(1)
        networks = ResidualGenerator(sharpener_config), ResidualDiscriminator(sharpener_config)
        return AdversarialTrainer(*networks, Source((2, 11, 14)), Encoder(), recipe, seed)

    return trainer


def test_an_update_is_two_steps_of_descent(make):
    """Losses, gradients and steps by hand, without momentum and dropout, from the rows that the trainer drew."""
    trainer = make(RECIPE.replace(momentum=0.0))
    trainer.discriminator.layers[5].p = 0.0
    generator, discriminator = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
    noises = []
    drawn_noise = trainer.generator.noise
    trainer.generator.noise = lambda *a: noises.append(drawn_noise(*a)) or noises[-1]
    update = trainer.update()
    real, first, second = trainer.source.asked
    assert (len(real), len(first), len(second)) == (2, 2, 4)

    def fakes(rows, noise):
        coarse = pyramid.coarse(trainer.source.images[rows])
        sentences = Encoder().encode(rows)
        return coarse + generator(sentences, noise, coarse), sentences

    images, sentences = fakes(first, noises[0])
    on_real = discriminator(Encoder().encode(real), trainer.source.images[real])
    on_fake = discriminator(sentences, images.detach())
    loss = (softplus(-on_real).sum() + softplus(on_fake).sum()) / 4
    assert update.discriminator_loss == pytest.approx(loss.item(), rel=1e-5)
    assert update.real_accuracy == (on_real > 0).float().mean()
    assert update.fake_accuracy == (on_fake < 0).float().mean()
    step(discriminator, loss, 0.02)
    images, sentences = fakes(second, noises[1])
    loss = softplus(-discriminator(sentences, images)).mean()
    assert update.generator_loss == pytest.approx(loss.item(), rel=1e-5)
    step(generator, loss, 0.02)
    for ours, theirs in ((generator, trainer.generator), (discriminator, trainer.discriminator)):
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)


@pytest.fixture
def make_sharpener(sharpener_config):
    """With reconstructions, which are no blur of the images, and all that the published recipe has not."""

    def trainer(**changes):
        torch.manual_seed(1)
        networks = ResidualGenerator(sharpener_config), ResidualDiscriminator(sharpener_config)
        asked = dict(coarse="reconstructions", optimizer="adam", noise=0.0, l1_weight=3.0) | changes
        recipe = SharpeningConfig(**{**RECIPE.to_dict(), **asked})
        made = SharpenerTrainer(*networks, Source((2, 11, 14)), Encoder(), recipe)
        made.reconstructions = np.random.default_rng(4).integers(0, 256, (5, 2, 11, 14), np.uint8)
        return made

    return trainer


def test_a_sharpener_by_the_published_recipe_is_trained_as_any_generator(make, make_sharpener):
    published = SharpeningConfig()
    plain = make_sharpener(**{name: getattr(published, name) for name in ("coarse", "optimizer", "noise", "l1_weight")})
    wanted = make()
    for _ in range(4):
        assert plain.update() == wanted.update()
    for a, b in zip(wanted.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_reconstructions_adam_and_the_distance_from_the_image(make_sharpener):
    """Losses and first steps by hand; the noise is 0, and the generator's loss alone has the distance."""
    trainer = make_sharpener()
    trainer.discriminator.layers[5].p = 0.0
    generator, discriminator = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
    update = trainer.update()
    real, first, second = trainer.source.asked

    def fakes(rows):
        blurry, sentences = torch.from_numpy(trainer.reconstructions[rows]).float() / 255, Encoder().encode(rows)
        return blurry + generator(sentences, torch.zeros(len(rows), 1, 11, 14), blurry), sentences

    images, sentences = fakes(first)
    on_real = discriminator(Encoder().encode(real), trainer.source.images[real])
    on_fake = discriminator(sentences, images.detach())
    loss = (softplus(-on_real).sum() + softplus(on_fake).sum()) / 4
    assert update.discriminator_loss == pytest.approx(loss.item(), rel=1e-5)
    first_step_of_adam(discriminator, loss, 0.02)
    images, sentences = fakes(second)
    loss = softplus(-discriminator(sentences, images)).mean()
    assert update.generator_loss == pytest.approx(loss.item(), rel=1e-4)
    first_step_of_adam(generator, loss + 3 * (images - trainer.source.images[second]).abs().mean(), 0.02)
    for ours, theirs in ((generator, trainer.generator), (discriminator, trainer.discriminator)):
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            off = ((a - b).abs() > 1e-4).float().mean()  # where a gradient is near 0 its sign is rounding's
            assert off < 0.02, name
    assert trainer.optimizer.param_groups[0]["betas"] == (0.3, 0.999)


def first_step_of_adam(network, loss, rate):
    """g / (|g| + 1e-8): both means of the first step are its own."""
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), gradients):
            parameter -= rate * gradient / (gradient.abs() + 1e-8)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_sharpener_stopped_and_resumed_ends_the_same(make_sharpener, tmp_path, optimizer):
    whole, first, resumed = (make_sharpener(optimizer=optimizer) for _ in range(3))
    assert train_adversarial(run_in(tmp_path / "a", whole), whole, checkpoint_every=100)
    run = run_in(tmp_path / "b", first)
    assert not train_adversarial(run, first, checkpoint_every=100, stopping=lambda: first.index == 4)
    assert run.restore(resumed) == [] and resumed.index == 4
    assert train_adversarial(run, resumed, checkpoint_every=100)
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def step(network, loss, rate):
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), gradients):
            parameter -= rate * gradient


def test_momentum_dampens_as_much(make, monkeypatch):
    """v ← μ v + (1 − μ) g, from v = g; once for each network."""
    trainer = make(RECIPE.replace(momentum=0.5))
    seen = []
    monkeypatch.setattr(
        "aligndraw.training.adversarial.check_finite",
        lambda tensors, *_, **__: seen.append([t.clone() for t in tensors]),
    )
    parameters = list(trainer.discriminator.parameters())
    trainer.update()
    between = [p.detach().clone() for p in parameters]
    trainer.update()
    first, second = seen[0], seen[4]  # gradient and parameters, twice an update
    for before, after, g1, g2 in zip(between, parameters, first, second):
        torch.testing.assert_close(after, before - 0.02 * (0.5 * g1 + 0.5 * g2), rtol=1e-4, atol=1e-7)


def test_bf16_follows_float32(make):
    """With steps so large that the generator's loss tells whether the discriminator's step came before it."""
    recipe = RECIPE.replace(learning_rate=1.0, momentum=0.0)
    exact, rounded = make(recipe), make(recipe.replace(precision="bf16"))
    sizes = []
    exact.discriminator.register_forward_hook(lambda _, __, logits: sizes.append(logits.detach().abs().mean()))
    for _ in range(2):
        one, other = exact.update(), rounded.update()
        assert other.generator_loss == pytest.approx(one.generator_loss, rel=0.02)
        assert other.discriminator_loss == pytest.approx(one.discriminator_loss, rel=0.02)
        assert other.generator_loss != one.generator_loss
    assert max(sizes) > 2 * sizes[0]
    assert all(p.dtype == torch.float32 for p in rounded.model.parameters())


def test_the_schedule_is_by_epochs(make):
    trainer = make()
    assert (trainer.updates_per_epoch, trainer.total) == (3, 6)
    updates = [trainer.update() for _ in range(4)]
    assert [u.epoch for u in updates] == [0, 0, 0, 1]
    assert [u.momentum for u in updates] == [0.3, 0.3, 0.3, 0.4]
    assert updates[3].learning_rate == pytest.approx(0.02 / 1.00004)


@pytest.fixture(params=["sgd", "adam"])
def make_pyramid(pyramid_config, request):
    """By the released recipe, and by one such as that for scenes."""
    recipe = RECIPE if request.param == "sgd" else RECIPE.replace(optimizer="adam", l1_weight=3.0)

    def trainer():
        torch.manual_seed(1)
        model = LAPGAN(pyramid_config, Vocabulary(("a",)))
        return PyramidTrainer(model, Source((2, 11, 14)), Encoder(), recipe)

    return trainer


def test_the_levels_of_a_pyramid_train_by_themselves(make_pyramid):
    """Each as its own trainer would train it, the top one on small images."""
    pyramid_trainer = make_pyramid()
    alone = make_pyramid().levels  # networks of the same parameters
    for level in alone.values():
        level.optimizer = type(pyramid_trainer.optimizer)(level.model.parameters(), lr=0.02)
    for _ in range(4):
        together = pyramid_trainer.update()
        for name, level in alone.items():
            assert level.update() == together.levels[name]
    for name, level in alone.items():
        for a, b in zip(level.model.parameters(), pyramid_trainer.levels[name].model.parameters(), strict=True):
            assert torch.equal(a, b)
    assert type(pyramid_trainer.optimizer).__name__.lower() == pyramid_trainer.config.optimizer
    assert (pyramid_trainer.index, pyramid_trainer.total) == (4, 6)
    assert together.numbers()["top_generator_loss"] == together.levels["top"].generator_loss


def test_a_pyramid_stopped_and_resumed_ends_the_same(make_pyramid, pyramid_config, tmp_path):
    whole, first, resumed = make_pyramid(), make_pyramid(), make_pyramid()
    run = LAPGANRun.create(tmp_path / "a", pyramid_config, whole.config, 0)
    assert train_adversarial(run, whole, checkpoint_every=100)
    run = LAPGANRun.create(tmp_path / "b", pyramid_config, whole.config, 0)
    assert not train_adversarial(run, first, checkpoint_every=100, stopping=lambda: first.index == 4)
    assert run.restore(resumed) == [] and resumed.index == 4
    assert train_adversarial(run, resumed, checkpoint_every=100)
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


def test_a_pyramid_resolves_its_precision_once(pyramid_config, monkeypatch):
    """Both levels take it, and its checkpoints note it."""
    asked = []
    monkeypatch.setattr("aligndraw.training.precision.rounds_fast", lambda device: asked.append(device) or True)
    model = LAPGAN(pyramid_config, Vocabulary(("a",)))
    trainer = PyramidTrainer(model, Source((2, 11, 14)), Encoder(), RECIPE.replace(precision="auto"))
    assert [level.precision for level in trainer.levels.values()] == ["bf16", "bf16"]
    assert asked == ["cpu"]
    assert current_conditions(trainer)["precision"] == "bf16"


def test_the_top_level_trains_on_small_images(pyramid_config):
    """Towards those of its captions where it is asked to: the first step of its last bias, by hand."""
    torch.manual_seed(1)
    networks = TopGenerator(pyramid_config), TopDiscriminator(pyramid_config)
    before = copy.deepcopy(networks[0])
    recipe = RECIPE.replace(momentum=0.0, l1_weight=1e6)  # next to which what D tells is nothing
    trainer = AdversarialTrainer(*networks, Source((2, 11, 14)), Encoder(), recipe, prepare=pyramid.down)
    trainer.generator.noise = lambda count, drawn: torch.zeros(count, before.noise_units)
    trainer.update()
    rows = trainer.source.asked[2]
    small = pyramid.down(trainer.source.images[rows])
    away = before(Encoder().encode(rows), torch.zeros(4, before.noise_units)) - small
    step = 0.02 * 1e6 * away.sign().mean(0).flatten() / away[0].numel()
    torch.testing.assert_close(networks[0].layers[4].bias, before.layers[4].bias - step, rtol=1e-3, atol=1e-3)


def test_grey_is_nothing_to_the_top_discriminator(pyramid_config):
    """It sees pixels about 0: what it makes of those of a half depends on the sentence alone."""
    network = TopDiscriminator(pyramid_config).eval()
    sentences, images = torch.randn(3, 6), torch.rand(3, 2, 6, 7)
    colours, grey = network(sentences, images), network(sentences, torch.full_like(images, 0.5))
    with torch.no_grad():
        network.layers[0].weight[:, :84] = 0
    torch.testing.assert_close(network(sentences, images), grey)
    assert not torch.allclose(colours, grey)


def run_in(folder, trainer):
    return SharpenerRun.create(folder, SharpenerConfig((11, 14), 2, 6, 5), trainer.config, 0)


def test_a_run_stopped_and_resumed_ends_the_same(make, tmp_path):
    whole = make()
    epochs = []
    run = run_in(tmp_path / "a", whole)
    assert train_adversarial(run, whole, checkpoint_every=100, on_epoch=lambda *told: epochs.append(told))
    first = make()
    run = run_in(tmp_path / "b", first)
    assert not train_adversarial(run, first, checkpoint_every=100, stopping=lambda: first.index == 4)
    resumed = make()
    run = SharpenerRun.open(tmp_path / "b")
    assert run.restore(resumed) == [] and resumed.index == 4
    global_state = torch.get_rng_state()
    assert train_adversarial(run, resumed, checkpoint_every=100)
    assert torch.equal(torch.get_rng_state(), global_state)
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    metrics = [(tmp_path / f / "metrics.jsonl").read_text() for f in "ab"]
    assert metrics[0] == metrics[1]
    lines = [json.loads(line) for line in metrics[0].splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert lines[3]["generator_loss"] == pytest.approx(np.mean([line["generator_loss"] for line in lines[:3]]))
    assert [epoch for epoch, _ in epochs] == [1, 2]


def test_another_seed_draws_others(make):
    one, other = make(), make(seed=1)
    one.update(), other.update()
    assert one.source.asked != other.source.asked


@pytest.mark.parametrize("rate", [1e30, 1e18])
def test_what_diverges_ends_with_a_good_checkpoint(make, tmp_path, rate):
    trainer = make(RECIPE.replace(epochs=1000))
    run = run_in(tmp_path, trainer)
    train_adversarial(run, trainer, checkpoint_every=1, stopping=lambda: True)
    wild = make(RECIPE.replace(epochs=1000, learning_rate=rate))
    run.restore(wild)
    with pytest.raises(
        FloatingPointError,
        match=r"of update \d+ is not finite .* lower learning_rate; the last good checkpoint is .*update-",
    ):
        train_adversarial(run, wild, checkpoint_every=1)
    again = make()
    run.restore(again)
    assert all(p.isfinite().all() for p in again.model.parameters())
    assert again.index >= 1


def test_dropout_of_an_update_depends_on_its_number_alone(make):
    one, other = make(), make()
    torch.manual_seed(5)
    first = one.update()
    torch.manual_seed(6)
    assert other.update() == first
