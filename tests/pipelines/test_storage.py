"""Models in folders, and on the Hugging Face hub, which a stand-in plays: nothing here needs a network."""

import dataclasses
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aligndraw import Pipeline
from aligndraw.data import VOCABULARY, MNISTCaptions, Scenes, load_digits
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.lapgan.config import LAPGANConfig
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import load_model, save_model
from aligndraw.pipelines.shipped import (
    SHIPPED,
    default_model,
    find_model,
    lasting_name,
    noted_model,
    shipped_models,
)
from aligndraw.text import CaptionError, Vocabulary

SEVEN, BUS = "the digit seven is at the top left of the image", "a red bus on the road"


def test_a_saved_pipeline_draws_the_same(pipeline, tmp_path):
    pipeline.notes = {"seed": 1}
    pipeline.save_pretrained(tmp_path / "a")
    loaded = Pipeline.from_pretrained(tmp_path / "a")
    assert loaded.notes == {"seed": 1} and loaded.vocabulary == VOCABULARY and loaded.name == str(tmp_path / "a")
    np.testing.assert_array_equal(loaded(SEVEN, seed=0).arrays(), pipeline(SEVEN, seed=0).arrays())


def test_with_a_sharpener(scenes, sharpener, tmp_path):
    """In full and in half precision, whose rounding changes the language model that the sharpener's notes name."""
    sharp = scenes.with_sharpener(sharpener)
    for dtype, off in ((None, 0), (torch.float16, 0.02)):
        sharp.save_pretrained(tmp_path / "a", dtype=dtype)
        loaded = Pipeline.from_pretrained(tmp_path / "a")
        np.testing.assert_allclose(loaded(BUS, seed=0).arrays(), sharp(BUS, seed=0).arrays(), rtol=0, atol=off)
        plain = Pipeline.from_pretrained(tmp_path / "a", sharpen=False)
        assert plain.sharpen is None and np.abs(plain(BUS, seed=0).arrays() - loaded(BUS, seed=0).arrays()).max() > 0.1
    scenes.save_pretrained(tmp_path / "a")  # it has none
    assert Pipeline.from_pretrained(tmp_path / "a").sharpen is None


def test_no_folders_of_the_training_are_told(scenes, sharpener, tmp_path):
    """Of absolute paths the names stay; a sentence encoder that the sharpener must find again keeps its place."""
    notes = {"data": {"name": "captioned", "path": str(tmp_path / "private" / "photos")}, "seed": 0}
    sharp = dataclasses.replace(scenes, notes=notes).with_sharpener(sharpener)
    network = sharp.sharpen.sharpener
    settings = {"data": str(tmp_path / "private" / "d"), "sentences": f"uni-skip:{tmp_path}/private/skip", "seed": 3}
    network.notes = {**network.notes, "settings": settings}
    sharp.save_pretrained(tmp_path / "a")
    assert Pipeline.from_pretrained(tmp_path / "a").notes["data"] == {"name": "captioned", "path": "photos"}
    saved = json.loads((tmp_path / "a" / "sharpener.json").read_text())["notes"]
    assert saved["settings"] == {"data": "d", "sentences": "uni-skip:skip", "seed": 3}
    assert saved["sentences"] == network.notes["sentences"] and network.notes["settings"] == settings
    assert not any(b"private" in file.read_bytes() for file in (tmp_path / "a").iterdir())


def test_half_precision(pipeline, tmp_path):
    """It halves the file; numbers load as float32, rounded once; the bound stays within a part of ten thousand."""
    for name, dtype in (("whole", None), ("half", torch.float16)):
        pipeline.save_pretrained(tmp_path / name, dtype=dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    whole, half = (Pipeline.from_pretrained(tmp_path / name) for name in ("whole", "half"))
    for exact, rounded in zip(whole.model.parameters(), half.model.parameters()):
        assert rounded.dtype == torch.float32 and torch.equal(exact.half().float(), rounded)
    examples = MNISTCaptions(load_digits()).epoch(0, size=20)
    exact, rounded = (estimate_bound(p.model, examples, seed=0).bound.mean for p in (whole, half))
    assert rounded == pytest.approx(exact, rel=1e-4) and rounded != exact
    half.save_pretrained(tmp_path / "again", dtype=torch.float16)
    contents = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("half", "again")]
    assert contents[0] == contents[1]


def test_numbers_beyond_half_precision(pipeline, tmp_path):
    torch.nn.init.constant_(pipeline.model.canvas, 1e5)
    with pytest.raises(ValueError, match="dtype must hold the parameters, got torch.float16: some are too large"):
        pipeline.save_pretrained(tmp_path / "a", dtype=torch.float16)
    assert not (tmp_path / "a").exists()


def test_a_card(scenes, tmp_path):
    scenes.save_pretrained(tmp_path / "mine")
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert card["draws"] == "one thing in colour before a sky and a ground" and len(card["captions"]) == 3
    scenes(card["captions"])
    assert set(card["sha256"]) == {"model.safetensors", "config.json"}
    page = (tmp_path / "mine" / "README.md").read_text()
    assert 'Pipeline.from_pretrained("mine")' in page and "| pictures | 32 x 32, colour |" in page
    scenes.save_pretrained(tmp_path / "mine", draws="buses", captions=[BUS.replace(" on", "\n on")])
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert (card["draws"], card["captions"]) == ("buses", [BUS])
    with pytest.raises(CaptionError, match="unknown word"):
        scenes.save_pretrained(tmp_path / "other", captions=["a digit"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("notes", [{"data": "mnist"}, {"data": {"name": 7}, "versions": []}, {"data": {}}])
def test_a_card_of_foreign_notes(pipeline, tmp_path, notes):
    pipeline.notes = notes
    pipeline.save_pretrained(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "card.json").read_text())["captions"] == []
    assert Pipeline.from_pretrained(tmp_path / "a").notes == notes


def test_checksums(pipeline, tmp_path):
    """A file that is not the one of the card is refused, though it is sound in itself."""
    pipeline.save_pretrained(tmp_path / "a")
    torch.nn.init.zeros_(pipeline.model.canvas)
    save_model(pipeline.model, VOCABULARY, tmp_path / "a")
    load_model(tmp_path / "a")
    with pytest.raises(ValueError, match="a/model.safetensors is not the one of card.json: .*; restore the file$"):
        Pipeline.from_pretrained(tmp_path / "a")


@pytest.mark.parametrize("card", ["{", '{"format": "other"}', '{"format": "aligndraw card 1", "draws": 1}'])
def test_damaged_cards(pipeline, tmp_path, card):
    pipeline.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "card.json").write_text(card)
    with pytest.raises(ValueError, match="card.json is no model card: "):
        Pipeline.from_pretrained(tmp_path / "a")


def test_foreign_notes(pipeline, tmp_path):
    save_model(pipeline.model, VOCABULARY, tmp_path, notes={"word_pairs": {"a": 1}})
    with pytest.raises(ValueError, match="config.json is damaged: word_pairs must be"):
        Pipeline.from_pretrained(tmp_path)


def test_a_training_is_left_alone(pipeline, tmp_path):
    (tmp_path / "run.json").touch()
    with pytest.raises(ValueError, match="folder must not be that of a training"):
        pipeline.save_pretrained(tmp_path)


@pytest.mark.parametrize("words", [21, 23])
def test_a_vocabulary_of_another_size_is_not_saved(network, tmp_path, words):
    with pytest.raises(ValueError, match=f"its vocabulary must have the 22 words of vocabulary_size, got {words}$"):
        save_model(network(), Vocabulary(tuple(f"w{i}" for i in range(words))), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_damaged_model(network, tmp_path):
    model = network()
    torch.nn.init.constant_(model.canvas, float("inf"))
    save_model(model, VOCABULARY, tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        Pipeline.from_pretrained(tmp_path)


def test_the_models_that_ship(tmp_path):
    """Each has a card, three captions worded like the training, and sound checksums; saved again it is the same."""
    models = shipped_models()
    assert "mnist" in models
    assert sum(f.stat().st_size for folder in models.values() for f in folder.iterdir()) < 25e6
    for name, folder in models.items():
        pipeline = Pipeline.from_pretrained(name)
        card = json.loads((folder / "card.json").read_text())
        assert pipeline.name == f"{name} (shipped)" and len(card["captions"]) == 3
        for caption in card["captions"]:
            assert pipeline.remark(caption) == "" and pipeline.remark(caption.split()[-1]) != ""
        drawn = pipeline(card["captions"], seed=0)
        pipeline.save_pretrained(tmp_path / name, dtype=torch.float16)
        saved, shipped = (load_file(place / "model.safetensors") for place in (tmp_path / name, folder))
        assert {k: v.dtype for k, v in saved.items()} == {k: v.dtype for k, v in shipped.items()}
        assert all(torch.equal(saved[k], shipped[k]) for k in shipped)
        again = json.loads((tmp_path / name / "card.json").read_text())
        assert {k: v for k, v in again.items() if k != "sha256"} == {k: v for k, v in card.items() if k != "sha256"}
        np.testing.assert_array_equal(
            Pipeline.from_pretrained(tmp_path / name)(card["captions"], seed=0).arrays(), drawn.arrays()
        )


def test_a_folder_comes_before_a_model_that_ships(pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model("mnist") == SHIPPED / "mnist" and lasting_name("mnist") == "mnist"
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train.npy").touch()  # data of this name are no model
    assert find_model("mnist") == SHIPPED / "mnist"
    pipeline.save_pretrained("mnist")
    assert find_model("mnist").resolve() == tmp_path / "mnist" and lasting_name("mnist") == str(tmp_path / "mnist")
    assert Pipeline.from_pretrained("mnist").name == "mnist"


def test_no_such_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for source in ("runs", tmp_path / "runs"):
        with pytest.raises(FileNotFoundError, match=f"there is no model in {source}: it has no config.json"):
            Pipeline.from_pretrained(source)
    for source in ("minst", "runs/mine", tmp_path / "owner" / "name"):
        with pytest.raises(FileNotFoundError, match=f"there is no model in {source}; models that ship: .*mnist"):
            Pipeline.from_pretrained(source)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in of `huggingface_hub` with its repositories in a folder; notes its calls."""
    calls = []

    def snapshot_download(repository, revision, token, allow_patterns):
        calls.append(("read", repository, revision, token))
        assert not [pattern for pattern in allow_patterns if pattern.endswith((".bin", ".pt", ".pkl", ".py"))]
        if not (tmp_path / "hub" / repository).is_dir():
            raise RuntimeError("404 Client Error\n\nRepository not found")
        return str(tmp_path / "hub" / repository)

    class Api:
        def __init__(self, token):
            self.token = token

        def create_repo(self, repository, private, exist_ok):
            calls.append(("make", repository, private, self.token))
            assert exist_ok
            if repository == "someone/else":
                raise RuntimeError("403 Forbidden")

        def upload_folder(self, repo_id, folder_path, commit_message):
            calls.append(("write", repo_id, commit_message))
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)
            return f"address of {repo_id}"

    stub = SimpleNamespace(snapshot_download=snapshot_download, HfApi=Api)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    monkeypatch.chdir(tmp_path)
    return calls


def test_to_the_hub_and_back(pipeline, hub):
    done = pipeline.push_to_hub("me/tiny", private=True, token="t", dtype=torch.float16, captions=[SEVEN])
    assert done == "address of me/tiny"
    assert hub == [("make", "me/tiny", True, "t"), ("write", "me/tiny", "Upload an aligndraw model")]
    loaded = Pipeline.from_pretrained("me/tiny", revision="main", token="t")
    assert hub[-1] == ("read", "me/tiny", "main", "t") and loaded.name == "me/tiny"
    np.testing.assert_allclose(loaded(SEVEN, seed=0).arrays(), pipeline(SEVEN, seed=0).arrays(), rtol=0, atol=0.02)


def test_errors_of_the_hub_are_one_line(pipeline, hub):
    with pytest.raises(OSError, match="^cannot read me/none from the Hugging Face hub: 404 Client Error$"):
        Pipeline.from_pretrained("me/none")
    with pytest.raises(OSError, match="^cannot write someone/else to the Hugging Face hub: 403 Forbidden$"):
        pipeline.push_to_hub("someone/else")


def test_only_names_of_the_hub_are_looked_up(pipeline, hub, tmp_path):
    (tmp_path / "runs").mkdir()
    for source in ("runs/mine", "none", "a/b/c", "/none/none", "../none", tmp_path / "x" / "y"):
        with pytest.raises(FileNotFoundError, match="there is no model in"):
            Pipeline.from_pretrained(source)
    pipeline.save_pretrained("me/local")
    Pipeline.from_pretrained("me/local")
    assert hub == []


def test_without_the_hub_package(pipeline, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no model in me/none; .*: pip install 'aligndraw\[hub\]'"):
        Pipeline.from_pretrained("me/none")
    with pytest.raises(ValueError, match=r"pip install 'aligndraw\[hub\]'"):
        pipeline.push_to_hub("me/none")


def test_the_real_hub_package_without_a_network(monkeypatch, tmp_path):
    """Its own error becomes one line."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="cannot read me/none from the Hugging Face hub: .") as raised:
        Pipeline.from_pretrained("me/none")
    assert "\n" not in str(raised.value)


def test_the_default_model_is_the_one_that_ships(pipeline, tmp_path, monkeypatch):
    """Whatever lies in the working directory; a note of it names the same model from every directory."""
    monkeypatch.chdir(tmp_path)
    pipeline.save_pretrained("mnist")
    shipped = Pipeline.from_pretrained(default_model())
    assert default_model() == SHIPPED / "mnist" and shipped.name == "mnist (shipped)"
    assert noted_model(None) == noted_model("mnist") == SHIPPED / "mnist"
    assert noted_model(lasting_name("mnist")) == str(tmp_path / "mnist") and noted_model("me/model") == "me/model"
    monkeypatch.setattr("aligndraw.pipelines.shipped.SHIPPED", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="^no trained model ships with this installation"):
        default_model()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FLOATS = "dtype must be one of torch.float16, torch.bfloat16, torch.float32, torch.float64, got"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.int8}, f"{FLOATS} torch.int8"),
        ({"dtype": torch.float8_e4m3fn}, f"{FLOATS} torch.float8_e4m3fn"),
        ({"dtype": "float16"}, f"{FLOATS} 'float16'"),
        ({"draws": 3}, "draws must be one line of text, got 3"),
        ({"draws": ""}, "draws must be one line of text, got ''"),
        ({"draws": "a\n---"}, "draws must be one line of text, got 'a"),
        ({"draws": "\ud800"}, "draws must be one line of text, got '"),
        ({"draws": 3, "facts": {"draws": "digits"}}, "draws must be one line of text, got 3"),
        ({"facts": {"hardware": "a\nb"}}, "hardware must be one line of text, got 'a"),
        ({"facts": {3: "b"}}, "3 must be one line of text, got 'b'"),
    ],
)
def test_options_that_are_refused_leave_the_old_model(pipeline, tmp_path, options, message):
    pipeline.save_pretrained(tmp_path / "a")
    before = contents(tmp_path / "a")
    for name in ("a", "new"):
        with pytest.raises(ValueError, match=f"^{message}"):
            pipeline.save_pretrained(tmp_path / name, **options)
    assert contents(tmp_path / "a") == before and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_picture_of_ones_own_stays(pipeline, tmp_path):
    """The card's pictures go with the model that drew them; another file of their name is not touched."""
    folder, sheet = tmp_path / "a", Image.new("RGB", (3, 2))
    folder.mkdir()
    (folder / "samples.png").write_bytes(b"mine")
    pipeline.save_pretrained(folder)
    with pytest.raises(ValueError, match="^folder must not hold a samples.png of another program"):
        pipeline.save_pretrained(folder, pictures=sheet)
    pipeline.save_pretrained(folder)
    assert (folder / "samples.png").read_bytes() == b"mine" and "samples.png" not in (folder / "README.md").read_text()
    (folder / "samples.png").unlink()
    for _ in range(2):
        pipeline.save_pretrained(folder, pictures=sheet, facts={"words": "a|b"})
        assert Image.open(folder / "samples.png").size == (3, 2)
    page = (folder / "README.md").read_text()
    assert "(samples.png)" in page and "| words | a\\|b |" in page
    pipeline.save_pretrained(folder)
    assert not (folder / "samples.png").exists() and "samples.png" not in (folder / "README.md").read_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_floats(pipeline, tmp_path, dtype):
    pipeline.save_pretrained(tmp_path / "a", dtype=dtype)
    loaded = Pipeline.from_pretrained(tmp_path / "a").model
    for ours, theirs in zip(pipeline.model.parameters(), loaded.parameters()):
        assert torch.equal(ours.to(dtype).float(), theirs)


@pytest.mark.parametrize("step", ["save_tensors", "card", "rename"])
def test_a_failed_save_leaves_the_old_model(pipeline, scenes, sharpener, tmp_path, monkeypatch, step):
    """With its sharpener and card, wherever the disk fails."""
    scenes.with_sharpener(sharpener).save_pretrained(tmp_path / "a")
    before = contents(tmp_path / "a")

    def full(*_):
        raise OSError("no space left on device")

    if step == "save_tensors":
        monkeypatch.setattr("aligndraw.module_files.save_tensors", full)
    elif step == "card":
        monkeypatch.setattr("aligndraw.pipelines.card.Card.write", full)
    else:
        rename = type(tmp_path).rename

        def last(self, target):
            if self.parent.name == "ready" and self.name == "card.json":
                full()
            return rename(self, target)

        monkeypatch.setattr(type(tmp_path), "rename", last)
    with pytest.raises(OSError, match="no space left"):
        pipeline.save_pretrained(tmp_path / "a")
    monkeypatch.undo()
    assert contents(tmp_path / "a") == before
    pipeline.save_pretrained(tmp_path / "a")
    assert set(contents(tmp_path / "a")) == {"model.safetensors", "config.json", "card.json", "README.md"}


def test_a_model_in_place_of_one_of_another_kind(pipeline, scenes, tmp_path):
    """The files of a LAPGAN, which is looked for first, go."""
    sizes = {"hidden_channels": 2, "noise_units": 2, "generator_units": 4, "discriminator_units": 4}
    config = LAPGANConfig(image_size=(32, 32), channels=3, sentence_units=8, **sizes)
    network = LAPGAN(config, Scenes.vocabulary, scenes.model.language)
    Pipeline(network, Scenes.vocabulary).save_pretrained(tmp_path / "a")
    assert type(Pipeline.from_pretrained(tmp_path / "a").model) is LAPGAN
    pipeline.save_pretrained(tmp_path / "a")
    assert type(Pipeline.from_pretrained(tmp_path / "a").model) is type(pipeline.model)


@pytest.mark.parametrize(
    ("name", "text"),
    [("README.md", "# My project"), ("config.json", '{"model_type": "bert"}'), ("card.json", '{"card": "visa"}')],
)
def test_files_of_others_are_left_alone(pipeline, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=f"^folder must not hold a {name} of another program, got {tmp_path}: give an"):
        pipeline.save_pretrained(tmp_path)
    assert contents(tmp_path) == {name: text.encode(), "notes.txt": b"mine"}
    (tmp_path / name).unlink()
    pipeline.save_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path)  # over its own files
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_no_folder(pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in ("", None, b"a", 3):
        with pytest.raises(ValueError, match=f"^folder must be a path, got {wrong!r}$"):
            pipeline.save_pretrained(wrong)
        with pytest.raises(ValueError, match=f"^source must be a folder, a model that ships or .*, got {wrong!r}$"):
            Pipeline.from_pretrained(wrong)
    assert not list(tmp_path.iterdir())
    pipeline.save_pretrained(".")
    assert f"\n# {tmp_path.name}\n" in (tmp_path / "README.md").read_text()


def test_missing_files_and_checksums(scenes, sharpener, tmp_path):
    """A card vouches for all files of the model, and all that it names are there."""
    folder = tmp_path / "a"
    scenes.with_sharpener(sharpener).save_pretrained(folder)
    names = list(json.loads((folder / "card.json").read_text())["sha256"])
    assert names == ["model.safetensors", "config.json", "sharpener.safetensors", "sharpener.json"]
    for name in names:
        (folder / name).rename(tmp_path / "aside")
        with pytest.raises(ValueError, match=f"^{folder / name} is missing, which card.json names: restore the file$"):
            Pipeline.from_pretrained(folder)
        (tmp_path / "aside").rename(folder / name)
    card = json.loads((folder / "card.json").read_text())
    for name in names:
        sums = {file: value for file, value in card["sha256"].items() if file != name}
        (folder / "card.json").write_text(json.dumps({**card, "sha256": sums}))
        with pytest.raises(ValueError, match=f"^{folder / 'card.json'} has no checksum of {name}: restore the file$"):
            Pipeline.from_pretrained(folder)
    (folder / "card.json").write_text(json.dumps(card))
    assert Pipeline.from_pretrained(folder).sharpen is not None
