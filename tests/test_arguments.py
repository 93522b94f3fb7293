"""Arguments that are out of range, or of another type, are refused by name wherever they come in."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.arguments import check_int, check_real, check_seed
from aligndraw.data import (
    VOCABULARY,
    CaptionedImages,
    MNISTCaptions,
    Scenes,
    evaluation_scenes,
    load_digits,
    open_data_set,
)
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.evaluation.drawing import draw_each
from aligndraw.evaluation.fidelity import score_fidelity
from aligndraw.evaluation.nearest import nearest_images
from aligndraw.evaluation.retrieval import Likelihoods, mean_caption, shortlists
from aligndraw.lapgan.pyramid import build
from aligndraw.noise import draw_noise
from aligndraw.pipelines import Pipeline
from aligndraw.viz import save_animation

CAPTION = "the digit seven is at the top left of the image"


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    sizes = {"encoder_units": 4, "decoder_units": 4, "latent_units": 3, "language_units": 3, "align_units": 3}
    return Pipeline(AlignDRAW(AlignDRAWConfig(steps=2, **sizes)), VOCABULARY)


@pytest.fixture(scope="module")
def calls(pipeline, tmp_path_factory):
    """Functions of one argument each, by its name."""
    model = pipeline.model
    examples = MNISTCaptions(load_digits()).epoch(0, size=3)
    ids, lengths = VOCABULARY.encode_batch([CAPTION])
    images = np.zeros((3, 1, 60, 60), np.uint8)
    picture = tmp_path_factory.mktemp("animation") / "a.gif"
    whole = {  # with the least value
        "Pipeline num_images_per_prompt": (1, lambda n: pipeline([CAPTION], num_images_per_prompt=n, seed=0)),
        "Pipeline seed": (0, lambda seed: pipeline([CAPTION], seed=seed)),
        "Pipeline steps": (1, lambda steps: pipeline([CAPTION], steps=steps, seed=0)),
        "Model.sample steps": (1, lambda steps: model.sample(ids, lengths, steps=steps)),
        "Model.forward samples": (1, lambda n: model(torch.zeros(1, 1, 60, 60), ids, lengths, samples=n)),
        "estimate_bound samples": (1, lambda n: estimate_bound(model, examples, n)),
        "estimate_bound seed": (0, lambda seed: estimate_bound(model, examples, seed=seed)),
        "estimate_bound batch_size": (1, lambda n: estimate_bound(model, examples, batch_size=n)),
        "draw_each n": (1, lambda n: list(draw_each(model, examples, n))),
        "draw_each seed": (0, lambda seed: list(draw_each(model, examples, seed=seed))),
        "draw_each batch_size": (1, lambda n: list(draw_each(model, examples, batch_size=n))),
        "mean_caption batch_size": (1, lambda n: mean_caption(model, examples, n)),
        "Likelihoods samples": (1, lambda n: Likelihoods(model, images, n)),
        "Likelihoods seed": (0, lambda seed: Likelihoods(model, images, seed=seed)),
        "Likelihoods batch_size": (1, lambda n: Likelihoods(model, images, batch_size=n)),
        "shortlists size": (1, lambda n: shortlists(np.eye(3), n)),
        "nearest count": (1, lambda n: nearest_images(images, images, n)),
        "nearest chunk": (1, lambda n: nearest_images(images, images, chunk=n)),
        "MNISTCaptions.epoch seed": (0, lambda seed: MNISTCaptions(load_digits()).epoch(seed, size=1)),
        "Scenes.epoch seed": (0, lambda seed: Scenes().epoch(seed, size=1)),
        "Scenes.epoch epoch": (0, lambda epoch: Scenes().epoch(0, epoch, size=1)),
        "Scenes.epoch size": (1, lambda size: Scenes().epoch(0, size=size)),
        "evaluation_scenes size": (1, lambda size: evaluation_scenes(size=size)),
        "open_data_set validation_size": (1, lambda n: open_data_set("scenes", validation_size=n)),
        "build levels": (0, lambda n: build(torch.zeros(1, 1, 8, 8), n)),
        "save_animation columns": (1, lambda n: save_animation(pipeline([CAPTION], seed=0).samples, picture, n)),
    }
    number = {
        "Pipeline temperature": lambda x: pipeline([CAPTION], temperature=x, seed=0),
        "Model.sample temperature": lambda x: model.sample(ids, lengths, temperature=x),
    }
    return whole, number


def test_whole_numbers(calls):
    """`steps=0` drew the usual number, and 2.5 of anything was an error from somewhere inside, or none."""
    for place, (least, call) in calls[0].items():
        name = place.split()[1]
        for wrong in (least - 1, 2.5, "1", True, math.nan):
            with pytest.raises(ValueError, match=f"{name} must be a whole number of at least {least}"):
                call(wrong)
        call(np.int64(max(least, 1)))


def test_numbers(calls):
    """A temperature that is not a number drew pictures of none."""
    for place, call in calls[1].items():
        name = place.split()[1]
        for wrong in (-0.5, math.nan, math.inf, "1", None):
            with pytest.raises(ValueError, match=f"{name} must be a finite number of at least 0, got {wrong!r}"):
                call(wrong)
        call(0)


def test_seeds():
    like = torch.zeros(1)
    for wrong in (-1, 2**63, 1.0, "0"):
        with pytest.raises(ValueError, match=r"seed must be a whole number of at least 0 and below 2\^63"):
            check_seed(wrong)
    with pytest.raises(ValueError, match="seed must be"):
        draw_noise(1, [2], -1, like)
    check_seed(2**63 - 1)


def test_messages():
    with pytest.raises(ValueError, match=r"^n must be a whole number of at least 1, got 0$"):
        check_int("n", 0, 1)
    with pytest.raises(ValueError, match=r"^x must be a finite number of at least 0.5, got 'a'$"):
        check_real("x", "a", 0.5)
    check_real("x", torch.tensor(1.0), 0)


def test_fidelity_refuses_before_it_draws(pipeline):
    for arguments in ({"n": 0}, {"seed": -1}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be a whole number"):
            score_fidelity(pipeline.model, **arguments)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: Pipeline("mnist"), "Pipeline takes parts; open a saved one by Pipeline.from_pretrained('mnist')"),
        (
            lambda: Pipeline(Path("runs") / "a", device="cpu"),
            "Pipeline takes parts; open a saved one by Pipeline.from_pretrained('runs/a')",
        ),
        (
            lambda: CaptionedImages("coco"),
            "CaptionedImages takes parts; open a saved one by CaptionedImages.open('coco')",
        ),
    ],
    ids=["name", "path", "data"],
)
def test_a_path_in_the_place_of_parts(call, line):
    """It was a missing argument `vocabulary`, which says nothing of the way to open a model."""
    with pytest.raises(TypeError) as raised:
        call()
    assert str(raised.value) == line
