"""Updates that are recorded and replayed, by a recorder that replays by calling again: no CUDA graph is made here."""

import copy

import pytest
import torch
from recorder import Recorder

import aligndraw
from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import Digits, MNISTCaptions, Scenes, load_digits
from aligndraw.training import Trainer

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
RECIPE = TrainingConfig(epochs=2, epoch_size=18, batch_size=6, kl_warmup=4.0, schedule="cosine", ema=0.9)


def trained(source, recorder, updates, model=TINY, **changes):
    torch.manual_seed(0)
    trainer = Trainer(AlignDRAW(model), source, RECIPE.replace(**changes), seed=1, recorder=recorder)
    return trainer, [trainer.update() for _ in range(updates)]


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "muon"])
def test_recorded_updates_are_updates(optimizer):
    """Rates, weights of the KL and decays that change from update to update reach what was recorded once."""
    source, recorder = MNISTCaptions(load_digits()), Recorder()
    graphed, reports = trained(source, recorder, 6, optimizer=optimizer)
    plain, expected = trained(source, None, 6, optimizer=optimizer)
    assert plain.ungraphed_reason == "there are no CUDA graphs on cpu" and graphed.ungraphed_reason == ""
    assert recorder.calls == ["warm up", "record", *["replay"] * 5]
    for ours, theirs in zip(reports, expected, strict=True):
        assert (ours.index, ours.epoch, ours.learning_rate) == (theirs.index, theirs.epoch, theirs.learning_rate)
        assert (ours.kl, ours.nll, ours.gradient_norm) == pytest.approx(
            (theirs.kl, theirs.nll, theirs.gradient_norm), rel=1e-4, abs=1e-6
        )
    for ours, theirs in ((graphed.model.parameters(), plain.model.parameters()),
                         (graphed.average.values(), plain.average.values())):  # fmt: skip
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_device_makes_the_pictures_itself(monkeypatch):
    """Over the end of an epoch, too, of digits that are brought there once."""
    source, recorder = MNISTCaptions(load_digits()), Recorder()
    _, expected = trained(source, None, 5)
    monkeypatch.setattr("aligndraw.data.mnist_captions.composite", None)
    trainer, reports = trained(source, recorder, 5)
    assert [u.nll for u in reports] == pytest.approx([u.nll for u in expected], rel=1e-4)
    assert reports[-1].epoch == 1 and recorder.calls.count("record") == 1
    assert torch.equal(trainer._resident[1], torch.from_numpy(source.digits.images))


def test_other_pictures_drop_the_recordings():
    """Recordings read the memory of what was stored before."""
    source, recorder = MNISTCaptions(load_digits()), Recorder()
    trainer, _ = trained(source, recorder, 2)
    trainer.source = MNISTCaptions(Digits(source.digits.images.copy(), source.digits.labels))
    trainer.update()
    trainer.update()
    assert recorder.calls == ["warm up", "record", "replay", "replay", "warm up"]


def test_a_bucket_of_caption_lengths_is_one_recording():
    config = TINY.replace(image_size=(32, 32), channels=3, vocabulary_size=len(Scenes.vocabulary))
    recorder = Recorder()
    trainer, _ = trained(Scenes(), recorder, 6, config, optimizer="adam")
    assert recorder.calls.count("record") == len(trainer.graphs) <= 2
    assert recorder.calls.count("replay") >= 2


def test_going_on_from_a_state_drops_what_belongs_to_another():
    """The batch that was made while the GPU was at work, and graphs of tensors that are no longer the optimizer's."""
    source = MNISTCaptions(load_digits())
    _, expected = trained(source, Recorder(), 6)
    other, _ = trained(source, Recorder(), 4)
    fresh, _ = trained(source, Recorder(), 2)
    assert len(fresh.graphs) == 1
    fresh.load_state_dict(other.state_dict())
    assert len(fresh.graphs) == 0
    assert [fresh.update().nll for _ in range(2)] == pytest.approx([u.nll for u in expected[4:]], rel=1e-5)
    assert fresh.graphs.recorder.calls[-3:] == ["warm up", "record", "replay"]


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "muon"])
def test_a_gradient_that_is_not_finite_is_found_out_later_and_changes_nothing(optimizer):
    """Nor do the updates that were launched before it was found out."""
    source = MNISTCaptions(load_digits())
    trainer, _ = trained(source, Recorder(), 3, optimizer=optimizer)
    expected, reports = trained(source, Recorder(), 5, optimizer=optimizer)
    bias = trainer.model.posterior.log_variance.bias
    good = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(1e4)
    state = copy.deepcopy(trainer.state_dict())
    bad = trainer.launch()
    with torch.no_grad():
        bias.copy_(good)
    state["model"]["posterior.log_variance.bias"].copy_(good)
    later = trainer.launch(), trainer.launch()
    assert len(later) == 2 and trainer.index == 6
    with pytest.raises(FloatingPointError, match="loss of update 4 is not finite"):
        bad()
    found = trainer.state_dict()
    for group in (*found["optimizer"]["param_groups"], *state["optimizer"]["param_groups"]):
        del group["lr"]  # of what was launched last
    torch.testing.assert_close(found, state, rtol=0, atol=0)
    assert [trainer.update().nll for _ in range(2)] == pytest.approx([u.nll for u in reports[3:]], rel=1e-5)
    for ours, theirs in zip(trainer.model.parameters(), expected.model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_figures_are_read_an_update_later():
    source = MNISTCaptions(load_digits())
    _, expected = trained(source, Recorder(), 4)
    trainer, _ = trained(source, Recorder(), 0)
    launched = [trainer.launch() for _ in range(4)]
    assert [figures() for figures in launched] == expected


def test_why_updates_are_not_recorded():
    source = MNISTCaptions(load_digits())
    trainer, _ = trained(source, Recorder(), 0)
    with aligndraw.use_backend("reference"):
        assert trainer.ungraphed_reason == "step by step (the reference backend)"
    trainer, _ = trained(source, Recorder(), 0, TINY.replace(vocabulary_size=100), optimizer="rmsprop")
    assert trainer.ungraphed_reason == "sparse gradients"
    recorder = trainer.graphs.recorder
    trainer.update()
    assert recorder.calls == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "muon"])
def test_updates_from_cuda_graphs_are_updates(optimizer):
    source = MNISTCaptions(load_digits())

    def trained_on_the_gpu(graphs):
        torch.manual_seed(0)
        trainer = Trainer(AlignDRAW(TINY).cuda(), source, RECIPE.replace(optimizer=optimizer), seed=1)
        if not graphs:
            trainer.graphs.reason = "a comparison"
        return [trainer.update() for _ in range(6)], trainer

    graphed, trainer = trained_on_the_gpu(True)
    plain, _ = trained_on_the_gpu(False)
    assert trainer.ungraphed_reason == "" and len(trainer.graphs) == 1
    for ours, theirs in zip(graphed, plain, strict=True):
        assert (ours.nll, ours.gradient_norm) == pytest.approx((theirs.nll, theirs.gradient_norm), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "muon"])
def test_a_state_read_on_the_cpu_goes_on_on_the_gpu(optimizer):
    """As a checkpoint's does."""
    source = MNISTCaptions(load_digits())

    def begun():
        torch.manual_seed(0)
        return Trainer(AlignDRAW(TINY).cuda(), source, RECIPE.replace(optimizer=optimizer), seed=1)

    whole, resumed = begun(), begun()
    for _ in range(3):
        whole.update()
    state = torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.detach().cpu().clone(), whole.state_dict())
    resumed.load_state_dict(state)
    for _ in range(3):
        ours, theirs = resumed.update(), whole.update()
        assert (ours.nll, ours.gradient_norm) == pytest.approx((theirs.nll, theirs.gradient_norm), rel=1e-3)
