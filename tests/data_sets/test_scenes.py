"""Scenes: what is drawn, what is told, and what is held out."""

import hashlib
import itertools
import string

import numpy as np
import pytest

from aligndraw.data import scene_captions, scene_synonyms, scenes
from aligndraw.data.scene import ATTRIBUTES, COLOURS, GROUNDS, HELD_OUT, SIZES, Scene, is_held_out
from aligndraw.data.scene_captions import EARLIER, NOUNS, TEMPLATES, VOCABULARY, caption
from aligndraw.data.scene_synonyms import SYNONYMS
from aligndraw.data.scenes import SceneExamples, Scenes, evaluation_scenes
from aligndraw.data.sprites import OBJECTS

BUS = Scene("bus", "green", "blue", "sand", "large", "left", False)


@pytest.fixture(scope="module")
def examples():
    return Scenes().epoch(seed=0, size=3000)


def test_a_batch(examples):
    pictures, ids, lengths = examples.batch(slice(10, 60))
    assert pictures.shape == (50, 3, 32, 32) and pictures.dtype == np.uint8
    assert ids.dtype == lengths.dtype == np.int64 and ids.shape == (50, lengths.max())
    texts = [VOCABULARY.decode(row[:n]) for row, n in zip(ids, lengths)]
    assert texts == examples.captions(slice(10, 60)) == examples.captions()[10:60]
    some = examples.batch(np.array([12, 59]))
    assert (some[0] == pictures[[2, 49]]).all() and some[2].tolist() == lengths[[2, 49]].tolist()
    assert examples.batch(slice(2990, 3010))[0].shape == (10, 3, 32, 32)


def test_a_seed_determines_everything(examples):
    again = Scenes().epoch(seed=0, size=3000)
    assert again.captions() == examples.captions()
    assert (again.batch(slice(0, 99))[0] == examples.batch(slice(0, 99))[0]).all()
    others = [Scenes().epoch(1, size=9), Scenes().epoch(0, 1, 9), Scenes("validation").epoch(0, size=9)]
    assert all((e.attributes != examples.attributes[:9]).any() for e in others)


def test_the_pictures_stay_what_they_are():
    """A checksum of 50 pictures with their captions: NumPy may change its random numbers in a new release."""
    examples = Scenes("test").epoch(seed=3, size=50)
    # Sines and cosines may round differently elsewhere: by one step of 64 in a pixel, hardly to be seen.
    for words, known in ((VOCABULARY, "d2f8202bbd342e27"), (EARLIER, "23e748a199924c3c")):
        text = "\n".join(examples.in_words(words).captions())
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == known
    assert examples.batch(slice(None))[0].mean() == pytest.approx(141.203, abs=0.01)


def test_every_value_is_drawn_alike(examples):
    """Held-out combinations aside, of which an object has as many as any other."""
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        share = np.bincount(examples.attributes[:, column]) / len(examples)
        assert len(share) == len(values)
        # Standing objects have five places, of which one is held out; flying has one.
        slack = 0.25 if name in ("ground", "colour", "object", "flying") else 0.1
        assert abs(share * len(values) - 1).max() < slack + 5 * np.sqrt(len(values) / len(examples)), name


def test_training_never_shows_what_is_held_out(examples):
    assert not any(map(is_held_out, examples.scenes()))
    held_out = evaluation_scenes("validation", size=200)["held_out"].scenes()
    assert len(held_out) == 200 and all(map(is_held_out, held_out))
    assert {(s.object, s.colour) for s in examples.scenes()} == {
        (o, c) for o in OBJECTS for c in COLOURS if c != HELD_OUT[o][0]
    }
    assert {(s.object, s.place) for s in examples.scenes()} == {
        (o, p) for o in OBJECTS for p in (*GROUNDS, "sky") if p != HELD_OUT[o][1]
    }


def test_held_out_scenes():
    """The paper's two: a green school bus, and a stop sign in the sky; each thing has one colour and one place."""
    assert is_held_out(BUS) and not is_held_out(BUS._replace(colour="red"))
    sign = Scene("stop sign", "red", "blue", "sand", "large", "left", True)
    assert sign.place == "sky" and is_held_out(sign) and not is_held_out(sign._replace(flying=False))
    assert set(HELD_OUT) == set(OBJECTS) == set(NOUNS)
    for colour, place in HELD_OUT.values():
        assert colour in COLOURS and place in (*GROUNDS, "sky")


def test_the_captions_of_a_scene():
    assert caption(BUS) == "a large green school bus is parked on the sand under a blue sky ."
    assert caption(BUS, (5, 1, 0, 1, 2, 0, 0, 0, 0, 3)) == "the big bus in the desert is green ."
    assert (
        caption(BUS._replace(colour="orange", flying=True), (7,) + (0,) * 9)
        == "an orange school bus flying over the sand ."
    )
    assert (
        caption(BUS._replace(ground="sea"), (4,) + (0,) * 9)
        == "on the left a green school bus is floating on the sea ."
    )


def test_captions_tell_the_truth(examples):
    """Object, colour and place always; the rest where it is told of. And nothing is told of that is not so."""
    for scene, text in zip(examples.scenes(), examples.captions()):
        words = text.split()
        assert words[-1] == "." and 7 <= len(words) <= 18
        assert any(f" {noun} " in text for noun in NOUNS[scene.object])
        told = [c for c in COLOURS if c in words]
        # A few other words are names of colours too.
        rest = (
            text.replace("green field", "").replace("white snow", "").replace("blue sky", "").replace("orange sky", "")
        )
        assert [c for c in COLOURS if c in rest.split()] == [scene.colour] and scene.colour in told
        for part, table in (
            ("ground", (scene_captions._ON, scene_captions._OVER)[scene.flying]),
            ("sky", scene_captions._UNDER),
            ("side", scene_captions._WHERE),
        ):
            found = {value for value, phrases in table.items() for p in phrases if f" {p} " in f" {text} "}
            assert found <= {getattr(scene, part)} and (found or part != "ground"), text
        sizes = {size for size, options in scene_captions._SIZE_WORDS.items() if set(options) & set(words)}
        assert sizes <= {scene.size}
        flies = any(w in words for w in ("flying", "flies", "hovers")) or "floating" in words and scene.ground != "sea"
        assert flies <= scene.flying


def test_captions_are_varied(examples):
    texts = examples.captions()
    assert len(set(texts)) > 0.9 * len(texts)
    lengths = np.array([len(t.split()) for t in texts])
    assert 10 < lengths.mean() < 13 and lengths.std() > 2
    used = {word for text in texts for word in text.split()}
    assert used == set(VOCABULARY.words)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("size", SIZES)
def test_objects_show(name, size):
    """An object has its colour, as much of it as its size, in its place, whole; nothing else has such a colour."""
    for colour, flying in itertools.product(COLOURS, (False, True)):
        scene = Scene(name, colour, "cloudy", "road", size, "middle", flying)
        other = scene._replace(colour="blue" if colour != "blue" else "red")
        one, two = (SceneExamples.of([s], seed=0).batch(slice(None))[0][0].astype(int) for s in (scene, other))
        differs = abs(one - two).max(0) > 40
        rows, columns = np.nonzero(differs)
        assert differs.sum() > (50 if size == "large" else 15)
        assert 0 < columns.min() and columns.max() < 31 and 0 <= rows.min() and rows.max() < 32
        assert abs(columns.mean() - 15.5) < 4
        assert rows.mean() < 18 if flying else rows.max() > 18


def test_scenes_of_ones_own():
    wanted = [BUS, BUS._replace(flying=True), BUS._replace(object="cat")]
    examples = SceneExamples.of(wanted, seed=2)
    assert examples.scenes() == wanted
    assert (examples.batch(slice(None))[0] == SceneExamples.of(wanted, seed=2).batch(slice(None))[0]).all()
    with pytest.raises(ValueError, match="colour must be one of 'red', 'orange', .*, got 'grey'"):
        SceneExamples.of([BUS._replace(colour="grey")])


def test_words_are_plain():
    assert set("".join(VOCABULARY.words)) <= set(string.ascii_lowercase + ".")
    assert len(VOCABULARY) == len(set(VOCABULARY.words)) < 120
    assert all(t.endswith(" .") for t in TEMPLATES)


def test_the_earlier_words():
    """Of the same pictures; trainings of version 0.1 go on with them."""
    today = Scenes().epoch(0, size=400)
    for found in (Scenes(vocabulary=EARLIER).epoch(0, size=400), today.in_words(EARLIER)):
        words = {word for text in found.captions() for word in text.split()}
        assert words <= set(EARLIER.words) and len(EARLIER) == 99
        assert found.batch(slice(0, 9))[1].max() < 99
        np.testing.assert_array_equal(found.pictures(slice(0, 9)), today.pictures(slice(0, 9)))
    assert {word for text in today.captions() for word in text.split()} - set(EARLIER.words)


def test_every_wording_is_as_likely_as_any_other():
    tables = [t for name, t in vars(scene_captions).items() if isinstance(t, dict) and not name.startswith("__")]
    lists = [options for table in tables for options in table.values() if isinstance(options, tuple)]
    lists += [v for v in vars(scene_captions).values() if isinstance(v, tuple)]
    assert len(lists) > 40 and not any(scenes._OPTIONS % len(options) for options in lists)


def test_synonyms():
    """People's words are none of the captions', each is told once, and the rest of a sentence stays."""
    assert not set(SYNONYMS) & set(VOCABULARY.words) and VOCABULARY.synonyms == SYNONYMS
    words = [word for words in scene_synonyms._READ_AS.values() for word in words.split()]
    assert len(SYNONYMS) == len(words) + sum(map(len, scene_synonyms._PHRASES.values()))
    written = "one old ship drifts across the ocean beneath gray clouds"
    assert VOCABULARY.decode(VOCABULARY.encode(written)) == "a boat floats on the sea under grey clouds ."
    assert VOCABULARY.decode(VOCABULARY.encode("There’s a small, old car")) == "there is a small car ."
    assert VOCABULARY.remark("a small, red car") == ""
    written = "a white cat in the middle of a snowy field beside the blue sea under a red sky"
    assert VOCABULARY.decode(VOCABULARY.encode(written)) == (
        "a white cat in the middle of a snow on the sea under a orange sky ."
    )
    with pytest.raises(ValueError, match='unknown word "dog"'):
        VOCABULARY.encode("an old dog in the snow")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Scenes("dev"), "split must be one of 'train', 'validation', 'test', got 'dev'"),
        (lambda: Scenes("train", "new"), "combinations must be one of 'seen', 'held_out', got 'new'"),
        (lambda: Scenes().epoch(-1), r"at least 0 and below 2\^63, got -1"),
        (lambda: Scenes().epoch(0, size=0), "size must be a whole number of at least 1, got 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
