"""What the page answers to captions."""

import re
from html import unescape

import numpy as np
import pytest

from aligndraw import Pipeline
from aligndraw.demo.studio import Offer, answer, invitation
from aligndraw.pipelines import CaptionWarning
from aligndraw.pipelines.card import CARD
from aligndraw.text import WordPairs

EIGHT, FIVE = (f"the digit 3 is on the left of the digit {n}" for n in (8, 5))
BIRD = "a small yellow bird flies over the sea under a blue sky"


@pytest.fixture(scope="module")
def offers(scenes):
    found = [Offer.of("mnist"), Offer.of(str(scenes))]
    return {offer.name: offer for offer in found}


def finished(html, films):
    return np.stack([film[-1] for film in films(html)])


def pictures(drawing):
    return np.stack([np.asarray(image.convert("RGB")) for image in drawing.pil()])


def test_pictures_are_those_of_the_pipeline(offers, digits, films):
    html = answer(offers, "mnist", [EIGHT], 7, False)
    expected = pictures(digits(EIGHT, num_images_per_prompt=4, seed=7))
    np.testing.assert_array_equal(finished(html, films), expected)
    assert 'class="player"' in html and 'class="changed"' not in html


@pytest.mark.parametrize("seed", [3, None])
def test_captions_are_compared_on_the_same_noise(offers, digits, films, seed):
    """Without a seed the second caption takes the seed of the first."""
    html = answer(offers, "mnist", [EIGHT, FIVE, EIGHT], seed, False)
    eight, five, again = np.split(finished(html, films), 3)
    np.testing.assert_array_equal(eight, again)
    assert (eight != five).any()
    if seed is not None:
        np.testing.assert_array_equal(five, pictures(digits(FIVE, num_images_per_prompt=4, seed=seed)))
    assert re.findall(r'class="changed"[^>]*>([^<]*)<', html) == ["8", "5", "8"]


def test_a_sharpener_changes_the_finished_picture_alone(offers, scenes, films):
    plain, sharp = (films(answer(offers, "scenes", [BIRD], 0, sharpen)) for sharpen in (False, True))
    for before, after in zip(plain, sharp):
        np.testing.assert_array_equal(before[:3], after[:3])
        assert (before[3] != after[3]).any()
    for sharpen, shown in ((False, plain), (True, sharp)):
        pipeline = Pipeline.from_pretrained(scenes, sharpen=sharpen)
        expected = pictures(pipeline(BIRD, num_images_per_prompt=4, seed=0))
        np.testing.assert_array_equal(np.stack([film[-1] for film in shown]), expected)


def test_sharpening_by_a_model_without_sharpener_draws(offers, films):
    kinds = [finished(answer(offers, "mnist", [EIGHT], 0, sharpen), films) for sharpen in (False, True)]
    np.testing.assert_array_equal(*kinds)


def text(html):
    return unescape(re.sub(r"<[^>]*>", "\n", html))


@pytest.mark.parametrize("captions", [["a cat"], [EIGHT, "a cat"]])
def test_an_unknown_word_gets_captions_that_work(offers, captions, films):
    html = answer(offers, "mnist", captions, 0, False)
    assert "The model mnist does not know the words “a”, “cat”." in text(html)
    assert "draws one or two handwritten digits at named places" in text(html)
    tries = re.findall(r"<button[^>]*>([^<]*)</button>", html)
    assert len(tries) == 3
    for caption in tries:
        assert len(films(answer(offers, "mnist", [caption], 0, False))) == 4


def test_another_model_that_knows_the_words_is_named(offers):
    assert "The model scenes does: choose it above." in text(answer(offers, "mnist", [BIRD], 0, False))
    assert "choose it above" not in answer(offers, "mnist", ["a zebra"], 0, False)


def test_a_caption_that_no_model_reads(offers):
    reason = text(answer(offers, "mnist", ["  "], 0, False))
    assert 'caption must hold at least one word, got "".' in reason and "Captions that work:" in reason


def test_unknown_words_are_text_and_not_too_many(offers):
    html = answer(offers, "mnist", ["<script>alert(1)</script> & so much more that nobody could want"], 0, False)
    assert "<script" not in html
    assert "“<”, “script”, “>”, “alert”, “(” …." in text(html)


def test_a_caption_unlike_those_of_training_has_a_remark(scenes, tmp_path):
    pipeline = Pipeline.from_pretrained(scenes)
    pipeline.notes = {**pipeline.notes, "word_pairs": WordPairs.of([[*BIRD.split(), "."]]).to_dict()}
    pipeline.save_pretrained(tmp_path / "mine")
    offers = {"mine": Offer.of(str(tmp_path / "mine"))}
    assert 'class="remark"' not in answer(offers, "mine", [BIRD], 0, False)
    backwards = " ".join(reversed(BIRD.split()))
    with pytest.warns(CaptionWarning):
        html = answer(offers, "mine", [BIRD, backwards], 0, False)
    (remark,) = re.findall(r'<p class="remark">([^<]*)</p>', html)
    assert unescape(remark) == pipeline.remark(backwards)
    assert f'caption "{backwards}" is worded unlike the training captions' in unescape(remark)


def test_a_folder_without_card(scenes, tmp_path):
    """Its data are known by the model's notes; of other models some words are shown."""
    folder = tmp_path / "mine"
    Pipeline.from_pretrained(scenes, sharpen=False).save_pretrained(folder)
    (folder / CARD).unlink()
    offer = Offer.of(str(folder))
    assert (offer.name, offer.sharp) == ("mine", None)
    assert "a white cat sits on the grass at sunset" in invitation(offer)
    pipeline = Pipeline.from_pretrained(folder)
    pipeline.notes = {}
    pipeline.save_pretrained(folder)
    shown = text(invitation(Offer.of(str(folder))))
    assert "The model mine draws pictures of captions like those of its training. Some of its words: a, " in shown
