"""aligndraw models, and the choice of a model that ships by the words of a caption."""

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from aligndraw import Pipeline

SEVEN = "the digit seven is at the top left of the image"
BUS = "a large red bus is parked on the road at night"


@pytest.fixture
def shipped(ship, model, scenes):
    """Models of digits and of scenes that ship; their folder."""
    return ship(mnist=model, scenes=scenes)


def test_the_list(command, shipped):
    status, out, err = command("models")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "mnist: one or two handwritten digits at named places; 0.0 MB"
    assert lines[4].startswith("scenes: one thing in colour before a sky and a ground; ")
    assert lines[1] == '  "the digit seven is at the bottom left of the image"' and lines[5] == f'  "{BUS}"'
    assert len(lines) == 8


def test_a_picture_of_each_caption(command, shipped, tmp_path):
    status, out, _ = command("models", "-o", tmp_path / "m.png", "--seed", 3)
    assert status == 0 and out.splitlines()[-1] == f"wrote {tmp_path / 'm.png'}: a picture of each caption, seed 3"
    sheet = Image.open(tmp_path / "m.png")
    assert sheet.text["Caption"].splitlines()[3] == BUS
    first = Pipeline.from_pretrained("mnist")("the digit seven is at the bottom left of the image", seed=3).pil()[0]
    shown = np.asarray(sheet)[22 : 22 + 180, 22 : 22 + 180, 0]
    np.testing.assert_array_equal(shown, np.asarray(first).repeat(3, 0).repeat(3, 1))


def test_a_new_folder_is_enough(command, shipped, tmp_path):
    """A model that ships is a folder with a card, and the readers of pictures beside it are none."""
    (shipped / "reader").mkdir()
    Pipeline.from_pretrained("mnist").save_pretrained(shipped / "another", draws="numbers", captions=[SEVEN])
    assert [line for line in command("models")[1].splitlines() if line[0] != " "][0].startswith("another: numbers; ")


def test_no_model_ships(command, ship):
    ship()
    refused(command("models"), 1, "no trained model ships with this installation: run `aligndraw train mnist`")


@pytest.mark.parametrize(("caption", "name"), [(SEVEN, "mnist"), (BUS, "scenes")])
def test_the_words_choose_the_model(command, shipped, tmp_path, caption, name):
    status, out, err = command("sample", caption, "-n", 2, "-o", tmp_path / "a.npz")
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith(f"drawn by the model {name}, which ships: one ")
    with np.load(tmp_path / "a.npz") as arrays:
        drawn = Pipeline.from_pretrained(name)(caption, num_images_per_prompt=2, seed=0).arrays()
        np.testing.assert_array_equal(arrays["images"], drawn)


def test_of_two_models_the_one_with_captions_like_it(command, shipped, tmp_path):
    """Both know the words; one of them was trained with captions worded so."""
    pipeline = Pipeline.from_pretrained("mnist")
    pairs = {"": "the", "the": "digit top left image", "digit": "7", "7": "is", "is": "at", "at": "the", "top": "left"}
    pairs |= {"left": "of", "of": "the", "image": "."}
    for name, following in (("a", {"": "digit"}), ("b", pairs)):
        pipeline.notes = {"word_pairs": following, "data": {"name": "mnist"}}
        pipeline.save_pretrained(shipped / name)
    _, _, err = command("sample", SEVEN, "-n", 1, "-o", tmp_path / "a.npz")
    assert err.startswith("drawn by the model b, which ships")


def test_words_that_no_model_knows(command, shipped, tmp_path, listing):
    """One line says so; then come, for each model, what it draws, near words and captions that work."""
    before = listing()
    status, out, err = command("sample", "a cat on the moom", "-o", tmp_path / "a.png")
    lines = err.splitlines()
    assert (status, out) == (2, "")
    assert lines[0] == "aligndraw: error: no model that ships knows all words of the captions"
    assert lines[1].startswith("mnist draws one or two handwritten digits at named places: unknown words ")
    assert lines[2].startswith('    captions that work: "the digit seven is at the bottom left of the image"; "')
    assert lines[3].startswith("scenes draws one thing in colour before a sky and a ground: unknown word ")
    assert 'nearest: "moon"' in lines[3] and lines[4].count('"') == 6
    assert listing() == before


def test_the_line_of_a_file(command, shipped, tmp_path):
    (tmp_path / "c.txt").write_text(f"{SEVEN}\n{BUS}\n")
    status, _, err = command("sample", "--captions-file", tmp_path / "c.txt", "-o", tmp_path / "a.npz")
    assert status == 2 and "c.txt, line 2: unknown words" in err and "c.txt, line 1: unknown words" in err


@pytest.mark.parametrize("caption", ["", "the " * 300])
def test_what_no_model_reads(command, shipped, tmp_path, caption):
    refused(command("sample", caption, "-o", tmp_path / "a.png"), 2, "caption must ")


def test_a_model_by_name(command, shipped, tmp_path):
    status, _, err = command("sample", SEVEN, "-n", 1, "--model", "mnist", "-o", tmp_path / "a.png")
    assert (status, err) == (0, "") and Image.open(tmp_path / "a.png").text["Model"] == "mnist (shipped)"
    refused(
        command("sample", SEVEN, "--model", "minst"), 1, "there is no model in minst; models that ship: mnist, scen"
    )


def test_a_damaged_model_that_ships(command, shipped):
    (shipped / "mnist" / "config.json").write_text("{")
    refused(command("sample", SEVEN), 1, "config.json is no model configuration")
    refused(command("sample", SEVEN, "--model", "mnist"), 1, "config.json is not the one of card.json")


def test_its_sharpener_sharpens(command, ship, scenes, scenes_sharpener, tmp_path):
    folder = scenes_sharpener(tmp_path / "sharpener", scenes)
    sharp = Pipeline.from_pretrained(scenes).with_sharpener(folder)
    sharp.save_pretrained(ship(scenes=scenes) / "scenes")
    command("sample", BUS, "-n", 1, "-o", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], sharp(BUS, seed=0).arrays())
