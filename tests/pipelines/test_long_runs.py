"""Long runs: memory stays flat, and threads that share a pipeline get what one alone gets. -m slow takes longer."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import VOCABULARY, MNISTCaptions, load_digits
from aligndraw.pipelines import Pipeline
from aligndraw.training import Trainer

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
CAPTIONS = ("the digit seven is at the top left of the image", "the digit one is on the left of the digit two")
GROWTH = 8 * 2**20  # bytes that caches of the system's allocator may still take after the first half
STATUS = Path("/proc/self/statm")
lengths = pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["short", "long"])


@pytest.fixture(autouse=True)
def memory_as_it_comes():
    torch.use_deterministic_algorithms(False)


def resident():
    """Bytes of this process in memory."""
    return int(STATUS.read_text().split()[1]) * 4096


def assert_flat(work, rounds, long, seconds):
    """Runs work(i) for so many rounds, or seconds; the second half may not take more memory than the first did."""
    taken, begin = [], time.monotonic()
    for i in itertools.count():
        work(i)
        taken.append(resident())
        if time.monotonic() - begin > seconds if long else i + 1 == rounds:
            break
    start, middle, end = taken[0], taken[len(taken) // 2], taken[-1]
    print(
        f"{len(taken)} rounds; MiB at the start, in the middle, at the end:", *(n >> 20 for n in (start, middle, end))
    )
    assert end - middle < GROWTH


@pytest.fixture
def pipeline():
    torch.manual_seed(0)
    return Pipeline(AlignDRAW(TINY), VOCABULARY)


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell a process its memory")
@lengths
def test_training(long, seconds):
    recipe = TrainingConfig(epochs=10**6, epoch_size=40, batch_size=8, optimizer="adam", ema=0.9)
    trainer = Trainer(AlignDRAW(TINY), MNISTCaptions(load_digits()), recipe)
    assert_flat(lambda i: trainer.update(), 300, long, seconds)


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell a process its memory")
@lengths
def test_drawings_of_changing_sizes(pipeline, long, seconds):
    """Of changing numbers of pictures, captions and steps; the first drawing is the same at the end."""

    def draw(i):
        captions = [CAPTIONS[i % 2]] * (1 + i % 5)
        return pipeline(captions, num_images_per_prompt=1 + i % 7, steps=1 + i % 9, seed=i).samples.images

    first = draw(0)
    assert_flat(draw, 300, long, seconds)
    assert torch.equal(draw(0), first)


@lengths
def test_eight_threads_on_one_pipeline(pipeline, long, seconds):
    def draw(i):
        return pipeline(CAPTIONS[i % 2], num_images_per_prompt=1 + i % 3, seed=i).samples.images

    wanted, begin = [draw(i) for i in range(40)], time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        while True:
            found = list(pool.map(draw, range(40)))
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
            if not long or time.monotonic() - begin > seconds:
                break
