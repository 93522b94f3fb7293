import pytest

from aligndraw import AlignDRAWConfig, TrainingConfig
from aligndraw.config import _MODELS, _RECIPES, ConvolutionalVAEConfig, EndToEndConfig, RefinedConfig
from aligndraw.evaluation.features import FeaturesConfig
from aligndraw.lapgan.config import LAPGANConfig, SharpenerConfig
from aligndraw.presets import PRESETS


def test_table_2():
    mnist, coco = AlignDRAWConfig.preset("paper"), AlignDRAWConfig.preset("coco")
    assert (mnist.steps, mnist.encoder_units, mnist.decoder_units, mnist.latent_units) == (32, 300, 300, 150)
    assert (coco.steps, coco.encoder_units, coco.decoder_units, coco.latent_units) == (32, 550, 550, 275)
    assert (mnist.read_size, mnist.write_size, coco.read_size, coco.write_size) == (8, 8, 9, 9)
    assert (mnist.vocabulary_size, coco.vocabulary_size, mnist.canvas_init, coco.canvas_init) == (
        22,
        25323,
        -10,
        0,
    )
    assert {mnist.language_units, coco.language_units} == {128} and {mnist.align_units, coco.align_units} == {512}


@pytest.mark.parametrize("kind", [AlignDRAWConfig, TrainingConfig])
def test_dictionary_round_trip(kind):
    config = kind.preset("quick")
    assert kind.from_dict(config.to_dict()) == config
    assert config.replace() == config


@pytest.mark.parametrize(
    ("kind", "former", "name"),
    [
        *(
            (kind, "planes", "hidden_channels")
            for kind in (RefinedConfig, ConvolutionalVAEConfig, SharpenerConfig, LAPGANConfig, FeaturesConfig)
        ),
        (EndToEndConfig, "discriminator_planes", "discriminator_channels"),
    ],
)
def test_the_names_of_version_0_1_are_read(kind, former, name):
    """And never written; a dictionary with both names is refused."""
    written = kind(**{name: 7}).to_dict()
    assert written[name] == 7 and former not in written
    earlier = {former if key == name else key: value for key, value in written.items()}
    assert kind.from_dict(earlier) == kind(**{name: 7})
    with pytest.raises(ValueError, match=f"has no field '{former}'"):
        kind.from_dict({**written, former: 7})


def test_every_field_explains_itself():
    for kind in (AlignDRAWConfig, TrainingConfig):
        for field in kind.__dataclass_fields__.values():
            assert len(field.metadata["help"]) > 15, field.name


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (AlignDRAWConfig, {"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        (AlignDRAWConfig, {"steps": 2.5}, "steps must be a whole number"),
        (AlignDRAWConfig, {"steps": True}, "steps must be a whole number"),
        (AlignDRAWConfig, {"align": 1}, "align must be true or false"),
        (AlignDRAWConfig, {"likelihood": "poisson"}, "likelihood must be one of bernoulli, gaussian"),
        (AlignDRAWConfig, {"image_size": (0, 4)}, "image_size must be two whole numbers"),
        (AlignDRAWConfig, {"observation_variance": 0.0}, "observation_variance must be above 0"),
        (AlignDRAWConfig, {"image_size": (4, True)}, "image_size must be two whole numbers"),
        (AlignDRAWConfig, {"steps": 2**31}, r"steps must be a whole number below 2\^31, got 2147483648"),
        (AlignDRAWConfig, {"canvas_init": float("-inf")}, "canvas_init must be finite, got -inf"),
        (AlignDRAWConfig, {"canvas_init": 10**30}, "canvas_init must be a number, got 1000"),
        (AlignDRAWConfig, {"canvas_init": 1e39}, "canvas_init must be a number of float32, at most 3.4e38, got 1e.39"),
        (TrainingConfig, {"learning_rate": 2.0**128}, "learning_rate must be a number of float32, at most 3.4e38"),
        (AlignDRAWConfig, {"canvas_init": "0"}, "canvas_init must be a number, got '0'"),
        (TrainingConfig, {"clip_norm": float("nan")}, "clip_norm must be finite, got nan"),
        (AlignDRAWConfig, {"step": 3}, "AlignDRAWConfig has no field 'step'; it has image_size"),
        (TrainingConfig, {"learning_rate": -1.0}, "learning_rate must be above 0"),
        (TrainingConfig, {"word_dropout": 1.0}, "word_dropout must be at least 0 and below 1, got 1.0"),
        (TrainingConfig, {"shift": -1}, "shift must be a whole number of at least 0, got -1"),
        (TrainingConfig, {"learning_rate": float("nan")}, "learning_rate must be finite"),
        (TrainingConfig, {"clip_norm": -1.0}, "clip_norm must not be negative"),
        (TrainingConfig, {"weight_decay": -0.5}, "weight_decay must not be negative, got -0.5"),
        (AlignDRAWConfig, {"window_span": -1.0}, "window_span must not be negative, got -1.0"),
        (AlignDRAWConfig, {"window_span": 9.0, "read_size": 1}, "window_span must be 0 for a grid of one filter"),
        (AlignDRAWConfig, {"window_span": 9.0, "image_size": (1, 1)}, "or an image of one pixel, got 9.0"),
        (AlignDRAWConfig, {"read_window": "read"}, "read_window must be one of own, write, got 'read'"),
        (AlignDRAWConfig, {"word_values": "ids"}, "word_values must be one of states, embeddings, both, got 'ids'"),
        (
            AlignDRAWConfig,
            {"word_values": "embeddings", "align": False},
            "word_values must be states where align is false, got 'embeddings'",
        ),
        (
            AlignDRAWConfig,
            {"word_keys": "embeddings", "align": False},
            "word_keys must be states where align is false, got 'embeddings'",
        ),
        (AlignDRAWConfig, {"attention_scale": 0.0}, "attention_scale must be above 0, got 0.0"),
        (AlignDRAWConfig, {"attention_scale": 2.0, "align": False}, "attention_scale must be 1 where align is false"),
        (AlignDRAWConfig, {"attention_query": "word"}, "attention_query must be one of state, step, got 'word'"),
        (
            AlignDRAWConfig,
            {"attention_query": "step", "align": False},
            "attention_query must be state where align is false, got 'step'",
        ),
        (AlignDRAWConfig, {"shape_units": 2, "align": False}, "shape_units must be 0 where align is false, got 2"),
        (TrainingConfig, {"batch_size": 33}, "epoch_size must be a multiple of batch_size"),
    ],
)
def test_errors(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind().replace(**changes)


def test_presets_have_the_same_names_in_python_and_on_the_command_line():
    """The paper's model was "mnist" in Python and "paper" on the command line."""
    named = {name for presets in PRESETS.values() for name in presets}
    for name in named:
        model, recipe = AlignDRAWConfig.preset(name), TrainingConfig.preset(name)
        offered = [presets[name]["align"] for presets in PRESETS.values() if name in presets]
        assert offered == [(model, recipe)] * len(offered)
    assert named == set(_MODELS) == set(_RECIPES) - {"vae"}  # the recipe of --model fc-vae and conv-vae


def test_unknown_preset():
    with pytest.raises(ValueError, match="there is no preset 'big'; there are paper, coco, quick"):
        AlignDRAWConfig.preset("big")
