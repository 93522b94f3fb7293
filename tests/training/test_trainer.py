import copy

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import MNISTCaptions, Scenes, load_digits
from aligndraw.training import Trainer, train

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
RECIPE = TrainingConfig(epochs=2, epoch_size=12, batch_size=4, kl_warmup=4.0)


@pytest.fixture(scope="module")
def source():
    return MNISTCaptions(load_digits())


def trained(source, seed, **changes):
    torch.manual_seed(0)
    model, reports = AlignDRAW(TINY), []
    train(model, source, RECIPE.replace(**changes), seed, reports.append)
    return model, reports


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_a_seed_determines_everything(source, optimizer):
    (a, first), (b, second), (c, _) = (trained(source, s, optimizer=optimizer) for s in (1, 1, 2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters()))
    assert [(u.kl, u.nll) for u in first] == [(u.kl, u.nll) for u in second]
    assert [u.index for u in first] == list(range(6)) and [u.epoch for u in first] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_going_on_from_a_state_is_going_on(source, optimizer):
    """Interrupted after any number of updates and loaded into a fresh trainer, training ends in the same bits."""
    whole, _ = trained(source, 1, optimizer=optimizer)
    config = RECIPE.replace(optimizer=optimizer)
    for stop in range(6):
        torch.manual_seed(0)
        trainer = Trainer(AlignDRAW(TINY), source, config, seed=1)
        while trainer.index < stop:
            trainer.update()
        fresh = Trainer(AlignDRAW(TINY), source, config, seed=1)
        fresh.load_state_dict(copy.deepcopy(trainer.state_dict()))
        while fresh.index < fresh.total:
            fresh.update()
        assert all(torch.equal(p, q) for p, q in zip(fresh.model.parameters(), whole.parameters()))


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "muon"])
def test_weight_decay_is_apart_from_the_gradients_step(source, optimizer):
    """One update ends where it would without, less lr x decay of each matrix; all else is the same."""
    decay, rate = 0.5, 0.02
    after = []
    for weight_decay in (0.0, decay):
        torch.manual_seed(0)
        model = AlignDRAW(TINY)
        model.reset_parameters("fan_in")
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        recipe = RECIPE.replace(optimizer=optimizer, learning_rate=rate, weight_decay=weight_decay)
        Trainer(model, source, recipe, seed=1).update()
        after.append({n: p.detach().clone() for n, p in model.named_parameters()})
    for name, start in before.items():
        lost = decay * rate * start if start.ndim == 2 else torch.zeros_like(start)
        torch.testing.assert_close(after[1][name], after[0][name] - lost, rtol=1e-5, atol=1e-6, msg=name)
    assert sum(p.ndim == 2 for p in before.values()) > 10


def test_weight_decay_leaves_what_has_no_gradient(source):
    """A part that is frozen is not trained, and does not shrink either."""
    torch.manual_seed(0)
    model = AlignDRAW(TINY)
    model.language.requires_grad_(False)
    before = [p.clone() for p in model.language.parameters()]
    Trainer(model, source, RECIPE.replace(weight_decay=0.5), seed=1).update()
    assert all(torch.equal(p, q) for p, q in zip(before, model.language.parameters()))


class Padded:
    """Scenes whose captions are padded with more zeros."""

    vocabulary = Scenes.vocabulary

    def __init__(self, more):
        self.more = more

    def __len__(self):
        return len(self.examples)

    def epoch(self, *settings):
        self.examples = Scenes().epoch(*settings)
        return self

    def batch(self, index):
        pictures, ids, lengths = self.examples.batch(index)
        return pictures, np.pad(ids, ((0, 0), (0, self.more))), lengths


def test_padding_is_not_read():
    """Captions of different lengths: what they are padded with changes no weight."""
    config = TINY.replace(image_size=(32, 32), channels=3, vocabulary_size=len(Scenes.vocabulary))
    models = []
    for more in (0, 5):
        torch.manual_seed(0)
        models.append(AlignDRAW(config))
        train(models[-1], Padded(more), RECIPE)
    for p, q in zip(*(m.parameters() for m in models)):
        torch.testing.assert_close(p, q)
    torch.manual_seed(0)
    assert not torch.equal(AlignDRAW(config).language.forward_lstm.words, models[0].language.forward_lstm.words)


def test_it_stops_when_the_gradient_is_not_finite(source):
    model = AlignDRAW(TINY)
    with torch.no_grad():
        model.posterior.log_variance.bias.fill_(1e4)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="loss of update 1 is not finite .* lower learning_rate"):
        train(model, source, RECIPE)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before))
