"""Memory does not grow with the number of images, while they are stored, trained on or evaluated on.

Counted are the bytes that NumPy and Python allocate, on which neither the machine nor its load has an effect.
"""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from aligndraw import AlignDRAWConfig, Pipeline, TrainingConfig
from aligndraw.cli import main
from aligndraw.data import CaptionedImages, CaptionedWriter, open_data_set
from aligndraw.model import build_model
from aligndraw.pipelines import config_for
from aligndraw.pipelines.runs import training_pairs
from aligndraw.training import Trainer

SIDE, PART = 8, 500
FEW, MANY = 5_000, 40_000  # more than the images that are copied together
MODEL = AlignDRAWConfig(
    steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4, vocabulary_size=9
)
RECIPE = TrainingConfig(epochs=1, epoch_size=400, batch_size=40, kl_warmup=0)


def peak(work):
    """The most bytes that were allocated at once in the course of some work, beyond those at its start."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def store(folder, count):
    """Images that all differ, with captions of one to nine words, part by part."""
    with CaptionedWriter(folder, (3, SIDE, SIDE), {}) as writer:
        for split, images in (("train", count), ("validation", 20)):
            for first in range(0, images, PART):
                numbers = np.arange(first, min(first + PART, images))
                pictures = np.random.default_rng(first).integers(0, 256, (len(numbers), 3, SIDE, SIDE), np.uint8)
                writer.add(split, str(first), pictures, [["word " * (i % 9 + 1)] for i in numbers.tolist()])
        return writer.finish()


def train(folder):
    data = open_data_set("captioned", folder, validation_size=20)
    assert training_pairs(data.source) is not None
    trainer = Trainer(build_model(config_for(MODEL, data)), data.source, RECIPE)
    while trainer.index < trainer.total:
        trainer.update()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Folders of few and of many images, and the peak of storing them."""
    place = tmp_path_factory.mktemp("stored")
    store(place / "first", 20)  # what is made once in a process
    return {count: (place / str(count), peak(lambda c=count: store(place / str(c), c))[1]) for count in (FEW, MANY)}


def test_storing(stored):
    """Before, 40,000 images took eight times the memory of 5,000."""
    few, many = stored[FEW][1], stored[MANY][1]
    data = CaptionedImages.open(stored[MANY][0])
    assert data.sizes["train"] == {"images": MANY, "captions": MANY}
    assert many < 1.1 * few + 2**17, (few, many)


def test_training(stored, monkeypatch):
    monkeypatch.setattr("aligndraw.pipelines.runs.MAX_CAPTIONS", 500)  # 20,000 captions tell the word pairs
    train(stored[FEW][0])  # what is made once in a process
    few, many = (peak(lambda c=count: train(stored[c][0]))[1] for count in (FEW, MANY))
    assert many < 1.1 * few + 2**17, (few, many)


def test_evaluating(stored, tmp_path, capsys):
    """All captions of the split were in memory as text: 40,000 images took 5.4 MB, and 5,000 took 2.2."""
    data = open_data_set("captioned", stored[FEW][0])
    Pipeline(build_model(config_for(MODEL, data)), data.source.vocabulary).save_pretrained(tmp_path / "model")

    def evaluate(count):
        numbers = ["--images", "40", "--samples", "2", "--split", "train", "--json", str(tmp_path / "scores.json")]
        command = ["eval", "captioned", "--model", str(tmp_path / "model"), "--data", str(stored[count][0])]
        assert main([*command, *numbers, "--shuffle-captions"]) == 0, capsys.readouterr().err

    evaluate(FEW)  # what is made once in a process
    few, many = (peak(lambda c=count: evaluate(c))[1] for count in (FEW, MANY))
    assert many < 1.1 * few + 2**17, (few, many)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells what is mapped")
def test_what_was_read_is_given_back(stored):
    """A process seemed to grow by each image that it had read."""
    train = CaptionedImages.open(stored[MANY][0]).split("train").epoch(0, size=MANY)
    for start in range(0, MANY, 1000):
        train.batch(slice(start, start + 1000))
    held, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = str(stored[MANY][0]) in line
        elif inside and line.startswith("Rss:"):
            held += int(line.split()[1])
    assert held <= 64, f"{held} kB of {MANY} images of {3 * SIDE * SIDE} bytes"
