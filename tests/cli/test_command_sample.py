"""aligndraw sample: what it writes."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import VOCABULARY
from aligndraw.model.saved import save_model
from aligndraw.pipelines import Pipeline
from aligndraw.text import Vocabulary

SEVEN = "the digit seven is at the top left of the image"
TWO = "the digit 1 is on the left of the digit 2"


@pytest.fixture
def sample(command, model, tmp_path):
    def run(*arguments, name="out.png"):
        path = tmp_path / name
        status, out, err = command("sample", "--model", model, "-o", path, *arguments)
        assert (status, err) == (0, "")
        return path, out

    return run


def pictures(path, n):
    """The n pictures of the first caption, 120 pixels wide and high, six pixels apart."""
    sheet = np.asarray(Image.open(path))
    places = [(22 + i // 8 * 126, 22 + i % 8 * 126) for i in range(n)]
    return [sheet[top : top + 120, left : left + 120] for top, left in places]


def test_says_what_it_wrote(sample):
    path, out = sample(SEVEN)
    assert out == f"wrote {path}: 16 pictures, seed 0\n"
    path, out = sample(SEVEN, TWO, "-n", 3, "--seed", 7)
    assert out == f"wrote {path}: 6 pictures of 2 captions, seed 7\n"
    path, out = sample(SEVEN, "-n", 1)
    assert out == f"wrote {path}: 1 picture, seed 0\n"


def test_writes_one_file_only(sample, listing):
    before = listing()
    path, _ = sample(SEVEN)
    assert listing().keys() - before.keys() == {path}


def test_a_seed_gives_the_same_bytes(sample):
    first, again, other = (
        sample(SEVEN, "-n", 2, "--seed", seed, name=name)[0].read_bytes()
        for seed, name in ((3, "a.png"), (3, "b.png"), (4, "c.png"))
    )
    assert first == again
    assert first != other


def test_a_picture_depends_neither_on_n_nor_on_the_other_captions(sample):
    few, _ = sample(SEVEN, "-n", 9, name="few.png")
    many, _ = sample(SEVEN, TWO, "-n", 16, name="many.png")
    alone, batched = pictures(few, 9), pictures(many, 16)
    for i, picture in enumerate(alone):
        # Batches of 9 and of 16 are not multiplied in the same order: a grey level may round otherwise.
        assert np.abs(picture.astype(int) - batched[i]).max() <= 1
        assert all(np.abs(picture.astype(int) - other).max() > 9 for other in alone[:i])


@pytest.mark.parametrize("option", [("--temperature", 0.1), ("--steps", 5), ("--temperature", 0), ("--seed", 1)])
def test_every_option_matters(sample, option):
    plain, changed = sample(SEVEN, name="plain.png")[0], sample(SEVEN, *option, name="changed.png")[0]
    assert any((a != b).any() for a, b in zip(pictures(plain, 16), pictures(changed, 16)))


def test_temperature_zero_has_one_picture(sample):
    path, _ = sample(SEVEN, "--temperature", 0)
    first, *others = pictures(path, 16)
    assert all((first == other).all() for other in others)


def test_metadata(sample, model):
    path, _ = sample(SEVEN, TWO, "--seed", 5, "-n", 1)
    text = Image.open(path).text
    assert text["Caption"] == f"{SEVEN}\n{TWO}"
    assert (text["Seed"], text["Model"], text["Temperature"], text["Steps"]) == ("5", str(model), "1", "2")


def test_a_shipped_model_is_the_default(command, ship, model, tmp_path, monkeypatch):
    ship(mnist=model)
    monkeypatch.chdir(tmp_path)
    status, out, err = command("sample", SEVEN, "-n", 1)
    assert (status, out) == (0, "wrote out.png: 1 picture, seed 0\n")
    assert err == "drawn by the model mnist, which ships: one or two handwritten digits at named places\n"
    assert Image.open("out.png").text["Model"] == "mnist (shipped)"


def test_how_the_pictures_came_about(command, model, tmp_path):
    places = {name: tmp_path / name for name in ("o.png", "steps.gif", "words.png")}
    status, out, err = command(
        *("sample", SEVEN, "-n", 2, "--model", model, "-o", places["o.png"]),
        *("--animate", places["steps.gif"], "--attention", places["words.png"]),
    )
    assert (status, err) == (0, "")
    for place in places.values():
        assert f"wrote {place}" in out
        Image.open(place).verify()


def test_how_pictures_of_the_released_conventions_came_about(command, tmp_path):
    torch.manual_seed(0)
    tiny = {"steps": 2, "encoder_units": 6, "decoder_units": 5, "latent_units": 3, "language_units": 4}
    network = AlignDRAW(AlignDRAWConfig(conventions="released", align_units=4, **tiny))
    save_model(network, VOCABULARY, tmp_path / "model")
    given = ("sample", SEVEN, TWO, "-n", 1, "--model", tmp_path / "model", "-o", tmp_path / "o.png")
    status, _, err = command(*given, "--attention", tmp_path / "words.png")
    assert (status, err) == (0, "") and (tmp_path / "words.png").is_file()
    status, _, err = command(*given, "--animate", tmp_path / "steps.gif")
    assert (status, err) == (0, "") and (tmp_path / "steps.gif").is_file()


def test_all_files_show_the_same_drawings(command, model, tmp_path, monkeypatch):
    """Each caption is drawn once, whatever is written of it."""
    drawn = []
    draw = Pipeline.__call__
    monkeypatch.setattr(Pipeline, "__call__", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])
    shown = []
    monkeypatch.setattr("aligndraw.pipelines.drawing.save_animation", lambda samples, path: shown.append(samples))
    given = ("sample", SEVEN, TWO, "-n", 3, "--model", model, "-o", tmp_path / "o.npz")
    status, _, err = command(*given, "--animate", tmp_path / "steps.gif", "--attention", tmp_path / "words.png")
    assert (status, err) == (0, "") and len(drawn) == 2
    images = torch.cat([drawing.samples.images for drawing in drawn])
    with np.load(tmp_path / "o.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], images)
    assert torch.equal(shown[0].images, images)
    canvases = torch.cat([drawing.samples.canvases for drawing in drawn])
    torch.testing.assert_close(shown[0].canvases, canvases, rtol=0, atol=1e-6)


@pytest.mark.parametrize("option", ["--animate", "--attention"])
def test_a_wrong_ending(command, model, tmp_path, option):
    status, _, err = command("sample", SEVEN, "--model", model, "-o", tmp_path / "o.png", option, tmp_path / "x.txt")
    assert status == 2 and "must end in ." in err and len(err.splitlines()) == 1
    assert not (tmp_path / "o.png").exists()


def test_a_file_is_replaced(sample):
    path, _ = sample(SEVEN)
    before = path.read_bytes()
    sample(TWO)
    assert path.read_bytes() != before


@pytest.fixture
def sample_file(command, tmp_path):
    """Draws the captions of a file with these contents into an archive; returns its arrays and what was said."""

    def run(content, model, *options):
        (tmp_path / "captions.txt").write_bytes(content.encode() if isinstance(content, str) else content)
        path = tmp_path / "out.npz"
        status, out, err = command(
            "sample", "--captions-file", tmp_path / "captions.txt", "--model", model, "-o", path, *options
        )
        assert (status, err) == (0, "")
        with np.load(path) as arrays:
            assert sorted(arrays) == ["captions", "images"]
            return arrays["images"], arrays["captions"].tolist(), out

    return run


def test_blank_lines_of_a_file_of_captions(sample_file, model):
    images, captions, _ = sample_file(f"\n{SEVEN}\n \n\n{TWO}\r\n\n", model)
    assert captions == [SEVEN, TWO]
    assert np.array_equal(images, sample_file(f"{SEVEN}\n{TWO}", model)[0])


def test_an_archive_of_the_captions_of_a_file(sample_file, model, tmp_path, listing):
    images, captions, out = sample_file(f"{SEVEN}\n{TWO}\n{SEVEN}\n", model, "--seed", 3)
    assert captions == [SEVEN, TWO, SEVEN]
    assert (images.dtype, images.shape) == (np.float32, (3, 1, 60, 60))
    assert out == f"wrote {tmp_path / 'out.npz'}: 3 pictures of 3 captions, seed 3\n"
    expected = Pipeline.from_pretrained(model)([SEVEN, TWO, SEVEN], num_images_per_prompt=1, seed=3).arrays()
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-6)
    assert np.abs(images[0] - images[1]).max() > 0.01
    first = (tmp_path / "out.npz").read_bytes()
    sample_file(f"{SEVEN}\n{TWO}\n{SEVEN}\n", model, "--seed", 3)
    assert (tmp_path / "out.npz").read_bytes() == first


def test_an_archive_in_several_batches(sample_file, model, monkeypatch):
    """Pictures and captions stay side by side, and are those of one batch but for rounding."""
    monkeypatch.setattr("aligndraw.cli.command_sample.BATCH_SIZE", 7)
    images, captions, _ = sample_file(f"{SEVEN}\n{TWO}\n" * 3, model, "-n", 3)
    assert captions == ([SEVEN] * 3 + [TWO] * 3) * 3
    expected = Pipeline.from_pretrained(model)([SEVEN, TWO] * 3, num_images_per_prompt=3, seed=0).arrays()
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "content", [SEVEN, f"\ufeff{SEVEN}\r\n", f"  {SEVEN}\t\n"], ids=["no last line end", "Windows", "spaces"]
)
def test_forms_of_a_file_of_captions(sample_file, model, content):
    assert sample_file(content, model)[1] == [SEVEN]


def test_an_archive_of_the_released_conventions(sample_file, tmp_path):
    """Whose language model would mix the captions of a batch."""
    torch.manual_seed(0)
    tiny = {"steps": 2, "encoder_units": 6, "decoder_units": 5, "latent_units": 3, "language_units": 4}
    network = AlignDRAW(AlignDRAWConfig(conventions="released", align_units=4, **tiny))
    save_model(network, VOCABULARY, tmp_path / "model")
    images, captions, _ = sample_file(f"{SEVEN}\n{TWO}\n", tmp_path / "model")
    for image, text in zip(images, captions):
        np.testing.assert_array_equal(image, Pipeline.from_pretrained(tmp_path / "model")([text], seed=0).arrays()[0])


def test_a_sheet_of_the_captions_of_a_file(sample, command, model, tmp_path):
    (tmp_path / "captions.txt").write_text(f"{SEVEN}\n{TWO}\n")
    path = tmp_path / "sheet.png"
    assert command("sample", "--captions-file", tmp_path / "captions.txt", "--model", model, "-o", path)[0] == 0
    assert path.read_bytes() == sample(SEVEN, TWO, "-n", 1)[0].read_bytes()


@pytest.mark.parametrize(("first", "second"), [("-o", "--attention"), ("--attention", "-o")])
def test_two_files_in_one_place(command, model, tmp_path, monkeypatch, listing, first, second):
    """The second replaced the first in silence."""
    monkeypatch.chdir(tmp_path)
    before = listing()
    given = (first, "a.png", second, tmp_path / "b" / ".." / "a.png")
    (tmp_path / "b").mkdir()
    status, out, err = command("sample", SEVEN, "--model", model, "-n", 1, *given)
    assert (status, out) == (2, "") and "-o and --attention must be different files" in err
    (tmp_path / "b").rmdir()
    assert listing() == before


@pytest.mark.skipif(os.name != "posix", reason="no file name has such characters")
def test_a_file_whose_name_has_a_line_end(command, model, tmp_path):
    """Its name stands in one line, escaped."""
    status, out, _ = command("sample", SEVEN, "--model", model, "-n", 1, "-o", tmp_path / "a\nwrote b.png")
    assert (status, out) == (0, f"wrote {tmp_path}/a\\nwrote b.png: 1 picture, seed 0\n")


def test_unknown_words(command, tmp_path):
    """Where the vocabulary has a word for them, they are named, once per caption and at most a few times."""
    torch.manual_seed(0)
    words = Vocabulary(("[UNK]", "a", "dog"))
    sizes = dict(steps=2, encoder_units=2, decoder_units=2, latent_units=2, language_units=2, align_units=2)
    save_model(AlignDRAW(AlignDRAWConfig(vocabulary_size=3, **sizes)), words, tmp_path / "model")
    given = ("--model", tmp_path / "model", "-n", 1, "-o", tmp_path / "out.png")
    status, _, err = command("sample", "a cat", "a dog", *given)
    named = 'unknown word "cat" in caption "a cat"; the vocabulary has 3 words, nearest: "a"'
    assert status == 0 and err.startswith("aligndraw: warning: [UNK] stands for the unknown word") and named[:30] in err
    assert len(err.splitlines()) == 1
    status, _, err = command("sample", "a cat", "b", "c", "d", "e", *given)
    assert status == 0 and len(err.splitlines()) == 4
    assert (
        err.splitlines()[-1]
        == "aligndraw: warning: 2 more captions have unknown words or are worded unlike the training captions"
    )
    status, _, err = command("figures", "attention", "--caption", "a cat", "-o", tmp_path / "out.png", *given[:2])
    assert status == 0 and err.count("\n") == 1 and 'unknown word "cat"' in err


def test_a_folder_with_the_name_of_a_model_that_ships(command, model, scenes, ship, tmp_path, monkeypatch):
    """Without --model the model that ships draws. With its name the folder does, which one line tells."""
    ship(mnist=model)
    monkeypatch.chdir(tmp_path)
    Pipeline.from_pretrained(scenes).save_pretrained("mnist")
    status, _, err = command("sample", SEVEN, "-n", 1)
    assert (status, err) == (
        0,
        "drawn by the model mnist, which ships: one or two handwritten digits at named places\n",
    )
    assert Image.open("out.png").text["Model"] == "mnist (shipped)"
    status, _, err = command("sample", "a red bus on the road", "-n", 1, "--model", "mnist")
    assert (status, err) == (0, f"--model mnist is the folder {tmp_path / 'mnist'}, not the model that ships\n")
    assert Image.open("out.png").text["Model"] == "mnist"


def test_an_empty_name_of_a_model(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = command("sample", SEVEN, "--model", "")
    assert status == 2 and "argument --model: must be a folder, a model that ships or OWNER/NAME, got ''" in err
