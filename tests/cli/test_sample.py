"""aligndraw sample: what it writes."""

import numpy as np
import pytest
from PIL import Image

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
    alone, company = pictures(few, 9), pictures(many, 16)
    for i, picture in enumerate(alone):
        # Batches of 9 and of 16 are not multiplied in the same order: a grey level may round otherwise.
        assert np.abs(picture.astype(int) - company[i]).max() <= 1
        assert all(np.abs(picture.astype(int) - other).max() > 9 for other in alone[:i])


@pytest.mark.parametrize(
    "option", [("--temperature", 0.1), ("--steps", 5), ("--temperature", 0), ("--seed", 1)]
)
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


def test_the_shipped_model_is_the_default(command, model, tmp_path, monkeypatch):
    monkeypatch.setattr("aligndraw.pipelines.SHIPPED", model)
    monkeypatch.chdir(tmp_path)
    assert command("sample", SEVEN, "-n", 1) == (0, "wrote out.png: 1 picture, seed 0\n", "")
    assert Image.open("out.png").text["Model"] == "shipped mnist"


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
