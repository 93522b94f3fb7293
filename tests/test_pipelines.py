"""Pipeline and runs, from Python."""

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import VOCABULARY, open_data_set
from aligndraw.model.saved import load_model, save_model
from aligndraw.pipelines import Pipeline, new_run, resumed_run, train
from aligndraw.text import CaptionError, Vocabulary
from aligndraw.training.run import RunError

TINY = AlignDRAWConfig(
    steps=3,
    encoder_units=6,
    decoder_units=5,
    latent_units=3,
    language_units=4,
    align_units=4,
    canvas_init=0.0,
)
SHORT = TrainingConfig(epochs=2, epoch_size=12, batch_size=4)
SEVEN, TWO = "the digit seven is at the top left of the image", "7 is on the left"


def network(**changes):
    torch.manual_seed(0)
    model = AlignDRAW(TINY.replace(**changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    return model


@pytest.fixture
def pipeline():
    return Pipeline(network(), VOCABULARY)


def test_captions_come_one_after_the_other(pipeline):
    """Also of different lengths: each as if it were drawn alone."""
    both = pipeline.draw([SEVEN, TWO], n=3).images
    assert both.shape == (6, 1, 60, 60)
    for i, caption in enumerate((SEVEN, TWO)):
        alone = pipeline.draw([caption], n=3).images
        torch.testing.assert_close(both[3 * i : 3 * i + 3], alone)
    assert (both[:3] - both[3:]).abs().amax((1, 2, 3)).min() > 1e-3


def test_picture_i_depends_on_the_seed_and_i_alone(pipeline):
    five, two = (pipeline.draw([SEVEN], n=n, seed=4).images for n in (5, 2))
    torch.testing.assert_close(five[:2], two)
    distances = torch.cdist(five.flatten(1), five.flatten(1))
    assert (distances + 9 * torch.eye(5)).min() > 0.1
    assert (pipeline.draw([SEVEN], n=5, seed=5).images - five).abs().amax((1, 2, 3)).min() > 1e-3


def test_two_captions_share_their_noise(pipeline):
    same = pipeline.draw([SEVEN, SEVEN], n=2).images
    torch.testing.assert_close(same[:2], same[2:])


def test_draw_passes_its_options_on(pipeline):
    assert pipeline.draw([SEVEN], steps=5).windows.shape == (1, 5, 5)
    cold = pipeline.draw([SEVEN], n=2, temperature=0.0).images
    assert torch.equal(cold[0], cold[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0 .*, got -1"),
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0"),
        ({"captions": []}, "at least one caption"),
        ({"captions": SEVEN}, "must be a list of strings"),
        ({"captions": ["a bus"]}, "unknown words"),
    ],
)
def test_refused_arguments(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline.draw(**{"captions": [SEVEN], **options})


def test_captions_of_the_released_conventions():
    """Their language model mixes the captions of a batch: copies of one are fine, different ones are refused."""
    pipeline = Pipeline(network(conventions="released"), VOCABULARY)
    torch.testing.assert_close(pipeline.draw([SEVEN], n=3).images[:1], pipeline.draw([SEVEN]).images)
    pipeline.draw([SEVEN, SEVEN.replace("seven", "7")])
    for other in (SEVEN.replace("seven", "one"), TWO):
        with pytest.raises(ValueError, match="got 2 captions: draw one at a time"):
            pipeline.draw([SEVEN, other])


def test_padding_is_no_word():
    """Word 0 also fills the shorter captions up: "a a" is another caption than "a"."""
    pipeline = Pipeline(network(conventions="released", vocabulary_size=22), Vocabulary(("a", "b")))
    with pytest.raises(ValueError, match="draw one at a time"):
        pipeline.draw(["a", "a a"])


def test_load(pipeline, tmp_path):
    save_model(pipeline.model, VOCABULARY, tmp_path, notes={"seed": 1})
    loaded = Pipeline.load(tmp_path)
    assert loaded.notes == {"seed": 1} and loaded.vocabulary == VOCABULARY
    assert torch.equal(loaded.draw([SEVEN]).images, pipeline.draw([SEVEN]).images)


def test_load_refuses(tmp_path):
    model = network()
    torch.nn.init.constant_(model.canvas, float("inf"))
    save_model(model, VOCABULARY, tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        Pipeline.load(tmp_path)


@pytest.mark.parametrize("words", [21, 23])
def test_a_vocabulary_of_another_size_is_not_saved(tmp_path, words):
    with pytest.raises(ValueError, match=f"its vocabulary must have the 22 words of vocabulary_size, got {words}$"):
        save_model(network(), Vocabulary(tuple(f"w{i}" for i in range(words))), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def new(folder, **options):
    return new_run(folder, TINY, SHORT, open_data_set("mnist", validation_size=3), **{"seed": 1, **options})


def test_a_run(tmp_path):
    seen = []
    with new(tmp_path / "a", colour="red") as job:
        assert set(job.data.validation_sets) == {"seen", "held_out"} and len(job.data.validation_sets["seen"]) == 3
        ended = train(job, on_update=seen.append, on_epoch=lambda epoch, scores: seen.append(epoch))
    assert ended == "finished"
    assert [x if isinstance(x, int) else x.index for x in seen] == [0, 1, 2, 1, 3, 4, 5, 2]
    assert job.run.record["colour"] == "red"
    assert Pipeline.load(tmp_path / "a").notes["updates"] == 6


def test_the_seed_draws_the_parameters(tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with new(tmp_path / name, seed=seed) as job:
            weights.append(job.trainer.model.encoder.weight_hh.detach().clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_new_run_leaves_torchs_generator_alone(tmp_path):
    before = torch.get_rng_state()
    with new(tmp_path / "a") as job:
        train(job)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_stopped_and_resumed(tmp_path, stop):
    with new(tmp_path / "whole") as job:
        train(job)
    with new(tmp_path / "parts") as job:
        assert train(job, stopping=lambda: job.trainer.index == stop) == "stopped"
    model, _, notes = load_model(tmp_path / "parts")
    assert (notes["updates"], notes["epochs"], notes["seed"]) == (stop, -(-stop // 3), 1)
    assert notes["data"]["name"] == "mnist"
    assert all(map(torch.equal, model.parameters(), job.trainer.model.parameters()))
    with resumed_run(tmp_path / "parts") as job:
        assert job.trainer.index == stop
        train(job)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_stopped_model_is_the_average_where_there_is_one(tmp_path):
    with new_run(tmp_path / "a", TINY, SHORT.replace(ema=0.9), open_data_set("mnist", validation_size=3)) as job:
        train(job, stopping=lambda: job.trainer.index == 2)
        model = load_model(tmp_path / "a")[0]
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, job.trainer.average[name])
        assert not torch.equal(model.canvas, job.trainer.model.canvas)


def test_an_error_before_the_first_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").touch()
    with pytest.raises(ZeroDivisionError), new(tmp_path):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_an_error_after_a_checkpoint_leaves_the_run(tmp_path):
    def error(update):
        if update.index == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), new(tmp_path / "a") as job:
        train(job, checkpoint_every=1, on_update=error)
    with resumed_run(tmp_path / "a") as job:
        assert job.trainer.index == 2


def test_a_refused_folder_is_left_as_it_was(tmp_path):
    with new(tmp_path / "a") as job:
        train(job)
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(RunError, match="holds run.json already"), new(tmp_path / "a"):
        pass
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_unknown_words_are_caption_errors(pipeline):
    with pytest.raises(CaptionError, match='nearest: "left"'):
        pipeline.draw(["the lefd"])
