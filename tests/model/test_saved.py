"""Models in folders: what comes back, and what is refused."""

import json
import pathlib
import shutil

import pytest
import safetensors.torch
import torch

from aligndraw.evaluation.reader import DigitReader
from aligndraw.files import load_tensors
from aligndraw.model.saved import CONFIG, WEIGHTS, load_model, save_model
from aligndraw.text import Vocabulary

WORDS = Vocabulary(tuple("a b c d e f g h i j k .".split()))


@pytest.fixture
def saved(tiny, tmp_path):
    model = tiny().float()
    save_model(model, WORDS, tmp_path / "m", notes={"updates": 7})
    return model, tmp_path / "m"


def test_round_trip(saved):
    model, folder = saved
    before = torch.get_rng_state()
    loaded, vocabulary, notes = load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.config == model.config and vocabulary == WORDS and notes == {"updates": 7}
    for (name, a), b in zip(loaded.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, WEIGHTS]


def test_half_precision_files_load_as_float32(tiny, tmp_path):
    model = tiny().float()
    save_model(model, WORDS, tmp_path, dtype=torch.float16)
    loaded, _, _ = load_model(tmp_path)
    assert loaded.canvas.dtype == torch.float32
    torch.testing.assert_close(loaded.canvas, model.canvas, rtol=1e-3, atol=0)
    whole = sum(p.numel() for p in model.parameters()) * 4
    assert (tmp_path / WEIGHTS).stat().st_size < 0.75 * whole


def test_no_flipped_bit_draws_a_picture(saved, flipped):
    """Each leads to an error, or changes nothing that is loaded: a byte of padding, the name of the checksum."""
    model, folder = saved
    wanted = model.state_dict()
    refused = 0
    for _ in flipped(folder / WEIGHTS, 300):
        try:
            loaded = load_model(folder)[0].state_dict()
        except ValueError as error:
            assert "model.safetensors" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert all(torch.equal(loaded[name], tensor) for name, tensor in wanted.items())
    assert refused > 280
    load_model(folder)


def test_the_shipped_weights_have_a_checksum(flipped, tmp_path):
    for name in ("mnist/model", "reader/reader", "scenes-reader/reader"):
        path = shutil.copy(DigitReader.shipped.parents[1] / f"{name}.safetensors", tmp_path / "w.safetensors")
        load_tensors(path)
        for _ in flipped(path, 2, first=0.5):
            with pytest.raises(ValueError, match="its tensors are not those that were written"):
                load_tensors(path)


def test_weights_without_a_checksum_are_loaded(saved):
    """Those of earlier versions and of other programs."""
    model, folder = saved
    safetensors.torch.save_file(model.state_dict(), folder / WEIGHTS)
    assert torch.equal(load_model(folder)[0].canvas, model.canvas)


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    model, folder = saved
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full_disk(path, data):
        path.open("wb").write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, WORDS, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_vocabularies_of_earlier_versions(saved):
    """They were a list of words; such as only the older rule of words finds keep it."""
    model, folder = saved
    safetensors.torch.save_file(model.state_dict(), folder / WEIGHTS)
    hindi = ["ह", "ि", "न", "्", "द", "ी", *WORDS.words][: len(WORDS)]
    for words, rule in ((list(WORDS.words), 2), (hindi, 1)):
        edit(folder, lambda r, words=words: r.update(vocabulary=words))
        found = load_model(folder)[1]
        assert (list(found.words), found.rule) == (words, rule)
    save_model(load_model(folder)[0], found, folder)
    assert load_model(folder)[1] == found


def edit(folder, change):
    path = folder / CONFIG
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            lambda f: (f / WEIGHTS).unlink(),
            FileNotFoundError,
            "there is no model in .*: it has no model.safetensors",
        ),
        (
            lambda f: (f / CONFIG).unlink(),
            FileNotFoundError,
            "there is no model in .*: it has no config.json",
        ),
        (
            lambda f: (f / WEIGHTS).write_bytes(b""),
            ValueError,
            "model.safetensors is damaged or no safetensors file",
        ),
        (
            lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]),
            ValueError,
            "is damaged or no safetensors",
        ),
        (lambda f: (f / WEIGHTS).write_bytes(b"PK\x03\x04" * 99), ValueError, "is damaged or no safetensors"),
        (lambda f: (f / CONFIG).write_text("{"), ValueError, "config.json is no model configuration"),
        (lambda f: (f / CONFIG).write_text("[1]"), ValueError, "config.json is no model configuration"),
        (lambda f: edit(f, lambda r: r.update(format="other")), ValueError, "format is aligndraw 1"),
        (lambda f: edit(f, lambda r: r.pop("vocabulary")), ValueError, "'vocabulary' is missing"),
        (
            lambda f: edit(f, lambda r: r["model"].update(steps=-1)),
            ValueError,
            "steps must be a whole number",
        ),
        (lambda f: edit(f, lambda r: r["model"].update(unknown=1)), ValueError, "has no field 'unknown'"),
        (
            lambda f: edit(f, lambda r: r["model"].update(latent_units=6)),
            ValueError,
            "does not fit config.json beside it",
        ),
    ],
)
def test_damage(saved, damage, error, message):
    _, folder = saved
    damage(folder)
    with pytest.raises(error, match=message):
        load_model(folder)
