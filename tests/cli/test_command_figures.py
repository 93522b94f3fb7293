"""aligndraw figures: what each of them shows."""

import re

import numpy as np
import pytest
from PIL import Image

from aligndraw.cli.failure import Failure
from aligndraw.cli.figure_captions import _MNIST, _PAPER, _SCENES, FIGURES, default_captions
from aligndraw.data import VOCABULARY, Scenes, all_captions
from aligndraw.data.scene import COLOURS, HELD_OUT
from aligndraw.data.scene_captions import _ON, NOUNS
from aligndraw.pipelines import Pipeline
from aligndraw.provenance import training_images
from aligndraw.text import UNKNOWN, Vocabulary
from aligndraw.viz import attention_figure, attention_panel
from aligndraw.viz.rows import MIN_LABEL
from aligndraw.viz.sheet import GAP, MARGIN

SEVEN, TWO = "the digit seven is at the top left of the image", "the digit two is at the top left of the image"
PICTURE, STEP = 96, 96 + GAP  # 32 pixels, enlarged, and from one to the next
LEFT = MARGIN + MIN_LABEL + MARGIN


@pytest.fixture
def draw(command, tmp_path):
    def run(name, *arguments):
        path = tmp_path / f"{name}.png"
        status, out, err = command("figures", name, "-o", path, *arguments)
        assert (status, err) == (0, "")
        image = Image.open(path)
        assert out == f"wrote {path}: {image.width} x {image.height} pixels\n"
        return np.asarray(image), image.text["Caption"].split("\n")

    return run


def pictures(sheet, top, n):
    """So many pictures of 32 pixels beside each other, in [0, 1]."""
    blocks = [sheet[top : top + PICTURE : 3, LEFT + i * STEP :][:, :PICTURE:3] for i in range(n)]
    return np.stack(blocks).transpose(0, 3, 1, 2) / 255


def shows(sheet, top, drawn):
    """Whether these pictures stand in a row."""
    return np.abs(pictures(sheet, top, len(drawn)) - drawn).max() <= 1 / 255


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("models", "sharpening")])
@pytest.mark.parametrize("data", ["mnist", "scenes"])
def test_without_captions(draw, model, scenes, name, data):
    options = {"background": ["--data", data, "--images", 9]}.get(name, [])
    _, captions = draw(name, "--model", {"mnist": model, "scenes": scenes}[data], *options)
    table = {"mnist": _MNIST, "scenes": _SCENES}[data]
    assert captions == [told.caption for group in table[name] for told in group]


def test_the_shipped_model_is_the_default(command, ship, model, tmp_path, monkeypatch):
    ship(mnist=model)
    monkeypatch.chdir(tmp_path)
    assert command("figures", "swap", "-n", 1)[0] == 0
    assert Image.open("swap.png").text["Model"] == "mnist (shipped)"


def test_what_is_said_of_digits_is_true():
    unseen = {text.removesuffix(" .") for text in all_captions("held_out", words=True)}
    for name in ("novel", "attention"):
        for told in (told for group in _MNIST[name] for told in group):
            assert (told.caption in unseen) == bool(told.remark)
    assert not unseen & {told.caption for name in ("background", "models") for g in _MNIST[name] for told in g}


def held_out(text):
    """Whether a caption tells of a combination that training never shows, by the words in it."""
    colour = next(c for c in COLOURS if f" {c} " in text)
    nouns = ((noun, thing) for thing, nouns in NOUNS.items() for noun in nouns)
    thing = next(thing for noun, thing in nouns if f" {noun} " in text)
    places = ((phrase, ground) for ground, phrases in _ON.items() for phrase in phrases)
    place = "sky" if " flying " in text else next(ground for phrase, ground in places if phrase in text)
    return colour == HELD_OUT[thing][0] or place == HELD_OUT[thing][1]


def test_what_is_said_of_scenes_is_true():
    for name, groups in _SCENES.items():
        for told in (told for group in groups for told in group):
            assert held_out(told.caption) == (name == "novel" or "green school bus" in told.caption)
            assert bool(told.remark) == (name == "novel")


def test_captions_of_other_models():
    texts = " ".join(told.caption for groups in _PAPER.values() for group in groups for told in group)
    paper = Vocabulary((UNKNOWN, *sorted({*texts.split(), "."})))
    assert default_captions("novel", paper) is _PAPER["novel"]
    # Folders of scenes have an unknown word, and need not have all the words.
    assert default_captions("swap", Vocabulary((UNKNOWN, *Scenes.vocabulary.words))) is _SCENES["swap"]
    assert default_captions("swap", VOCABULARY) is _MNIST["swap"]
    for vocabulary in (Vocabulary(("a", "cat")), Vocabulary((*Scenes.vocabulary.words, "zebra"))):
        with pytest.raises(Failure, match="--caption or --captions-file must be given"):
            default_captions("swap", vocabulary)


def test_novel(draw, scenes):
    sheet, _ = draw("novel", "--model", scenes, "-n", 2, "--seed", 5)
    captions = [told.caption for told in _SCENES["novel"][0]]
    for i, caption in enumerate(captions):
        drawn = Pipeline.from_pretrained(scenes)([caption], num_images_per_prompt=2, seed=5).arrays()
        assert shows(sheet, len(sheet) - (len(captions) - i) * (PICTURE + MARGIN), drawn)


def test_swaps_of_a_file(draw, scenes, tmp_path):
    """An empty line begins another group, which stands apart, and in which other words are marked."""
    (tmp_path / "c.txt").write_text("a red bus\na blue bus\n\n\na blue car\n")
    options = ("--model", scenes, "-n", 3)
    apart, captions = draw("swap", *options, "--captions-file", tmp_path / "c.txt")
    assert captions == ["a red bus", "a blue bus", "a blue car"]
    together, again = draw("swap", *options, *(word for c in captions for word in ("--caption", c)))
    assert again == captions
    assert len(apart) - len(together) == MARGIN - GAP
    drawn = [
        Pipeline.from_pretrained(scenes)([caption], num_images_per_prompt=3, seed=0).arrays() for caption in captions
    ]
    for sheet, gap in ((apart, MARGIN), (together, GAP)):
        top = len(sheet) - 3 * PICTURE - GAP - gap - MARGIN
        assert shows(sheet, top, drawn[0]) and shows(sheet, top + STEP, drawn[1])
        assert shows(sheet, top + STEP + PICTURE + gap, drawn[2])
        assert not shows(sheet, top, drawn[1])


def test_background(draw, scenes):
    sheet, _ = draw("background", "--model", scenes, "-n", 2, "--caption", "a red bus on the road")
    drawn = Pipeline.from_pretrained(scenes)(["a red bus on the road"], num_images_per_prompt=2, seed=0).arrays()
    top = len(sheet) - PICTURE - STEP - MARGIN
    assert shows(sheet, top, drawn)
    trained = np.concatenate([Scenes().epoch(3, e, 30).pictures(slice(None)) for e in range(2)]) / 255
    nearest = [trained[((trained - picture) ** 2).sum((1, 2, 3)).argmin()] for picture in drawn]
    assert shows(sheet, top + STEP, np.stack(nearest))


def test_training_images(scenes, model, digits):
    notes = Pipeline.from_pretrained(scenes).notes
    trained = np.concatenate([Scenes().epoch(3, e, 30).pictures(slice(None)) for e in range(2)])  # all that it has seen
    np.testing.assert_array_equal(training_images(notes), trained)
    np.testing.assert_array_equal(training_images(notes, 40), trained[:40])
    assert training_images(notes, 5, "mnist").shape == (5, 1, 60, 60)
    with pytest.raises(ValueError, match="does not name its training data"):
        training_images(Pipeline.from_pretrained(model).notes)
    with pytest.raises(ValueError, match="does not name its training pictures of scenes: its notes: 'seed' is missing"):
        training_images({}, 5, "scenes")
    path = str(digits(2010))
    others = {"data": {"name": "mnist", "path": path, "sha256": "0"}}
    with pytest.raises(ValueError, match="holds other data than those of the model"):
        training_images(others, 5)


def test_attention(draw, scenes):
    """Each caption by itself, at the chosen steps, and by default at all three."""
    pipeline = Pipeline.from_pretrained(scenes)
    for options, steps in (((), [1, 2, 3]), (("--at", 3, 1), [3, 1])):
        sheet, _ = draw("attention", "--model", scenes, "--caption", "a Cat", "--caption", "a red bus", *options)
        panels = [
            attention_panel(pipeline(caption, seed=0).samples, 0, [*caption.lower().split(), "."], steps, title=caption)
            for caption in ("a Cat", "a red bus")
        ]
        np.testing.assert_array_equal(sheet, np.asarray(attention_figure(panels)))


def test_models(draw, tmp_path, scenes, scenes_model):
    other = scenes_model(tmp_path / "other", seed=1, align=False)
    sheet, _ = draw("models", "--models", f"first={scenes}", other, "-n", 2, "--caption", "a cat")
    top = len(sheet) - PICTURE - STEP - MARGIN
    for i, folder in enumerate((scenes, other)):
        assert shows(
            sheet, top + i * STEP, Pipeline.from_pretrained(folder)(["a cat"], num_images_per_prompt=2, seed=0).arrays()
        )
    text = Image.open(tmp_path / "models.png").text
    assert text["Model"] == "first\nother"


def test_one_sharpener_for_all_models(draw, command, tmp_path, scenes, scenes_model, scenes_sharpener):
    """It reads captions with the model that it was trained with, wherever that stands."""
    other = scenes_model(tmp_path / "other", seed=1)
    folder = scenes_sharpener(tmp_path / "sharpener", scenes)
    options = ("--models", other, scenes, "-n", 1, "--caption", "a cat")
    plain, sharp = draw("models", *options)[0], draw("models", *options, "--sharpen", folder)[0]
    for below in (PICTURE + STEP + MARGIN, PICTURE + MARGIN):
        before, after = (pictures(sheet, len(sheet) - below, 1) for sheet in (plain, sharp))
        assert np.abs(before - after).max() > 0.1
    status, _, err = command("figures", "models", "--models", other, "--sharpen", folder, "-o", tmp_path / "o.png")
    assert status == 1 and "trained with captions as another model reads them" in err


def test_sharpening(draw, tmp_path, scenes, scenes_sharpener):
    folder = scenes_sharpener(tmp_path / "sharpener", scenes)
    sheet, captions = draw("sharpening", "--model", scenes, "--sharpen", folder, "-n", 2)
    assert captions == [told.caption for group in _SCENES["background"] for told in group]
    pipeline = Pipeline.from_pretrained(scenes)
    top = len(sheet) - PICTURE - STEP - MARGIN
    assert shows(sheet, top, pipeline(captions[-1], num_images_per_prompt=2, seed=0).arrays())
    sharp = pipeline.with_sharpener(folder)(captions[-1], num_images_per_prompt=2, seed=0).arrays()
    assert shows(sheet, top + STEP, sharp) and not shows(sheet, top, sharp)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["swap", "--caption", "a zebra"], 2, 'unknown word "zebra"'),
        (["swap", "--captions-file", "c.txt"], 2, r'c.txt, line 3: unknown word "zebra"'),
        (["swap", "--captions-file", "empty.txt"], 2, "empty.txt must hold at least one caption, got none"),
        (["swap", "--captions-file", "none.txt"], 1, "cannot read none.txt"),
        (["swap", "--caption", "a cat", "--captions-file", "c.txt"], 2, "captions must be given one way"),
        (["swap", "-n", "65"], 2, "-n must be at most 64 for a figure, got 65"),
        (["swap", "-o", "x.jpg"], 2, "must end in .png, got 'x.jpg'"),
        (["background", "--data", "none"], 1, "there are no captioned images in none"),
        (["background", "--data", "mnist"], 1, r"must be of images \[3, 32, 32\], got \[1, 60, 60\]"),
        (["attention", "--at", "4"], 1, r"steps must be from 1 to 3, those of the model, got \[4\]"),
        (["attention", "--at", "0"], 2, "must be a whole number of at least 1"),
        (["attention", "--model", "blind"], 2, "needs a model that attends to words"),
        (["sharpening"], 2, "--sharpen DIR must be given"),
        (["models", "--models", "a=scenes", "a=blind"], 2, "--models must have different names"),
        (["models", "--models", "scenes", "none"], 1, "there is no model in none"),
        (["paint"], 2, "invalid choice: 'paint'"),
    ],
)
def test_refused(command, scenes, scenes_model, listing, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    scenes_model(tmp_path / "blind", align=False)
    (tmp_path / "c.txt").write_text("a cat\n\na zebra\n")
    (tmp_path / "empty.txt").write_text("\n")
    before = listing()
    name, *options = arguments
    chosen = [] if {"--model", "--models"} & set(options) else ["--model", "./scenes"]  # not the model that ships
    got, _, err = command("figures", name, *chosen * (name != "paint"), *options)
    (line,) = err.splitlines()
    assert got == status and re.search(message, line)
    assert listing() == before
