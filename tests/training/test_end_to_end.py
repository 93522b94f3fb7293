"""Training a drawing model and its refiner together: the adversarial term by hand, resuming, and how it diverges."""

import copy

import pytest
import torch
from torch.nn.functional import softplus

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.config import EndToEndConfig
from aligndraw.data import Scenes, to_tensors
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.generator import ResidualGenerator
from aligndraw.model.refined import RefinedDRAW
from aligndraw.noise import stream
from aligndraw.training import Trainer
from aligndraw.training.checkpoint import load_checkpoint, save_checkpoint
from aligndraw.training.end_to_end import EndToEndTrainer

TINY = AlignDRAWConfig(
    image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY),
    steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4,
)  # fmt: skip
RECIPE = EndToEndConfig(
    epochs=2, epoch_size=8, batch_size=4, precision="float32", adversarial=20.0, discriminator_channels=3
)


def make(recipe=RECIPE):
    torch.manual_seed(0)
    model = AlignDRAW(TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    refined = RefinedDRAW.of(model, ResidualGenerator(SharpenerConfig((32, 32), 3, 8, hidden_channels=3)))
    return EndToEndTrainer(refined, Scenes(), recipe, seed=4)


def test_an_update_by_hand():
    """The discriminator's step first, then the gradient of KL + NLL + weight · E[−log D] at its new parameters."""
    trainer = make(RECIPE.replace(clip_norm=0.0))
    trainer.auxiliary.layers[5].p = 0.0
    model, judge = copy.deepcopy(trainer.model), copy.deepcopy(trainer.auxiliary)
    images, ids, lengths = to_tensors(Scenes().epoch(4, 0, 8), slice(0, 4))
    seen = []
    bound = model(images, ids, lengths, generator=stream(4, 0), refine=lambda mean: seen.append(mean) or mean)
    sentences = model.encode_captions(ids, lengths).sentence.detach()
    real, fake = judge(sentences, images), judge(sentences, seen[0].detach())
    loss = (softplus(-real).sum() + softplus(fake).sum()) / 8
    gradients = torch.autograd.grad(loss, list(judge.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(judge.parameters(), gradients):
            parameter -= 0.02 * gradient
    fooled = softplus(-judge(sentences, seen[0])).mean()
    wanted = torch.autograd.grad(bound.loss + 20 * fooled, list(model.parameters()))
    update = trainer.update()
    assert update.more["discriminator_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert update.more["generator_loss"] == pytest.approx(fooled.item(), rel=1e-5)
    assert update.more["accuracy"] == (((real > 0).sum() + (fake <= 0).sum()) / 8).item()
    assert update.bound == pytest.approx(bound.loss.item(), rel=1e-5)
    for (name, parameter), gradient in zip(trainer.model.named_parameters(), wanted):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3, msg=name)
    for mine, theirs in zip(judge.parameters(), trainer.auxiliary.parameters()):
        torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-7)


def test_without_a_discriminator_it_is_the_bound_alone():
    ours = make(RECIPE.replace(adversarial=0.0))
    plain = Trainer(copy.deepcopy(ours.model), Scenes(), ours.config, seed=4)
    assert ours.auxiliary is None
    assert [ours.update() for _ in range(3)] == [plain.update() for _ in range(3)]


def test_bf16_follows_float32():
    exact, rounded = make(RECIPE.replace(precision="float32")), make(RECIPE.replace(precision="bf16"))
    for _ in range(2):
        one, other = exact.update(), rounded.update()
        assert other.bound == pytest.approx(one.bound, rel=0.01) and other.bound != one.bound
        assert other.more["generator_loss"] == pytest.approx(one.more["generator_loss"], rel=0.01)


def test_resuming_ends_the_same(tmp_path):
    """The discriminator goes on where it stood, and its dropout depends on the number of the update alone."""
    whole, first, resumed = make(), make(), make()
    updates = [whole.update() for _ in range(4)]
    first.update(), first.update()
    save_checkpoint(first, tmp_path / "c")
    load_checkpoint(resumed, tmp_path / "c")
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert [resumed.update() for _ in range(2)] == updates[2:]
    assert torch.equal(torch.get_rng_state(), state)
    for network in ("model", "auxiliary"):
        for a, b in zip(getattr(whole, network).parameters(), getattr(resumed, network).parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_discriminator_that_diverges():
    trainer = make(RECIPE.replace(discriminator_rate=1e30))
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(FloatingPointError, match="of update 1 is not finite|of the discriminator of update 2"):
        trainer.update()
        before = [p.clone() for p in trainer.model.parameters()]
        trainer.update()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters()))


@pytest.mark.parametrize(
    ("field", "message"), [("adversarial", "must not be negative"), ("discriminator_rate", "must be above 0")]
)
def test_errors(field, message):
    with pytest.raises(ValueError, match=message):
        RECIPE.replace(**{field: -1.0})
