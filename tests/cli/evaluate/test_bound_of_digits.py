"""`aligndraw eval mnist`: what it prints and writes is what the library says; what it refuses, in one line."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.cli import main
from aligndraw.data import BANS, VOCABULARY, evaluation_sets, load_digits
from aligndraw.evaluation import reader as reader_module
from aligndraw.evaluation.bound import Estimate, estimate_bound
from aligndraw.evaluation.excess import score_excess
from aligndraw.evaluation.fidelity import score_fidelity
from aligndraw.evaluation.reader import DigitReader
from aligndraw.evaluation.shuffling import derangement
from aligndraw.model.saved import load_model, save_model
from aligndraw.text import Vocabulary

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
SHORT = ("--images", 3, "--samples", 2, "-n", 1, "--seed", 5)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = AlignDRAW(TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    save_model(model, VOCABULARY, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def evaluate(capsys):
    """Runs `aligndraw eval mnist`; returns status, output and what it complained of."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main(["eval", "mnist", *map(str, arguments)])
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_numbers(evaluate, folder, tmp_path):
    """The file holds what the library computes, the page shows the same numbers."""
    path = tmp_path / "out.json"
    status, out, err = evaluate("--model", folder, *SHORT, "--split", "validation", "--json", path)
    assert (status, err) == (0, "")
    record = json.loads(path.read_text())
    model = load_model(folder)[0]
    for kind, examples in evaluation_sets(load_digits(), "validation", seed=5, size=3).items():
        report = estimate_bound(model, examples, samples=2, seed=5)
        assert record["bound"][kind] == report.to_dict()
        for estimate in (report.bound, report.importance, report.kl, report.nll):
            assert str(estimate) in out
        assert " ".join(f"{kl:.2f}" for kl in report.kl_steps) in out
    for digits, excess in score_excess(model, load_digits(), "validation", n=1, seed=5).items():
        assert record["excess"][digits] == excess.to_dict()
        assert all(str(estimate) in out for estimate in (excess.bound, excess.kl, excess.nll))
    fidelity = score_fidelity(model, n=1, seed=5)
    assert record["fidelity"] == json.loads(json.dumps(fidelity.to_dict()))
    assert str(fidelity) in out
    accuracy = DigitReader.load().record["accuracy"]["two_digits"]["mean"]
    assert re.search(rf"two digits +\d+\.\d ± \d+\.\d +{100 * accuracy:.1f} ± ", out)
    assert record["model"] == str(folder) and record["split"] == "validation"
    assert [record[k] for k in ("images", "samples", "n", "seed")] == [3, 2, 1, 5]
    assert record["reader"] == DigitReader.load().record
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out.json"]
    assert all(line == line.rstrip() and len(line) <= 100 for line in out.splitlines())


class Recaptioned:
    """Examples whose picture i has the caption of example order[i]."""

    def __init__(self, examples, order):
        self.images = examples.batch(slice(0, None))[0]
        self.words, self.lengths = (a[order] for a in examples.batch(slice(0, None))[1:])

    def __len__(self):
        return len(self.images)

    def batch(self, index):
        return self.images[index], self.words[index], self.lengths[index]


def test_shuffled_captions(evaluate, folder, tmp_path):
    """No picture keeps its caption; bound and difference are those of the library with the captions permuted."""
    path, given = tmp_path / "out.json", ("--model", folder, *SHORT, "--images", 8, "--split", "validation")
    assert evaluate(*given, "--json", path)[0] == 0
    assert "shuffled_captions" not in json.loads(path.read_text())
    status, out, err = evaluate(*given, "--shuffle-captions", "--json", path)
    assert (status, err) == (0, "")
    record = json.loads(path.read_text())
    order = derangement(np.arange(8), 5)
    assert sorted(order) == list(range(8)) and (order != np.arange(8)).all()
    model = load_model(folder)[0]
    sets = evaluation_sets(load_digits(), "validation", seed=5, size=8)
    assert record["shuffled_captions"].keys() == sets.keys()
    for kind, examples in sets.items():
        own, shuffled = (estimate_bound(model, e, samples=2, seed=5) for e in (examples, Recaptioned(examples, order)))
        told = record["shuffled_captions"][kind]
        assert told["bound"] == shuffled.to_dict() and record["bound"][kind] == own.to_dict()
        pairs = (shuffled.each - own.each).double().numpy()
        assert abs(pairs.mean()) > 0 and told["difference"]["mean"] == pytest.approx(pairs.mean(), rel=1e-9)
        assert told["difference"]["error"] == pytest.approx(pairs.std(ddof=1) / math.sqrt(8), rel=1e-9)
        pairs = Estimate(told["difference"]["mean"], told["difference"]["error"])
        for row, estimate in {"own": own.bound, "shuffled": shuffled.bound, "difference of pairs": pairs}.items():
            assert re.search(rf"^ *{row} .*{re.escape(str(estimate))}", out, re.MULTILINE)
    assert "captions help where the difference is above 0" in out


def test_the_test_digits_are_the_default(evaluate, folder, tmp_path):
    for options in ((), ("--split", "test"), ("--split", "validation")):
        path = tmp_path / f"{len(options) and options[1]}.json"
        assert evaluate("--model", folder, *SHORT, *options, "--json", path)[0] == 0
    default, test, validation = (
        json.loads((tmp_path / f"{name}.json").read_text())["bound"] for name in ("0", "test", "validation")
    )
    assert default == test != validation


@pytest.fixture
def trained(tmp_path, folder):
    """A model that was trained on MNIST with captions; what its notes say of the bans is for a test to choose."""

    def save(**bans):
        notes = {"data": {"name": "mnist", "path": None, "sha256": "", **bans}}
        save_model(load_model(folder)[0], VOCABULARY, tmp_path / "trained", notes=notes)
        return tmp_path / "trained"

    return save


@pytest.mark.parametrize(
    ("noted", "given", "bans"),
    [
        ({"bans": "authors"}, (), "authors"),
        ({}, (), "strict"),  # from before there were others
        (None, ("--bans", "sifting"), "sifting"),
    ],
)
def test_bans_are_those_of_the_training(evaluate, folder, trained, tmp_path, noted, given, bans):
    path = tmp_path / "out.json"
    model = folder if noted is None else trained(**noted)
    status, out, err = evaluate("--model", model, *SHORT, "--split", "validation", "--json", path, *given)
    assert (status, err) == (0, "") and f"3 pictures of validation digits, {bans} bans" in out
    record = json.loads(path.read_text())
    assert record["bans"] == bans
    examples = evaluation_sets(load_digits(), "validation", seed=5, size=3, bans=BANS[bans])["held_out"]
    network = load_model(folder)[0]
    assert record["bound"]["held_out"] == estimate_bound(network, examples, samples=2, seed=5).to_dict()
    fidelity = score_fidelity(network, n=1, seed=5, bans=BANS[bans])
    assert record["fidelity"] == json.loads(json.dumps(fidelity.to_dict()))
    assert str(fidelity.confusion) in out


def test_other_bans_than_those_of_the_training_are_refused(evaluate, trained):
    status, out, err = evaluate("--model", trained(bans="sifting"), *SHORT, "--bans", "strict")
    assert (status, out) == (2, "")
    assert err.endswith(f"model {trained(bans='sifting')} was trained under the sifting bans: leave out --bans\n")


def test_unknown_bans_of_a_training_are_refused(evaluate, trained):
    status, out, err = evaluate("--model", trained(bans="lax"), *SHORT)
    assert (status, out) == (1, "") and "bans must be one of 'strict'" in err


def damage(folder, how):
    if how == "no folder":
        return folder / "none"
    if how == "no JSON":
        (folder / "config.json").write_text("{")
    elif how == "cut":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-9])
    elif how == "other weights":
        config = (folder / "config.json").read_text()
        save_model(AlignDRAW(TINY.replace(latent_units=4)), VOCABULARY, folder)
        (folder / "config.json").write_text(config)
    elif how == "other pictures":
        save_model(AlignDRAW(TINY.replace(image_size=(32, 32), channels=3)), VOCABULARY, folder)
    elif how == "other words":
        save_model(AlignDRAW(TINY), Vocabulary(VOCABULARY.words[::-1]), folder)
    elif how == "huge":
        model = AlignDRAW(TINY)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 1e30)
        save_model(model, VOCABULARY, folder)
    return folder


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no folder", "there is no model in "),
        ("no JSON", "config.json is no model configuration"),
        ("cut", "is damaged or no safetensors file"),
        ("other weights", "model.safetensors does not fit config.json"),
        ("other pictures", "model must be of pictures [1, 60, 60]"),
        ("other words", "must have the vocabulary of MNIST with captions"),
        ("huge", "is not a finite number"),
    ],
)
def test_models_refused(evaluate, folder, tmp_path, how, words):
    path = tmp_path / "out.json"
    status, out, err = evaluate("--model", damage(folder, how), *SHORT, "--json", path)
    assert (status, out) == (1, "") and not path.exists()
    (line,) = err.splitlines()
    assert line.startswith("aligndraw: error: ") and words in line


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--images", "1"], 2, "--images: must be a whole number of at least 2, got '1'"),
        (["--samples", "0"], 2, "--samples: must be a whole number of at least 1, got '0'"),
        (["-n", "0"], 2, "-n: must be a whole number of at least 1, got '0'"),
        (["--split", "train"], 2, "--split: invalid choice: 'train'"),
        (["--seed", "-1"], 2, "--seed: must be a whole number of at least 0 and below 2^63, got '-1'"),
        (["--json", "none/out.json"], 1, "cannot write none/out.json: No such file"),
        (["--json", "/proc/out.json"], 1, "cannot write /proc/out.json: "),
        (["--json", "."], 1, "cannot write .: it is a folder"),
        (["--digits", "none.npz"], 1, "digits file none.npz does not exist"),
    ],
)
def test_options_refused(evaluate, folder, tmp_path, monkeypatch, options, status, words):
    monkeypatch.chdir(tmp_path)
    got, out, err = evaluate("--model", folder, *SHORT, *options)
    (line,) = err.splitlines()
    assert (got, out) == (status, "") and line.startswith("aligndraw: error: ") and words in line
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_no_reader(evaluate, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module.DigitReader, "shipped", tmp_path / "none.safetensors")
    status, out, err = evaluate("--model", folder, *SHORT)
    assert (status, out) == (1, "")
    assert err == f"aligndraw: error: there is no digit reader {tmp_path / 'none.safetensors'}\n"


def test_a_damaged_reader(evaluate, folder, tmp_path, monkeypatch):
    path = tmp_path / "reader.safetensors"
    path.write_bytes(reader_module.DigitReader.shipped.read_bytes()[:-1000])
    monkeypatch.setattr(reader_module.DigitReader, "shipped", path)
    status, out, err = evaluate("--model", folder, *SHORT)
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"aligndraw: error: {path} is damaged or no safetensors file: ")


def test_a_full_disk(evaluate, folder, tmp_path, monkeypatch):
    """The numbers are on the screen all the same, and an earlier file stays whole."""
    path = tmp_path / "out.json"
    path.write_text("earlier")
    write = Path.write_text

    def full(self, text, **options):
        write(self, text[:10], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    status, out, err = evaluate("--model", folder, *SHORT, "--json", path)
    assert (status, err) == (1, f"aligndraw: error: cannot write {path}: No space left on device\n")
    assert "all captions" in out and path.read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out.json"]
