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


def trained_bound(precision, seed, updates=120, device="cpu"):
    recipe = TrainingConfig.preset("quick").replace(
        epochs=1, epoch_size=16 * updates, batch_size=16, precision=precision, kl_warmup=0.0, ema=0.0
    )
    torch.manual_seed(seed)
    model = AlignDRAW(CONFIG)
    model.reset_parameters(recipe.init)
    model.to(device)
    trainer = Trainer(model, MNISTCaptions(load_digits()), recipe, seed)
    assert trainer.precision == precision
    while trainer.index < trainer.total:
        trainer.update()
    return estimate_bound(model, evaluation_sets(load_digits(), "validation", size=100)["seen"]).bound.mean


def test_the_bound_of_bf16_is_within_the_spread_of_seeds():
    bounds = {p: torch.tensor([trained_bound(p, seed) for seed in range(3)]) for p in ("float32", "bf16")}
    assert not torch.equal(bounds["bf16"], bounds["float32"])
    assert (bounds["bf16"].mean() - bounds["float32"].mean()).abs() < bounds["float32"].std()


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bf16_where_the_processor_multiplies_it_fast(monkeypatch, fast):
    """It is resolved once: the trainer passes it to the optimizer."""
    asked = []
    monkeypatch.setattr("aligndraw.training.precision.rounds_fast", lambda device: asked.append(device) or fast)
    recipe = TrainingConfig(precision="auto", optimizer="muon")
    trainer = Trainer(AlignDRAW(CONFIG), MNISTCaptions(load_digits()), recipe)
    assert trainer.precision == ("bf16" if fast else "float32")
    assert trainer.optimizer._dtype == (torch.bfloat16 if fast else None)
    assert asked == ["cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_bound_of_rounded_products_on_a_gpu_is_within_the_spread_of_seeds(precision):
    precisions = ("float32", precision)
    bounds = {p: torch.tensor([trained_bound(p, seed, device="cuda") for seed in range(3)]) for p in precisions}
    assert not torch.equal(bounds[precision], bounds["float32"])
    assert (bounds[precision].mean() - bounds["float32"].mean()).abs() < bounds["float32"].std()


@pytest.mark.parametrize("outside", ["highest", "high"])
@pytest.mark.parametrize("tf32", [True, False])
def test_products_of_float32_are_what_the_configuration_says(outside, tf32):
    """Whatever PyTorch is set to, which it is again afterwards."""
    seen = []

    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    class Watched(Trainer):
        def _gradient(self, *tensors, weight):
            seen.append(settings())
            return super()._gradient(*tensors, weight=weight)

    recipe = TrainingConfig(batch_size=2, precision="float32")
    trainer = Watched(AlignDRAW(CONFIG), MNISTCaptions(load_digits()), recipe)
    trainer.precision = "tf32" if tf32 else "float32"  # which a trainer on a CPU refuses
    before = settings()
    try:
        torch.set_float32_matmul_precision(outside)
        torch.backends.cudnn.allow_tf32 = outside == "high"
        trainer.update()
        assert settings() == (outside, outside == "high")
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
    assert seen == [("high" if tf32 else "highest", tf32)]


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="precision tf32 is for NVIDIA GPUs, the model is on cpu: take float32, bf16"):
        Trainer(AlignDRAW(CONFIG), MNISTCaptions(load_digits()), TrainingConfig(precision="tf32"))
