"""The feature network: the layers of the one for CIFAR-10, its training, its folder."""

import numpy as np
import pytest
import torch
from torch import nn

from aligndraw.data.labelled import LabelledImages
from aligndraw.evaluation.features import NAMES, FeatureNetwork, FeaturesConfig
from aligndraw.training.features import FeaturesRecipe, FeaturesTrainer, accuracy

SMALL = FeaturesConfig(image_size=(9, 6), channels=2, classes=3, hidden_channels=2)
RECIPE = FeaturesRecipe(epochs=4, epoch_size=60, batch_size=20, learning_rate=0.5, halved_every=2)


def network(config=SMALL):
    torch.manual_seed(0)
    return FeatureNetwork(config)


@pytest.fixture
def striped():
    """Images that are bright at the top, at the bottom, or nowhere."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 60, (60, 2, 9, 6)).astype(np.uint8)
    images[labels == 0, :, :4] += 180
    images[labels == 1, :, 5:] += 180
    return LabelledImages(images, labels, "abc", "")


def test_the_layers_for_cifar():
    """Thirteen convolutions, their planes and dropout, and the two fully connected layers."""
    with torch.device("meta"):
        cifar = FeatureNetwork(FeaturesConfig())
    convolutions = [m for m in cifar.layers if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [m.p for m in cifar.layers if isinstance(m, nn.Dropout)] == [0.3, *[0.4] * 7, 0.5]
    assert [tuple(m.weight.shape) for m in cifar.modules() if isinstance(m, nn.Linear)] == [(512, 512), (10, 512)]
    assert all(m.eps == 1e-3 for m in cifar.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)))
    pools = [m for m in cifar.layers if isinstance(m, nn.MaxPool2d)]
    assert len(pools) == 5 and all(m.ceil_mode and m.kernel_size == 2 for m in pools)


@pytest.mark.parametrize("size", [(1, 1), (9, 6), (33, 64)])
def test_images_of_any_size(size):
    config = SMALL.replace(image_size=size)
    features = network(config).features(np.zeros((2, 2, *size), np.uint8))
    assert features.shape == (2, 16) and (features >= 0).all()


def test_features(striped):
    """The last layer's outputs, of set_normalizationd images, whatever the batches and the state of dropout."""
    made = network()
    trainer = FeaturesTrainer(made, striped, RECIPE)
    trainer.set_normalization()
    pixels = torch.from_numpy(striped.images).double() / 255
    mean, deviation = (x.float()[:, None, None] for x in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))))
    made.train()
    done = []
    got = made.features(striped.images, batch_size=7, on_batch=done.append)
    assert made.training and sum(done) == 60 and max(done) == 7
    made.eval()
    with torch.no_grad():
        wanted = made.layers((pixels.float() - mean) / deviation)
        torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made(pixels.float()), made.classes(wanted), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"uint8 \[n, C, H, W\] = \[n, 2, 9, 6\] for these features, got uint8 \[4, 2"):
        made.features(np.zeros((4, 2, 6, 9), np.uint8))


def test_training(striped):
    """It learns what three easy classes look like, as the recipe has it."""
    recipe = RECIPE.replace(epochs=25, learning_rate=0.1, halved_every=10)
    trainer = FeaturesTrainer(network(SMALL.replace(hidden_channels=8, dropout=0.0)), striped, recipe)
    trainer.set_normalization()
    rates = set()
    first = trainer.update().loss
    while trainer.index < trainer.total:
        last = trainer.update()
        rates.add(trainer.optimizer.param_groups[0]["lr"])
    assert rates == {0.1, 0.05, 0.025}
    assert last.loss < 0.7 * first
    assert accuracy(trainer.model, striped, 60).mean > 0.9


def test_going_on_from_a_state_is_going_on(striped):
    whole = FeaturesTrainer(network(), striped, RECIPE)
    for _ in range(4):
        whole.update()
    state = {k: v for k, v in torch.load(_saved(whole)).items()}
    wanted = [whole.update() for _ in range(3)]
    other = FeaturesTrainer(FeatureNetwork(SMALL), striped, RECIPE)
    other.load_state_dict(state)
    assert [other.update() for _ in range(3)] == wanted
    for (name, a), b in zip(whole.model.state_dict().items(), other.model.state_dict().values()):
        assert torch.equal(a, b), name


def _saved(trainer):
    import io

    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    return file


def test_what_diverges(striped):
    trainer = FeaturesTrainer(network(), striped, RECIPE)
    with torch.no_grad():
        trainer.model.classes.weight.fill_(float("inf"))
    before = trainer.model.classes.bias.clone()
    with pytest.raises(FloatingPointError, match="loss of update 1 is not finite"):
        trainer.update()
    assert torch.equal(before, trainer.model.classes.bias) and trainer.index == 0


def test_a_step_too_long_is_noticed_before_it_is_kept(striped):
    """The loss before the step is fine, and so are the gradients."""
    trainer = FeaturesTrainer(network(), striped, RECIPE.replace(learning_rate=1e30))
    with pytest.raises(FloatingPointError, match="parameter of update 1 is not finite"):
        trainer.update()
    assert trainer.index == 0


def test_a_folder(tmp_path, striped):
    made = network()
    made.notes = {"updates": 3}
    FeaturesTrainer(made, striped, RECIPE).update()
    made.save(tmp_path)
    loaded = FeatureNetwork.load(tmp_path)
    assert not loaded.training and loaded.notes == {"updates": 3} and loaded.config == SMALL
    assert np.array_equal(loaded.features(striped.images), made.features(striped.images))
    (tmp_path / NAMES[0]).unlink()
    with pytest.raises(FileNotFoundError, match="there is no feature network in"):
        FeatureNetwork.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and weight_decay not negative, got 0.0 and"),
        ({"weight_decay": -1.0}, "weight_decay not negative"),
        ({"batch_size": 61}, "batch_size must be from 2 to epoch_size 60, got 61"),
        ({"batch_size": 1}, "batch_size must be from 2"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RECIPE.replace(**changes)


def test_dropout():
    made = network(SMALL.replace(dropout=0.5))
    assert [m.p for m in made.modules() if isinstance(m, nn.Dropout)] == [0.15, *[0.2] * 7, 0.25, 0.25]
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 2, got 2.0"):
        SMALL.replace(dropout=2.0)


def test_a_size_that_is_none():
    with pytest.raises(ValueError, match="image_size must be two whole numbers of at least 1"):
        SMALL.replace(image_size=(0, 3))
