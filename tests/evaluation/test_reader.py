"""The digit reader that ships with the package, on digits that it was not trained on, and its training."""

import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from aligndraw.data import PLACES, Digits, all_placements, evaluation_sets, load_digits
from aligndraw.evaluation.fidelity import GROUPS, Fidelity, score_reader
from aligndraw.evaluation.reader import NOTHING, SHIPPED, DigitReader
from aligndraw.files import load_tensors, save_tensors
from aligndraw.training import digit_reader
from aligndraw.training.digit_reader import Composer, train_digit_reader

DIGITS = load_digits()
TEST = DIGITS.images[-1000:], DIGITS.labels[-1000:]


@pytest.fixture(scope="module")
def reader():
    return DigitReader.load()


def at(place, digits, rows=0, columns=0):
    """Digits [n, 28, 28] at the middle of a place, moved by some pixels: [n, 1, 60, 60]."""
    where = PLACES[place]
    top, left = sum(where.rows) // 2 + rows, sum(where.columns) // 2 + columns
    pictures = torch.zeros(len(digits), 1, 60, 60)
    pictures[:, 0, top : top + 28, left : left + 28] = torch.as_tensor(digits).float() / 255
    return pictures


def share(readings, wanted):
    """Of pictures that are read right at all eight places."""
    return (readings == wanted).all(1).double().mean().item()


def holding(place, labels):
    wanted = torch.full((len(labels), 8), NOTHING)
    wanted[:, list(PLACES).index(place)] = torch.as_tensor(labels).long()
    return wanted


def test_real_pictures(reader):
    """One of each caption, other ones than those of the record, are read as well as it says."""
    got = score_reader(reader, DIGITS, "test", n=1, seed=12).faithful
    for group in ("one_digit", "two_digits", "seen", "held_out"):
        claimed = reader.record["accuracy"][group]["mean"]
        spread = math.sqrt(claimed * (1 - claimed) / got[group].count)
        assert got[group].mean > claimed - 4 * spread, group


def test_the_record(reader):
    assert SHIPPED.stat().st_size < 1_000_000
    accuracy = reader.record["accuracy"]
    assert set(accuracy) == set(GROUPS)
    assert accuracy["all"]["count"] >= 2000
    assert accuracy["seen"]["count"] + accuracy["held_out"]["count"] == accuracy["all"]["count"]
    for group in GROUPS:
        assert accuracy[group]["mean"] == accuracy[group]["hits"] / accuracy[group]["count"]
    assert accuracy["all"]["mean"] >= 0.98
    assert "aligndraw.training.digit_reader" in reader.record["command"]


def test_no_credit_for_other_pictures(reader):
    """Blank pictures, other captions, another digit at the place, the digit at another place."""
    examples = evaluation_sets(DIGITS, "test", seed=5, size=60)["seen"]
    pictures = torch.from_numpy(examples.batch(slice(None))[0]).float() / 255
    readings = reader.read(pictures)
    placements = [(k, a, b) for k, (a, b) in zip(examples.template.tolist(), examples.labels.tolist())]
    assert Fidelity.of(readings, placements).faithful["all"].mean > 0.9

    def score(readings, change):
        return Fidelity.of(readings, [change(*p) for p in placements]).faithful["all"].hits

    assert score(reader.read(torch.zeros(60, 1, 60, 60)), lambda k, a, b: (k, a, b)) == 0
    assert score(readings.roll(7, 0), lambda k, a, b: (k, a, b)) <= 3
    assert score(readings, lambda k, a, b: (k, (a + 1) % 10, b)) <= 1
    turned = {0: 2, 1: 3, 2: 0, 3: 1, 4: 5, 5: 6, 6: 7, 7: 4}
    assert score(readings, lambda k, a, b: (turned[k], a, b)) == 0


@pytest.mark.parametrize("place", PLACES)
def test_places_are_read_alike(reader, place):
    """Each digit at the middle of each place, held-out ones included; anywhere else is empty."""
    images, labels = (part[:100] for part in TEST)
    assert share(reader.read(at(place, images)), holding(place, labels)) > 0.96


def test_a_soft_picture_is_read(reader):
    """Blurred over 3 x 3 pixels, at 70% contrast, with faint noise."""
    images, labels = (part[:200] for part in TEST)
    pictures = functional.avg_pool2d(at("right", images), 3, 1, 1) * 0.7
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    pictures = (pictures + 0.03 * noise).clamp(0, 1)
    assert share(reader.read(pictures), holding("right", labels)) > 0.94


def middle_of(place):
    return PLACES[place]._replace(rows=(16, 16), columns=(16, 16))


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("grey", lambda x: torch.full((len(x), 1, 60, 60), 0.5)),
        (
            "noise",
            lambda x: torch.rand(len(x), 1, 60, 60, generator=torch.Generator().manual_seed(0)),
        ),
        ("faint", lambda x: at("top", x) * 0.1),
        ("a blob", lambda x: functional.avg_pool2d(at("top", x), 15, 1, 7)),
        ("a third", lambda x: at("top", x * (np.arange(28) < 12)[:, None])),
        ("a dot", lambda x: at("top", x * (np.abs(np.arange(28) - 14) < 2)[:, None])),
        (
            "upset",
            lambda x: at("top", x.reshape(-1, 4, 7, 28)[:, [1, 3, 0, 2]].reshape(-1, 28, 28)),
        ),
        (
            "three in one",
            lambda x: (at("top", x) + at("top", x[::-1].copy()) + at("top", np.roll(x, 9, 0))) / 3,
        ),
        ("no place", lambda x: at("top", x, rows=15)),
    ],
)
def test_a_smudge_is_no_digit(reader, kind, make):
    pictures = make(TEST[0][:200]).clamp(0, 1)
    assert share(reader.read(pictures), NOTHING) > 0.85, kind


def test_windows_are_around_the_places():
    """A digit at the middle of its place has two dark pixels on each side in its window."""
    rng = np.random.default_rng(0)
    for i, place in enumerate(PLACES):
        digit = rng.integers(1, 256, (1, 28, 28), np.uint8)
        (window,) = DigitReader.windows(at(place, digit))[0, i]
        expected = functional.pad(torch.as_tensor(digit).float() / 255, (2, 2, 2, 2))
        torch.testing.assert_close(window, expected[0])


def test_a_reading_needs_more_than_half(reader, monkeypatch):
    logits = torch.full((1, 8, 11), -30.0)
    logits[0, :, 4] = 0.0
    logits[0, 1:, 7] = torch.tensor([-0.1, 0.1, -2, 2, 0, -30, -30])
    logits[0, 6:, NOTHING] = torch.tensor([0.1, -0.1])
    monkeypatch.setattr(DigitReader, "forward", lambda self, images: logits)
    assert reader.read(torch.zeros(1, 1, 60, 60)).tolist() == [[4, 4, 7, 4, 7, 10, 10, 4]]


def test_errors(reader, tmp_path):
    for shape in ((1, 60, 60), (2, 3, 60, 60), (2, 1, 28, 28)):
        with pytest.raises(ValueError, match=r"images must have shape \[B, 1, 60, 60\], got \["):
            reader.read(torch.zeros(shape))
    path = tmp_path / "reader.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no digit reader .*reader.safetensors"):
        DigitReader.load(path)
    whole = SHIPPED.read_bytes()
    state = {name: value.contiguous() for name, value in reader.state_dict().items()}
    metadata = {"format": "aligndraw reader 1", "record": "{}"}
    for content, words in (
        (whole[:-10], "is damaged or no safetensors file"),
        (b"PK\x03\x04", "is damaged or no safetensors file"),
        (safetensors.torch.save(state), "does not say that its format is aligndraw reader 1"),
        (safetensors.torch.save(state, {**metadata, "record": "{"}), "is damaged or no digit reader"),
        (
            safetensors.torch.save(state, {**metadata, "record": "[]"}),
            "its record is no JSON object",
        ),
        (safetensors.torch.save({"layers.0.weight": torch.zeros(2)}, metadata), "Missing key"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words) as caught:
            DigitReader.load(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_saved_and_loaded(reader, tmp_path):
    path = tmp_path / "reader.safetensors"
    fresh = DigitReader().eval()
    fresh.record = {"accuracy": {}, "command": "none"}
    fresh.save(path)
    again = DigitReader.load(path)
    assert again.record == fresh.record and not again.training
    pictures = torch.rand(3, 1, 60, 60)
    assert torch.equal(again(pictures), fresh(pictures))
    assert not torch.equal(again(pictures), reader(pictures))
    assert [p.name for p in tmp_path.iterdir()] == ["reader.safetensors"]


def test_training_uses_the_training_digits_alone():
    """Another last 2,000 digits train the same reader to the bit; one other training digit does not."""
    images, labels = DIGITS.images.copy(), DIGITS.labels.copy()
    images[-2000:], labels[-2000:] = 255 - images[-2000:], (labels[-2000:] + 1) % 10

    def weights(digits):
        return train_digit_reader(digits, updates=2, batch_size=40).state_dict()

    first = weights(DIGITS)
    for digits, same in (
        (Digits(images, labels), True),
        (Digits(images, (labels + 1) % 10), False),
    ):
        other = weights(digits)
        assert all(torch.equal(first[k], other[k]) for k in first) == same


def test_training_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    assert not train_digit_reader(DIGITS, updates=1, batch_size=2).training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_composed_windows():
    """All digits and smudges, and what is there is what is told; empty windows are nearly dark at their middle."""
    n = 1500
    windows = Composer(*TEST, seed=3).batch(n)
    pictures, wanted, smudged = windows
    assert pictures.shape == (n, 1, 32, 32) and pictures.min() >= 0 and pictures.max() <= 1
    assert set(wanted.tolist()) == set(range(11))
    assert not (smudged & (wanted != NOTHING)).any()
    middle = pictures[:, 0, 10:22, 10:22].amax((1, 2))
    assert middle[wanted != NOTHING].min() > 0.2
    named, torn = (wanted != NOTHING).double().mean().item(), smudged.double().mean().item()
    assert abs(named - 0.7) < 0.05 and abs(torn - 0.15) < 0.04
    empty = pictures[(wanted == NOTHING) & ~smudged, 0]
    assert (empty[:, 14:18, 14:18].amax((1, 2)) < 0.25).double().mean() > 0.8
    assert (empty.amax((1, 2)) > 0.5).double().mean() > 0.1  # a piece of a neighbour
    again = Composer(*TEST, seed=3).batch(n)
    assert torch.equal(again.pictures, pictures) and torch.equal(again.targets, wanted)
    assert not torch.equal(Composer(*TEST, seed=4).batch(n).pictures, pictures)


def test_the_command(tmp_path, monkeypatch, capsys):
    """It measures what it has trained and saves both."""
    monkeypatch.setattr(digit_reader, "EVALUATION_PICTURES", 1)
    path, threads = tmp_path / "reader.safetensors", torch.get_num_threads()
    try:
        digit_reader.main(["--out", str(path), "--updates", "1", "--seed", "3"])
    finally:
        torch.set_num_threads(threads)
    record = DigitReader.load(path).record
    assert record["command"].endswith("digit_reader --updates 1 --seed 3")
    assert record["accuracy"]["all"]["count"] == len(all_placements())
    assert record["accuracy"]["all"]["mean"] < 0.1
    assert json.dumps(record["composed"])
    printed = capsys.readouterr().out
    assert "all captions" in printed and f"wrote {path}" in printed


def test_a_reader_of_whole_numbers_is_refused(tmp_path):
    tensors, metadata = load_tensors(DigitReader.shipped)
    name = min(name for name, tensor in tensors.items() if tensor.is_floating_point())  # a file has no order
    save_tensors(tmp_path / "r.safetensors", {**tensors, name: tensors[name].int()}, metadata)
    with pytest.raises(
        ValueError, match=f"r.safetensors is damaged or no digit reader: {name} must be float32, got int32$"
    ):
        DigitReader.load(tmp_path / "r.safetensors")
