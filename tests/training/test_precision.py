"""Training with rounded products goes where training without goes."""

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.backends import missing_reason
from aligndraw.data import MNISTCaptions, evaluation_sets, load_digits
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.training import Trainer

CONFIG = AlignDRAWConfig(
    steps=4, encoder_units=64, decoder_units=64, latent_units=16, language_units=16, align_units=32
)
pytestmark = pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++ ops here")


def trained_bound(precision, seed, updates=120):
    recipe = TrainingConfig.preset("quick").replace(
        epochs=1, epoch_size=16 * updates, batch_size=16, precision=precision, kl_warmup=0.0, ema=0.0
    )
    torch.manual_seed(seed)
    model = AlignDRAW(CONFIG)
    model.reset_parameters(recipe.init)
    trainer = Trainer(model, MNISTCaptions(load_digits()), recipe, seed)
    assert trainer.bf16 == (precision == "bf16")
    while trainer.index < trainer.total:
        trainer.update()
    return estimate_bound(model, evaluation_sets(load_digits(), "validation", size=100)["seen"]).bound.mean


def test_the_bound_of_bf16_is_within_the_spread_of_seeds():
    bounds = {p: torch.tensor([trained_bound(p, seed) for seed in range(3)]) for p in ("float32", "bf16")}
    assert not torch.equal(bounds["bf16"], bounds["float32"])
    assert (bounds["bf16"].mean() - bounds["float32"].mean()).abs() < bounds["float32"].std()


def test_auto_is_bf16_where_the_processor_has_matrix_tiles(monkeypatch):
    recipe = TrainingConfig(precision="auto")
    for fast in (True, False):
        monkeypatch.setattr("aligndraw.training.optimizer.rounds_fast", lambda device, fast=fast: fast)
        assert Trainer(AlignDRAW(CONFIG), MNISTCaptions(load_digits()), recipe).bf16 == fast
