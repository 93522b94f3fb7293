"""Bytes where text is wanted: one line that says so, neither numbers in place of letters nor an error from within."""

import numpy as np
import pytest
import torch

from aligndraw import Pipeline
from aligndraw.data import VOCABULARY, CaptionedImages, CaptionedWriter, DataError, load_digits, open_data_set
from aligndraw.data.caption_files import read_captions
from aligndraw.data.coco import read_coco, write_coco
from aligndraw.text import CaptionError, WordPairs, text_fault, words_of
from aligndraw.text.sentences import StoredVectors, open_encoder
from aligndraw.text.skipthoughts import SkipThoughts
from aligndraw.text.vocabulary import check_captions
from aligndraw.text.words import treebank_words
from aligndraw.training.skipthoughts import Triples
from aligndraw.viz.rows import changed_words

CAPTION = b"the digit 7"
LIST = "captions must be a list of strings, got bytes"
ONE = "caption must be a string, got bytes"


@pytest.mark.parametrize("given", [CAPTION, bytearray(CAPTION), memoryview(CAPTION)])
def test_captions_in_one_piece(given):
    message = f"^captions must be a list of strings, got {type(given).__name__}$"
    for call in (check_captions, VOCABULARY.encode_batch, VOCABULARY.check_known, changed_words):
        with pytest.raises(CaptionError, match=message):
            call(given)


def test_a_string_in_place_of_captions():
    """`check_known` took its letters for captions."""
    with pytest.raises(CaptionError, match="^captions must be a list of strings, got one string"):
        VOCABULARY.check_known("the digit 7")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_captions([CAPTION]), ONE),
        (lambda: VOCABULARY.encode(CAPTION), ONE),
        (lambda: VOCABULARY.unknown_words(CAPTION), ONE),
        (lambda: VOCABULARY.remark(CAPTION), ONE),
        (lambda: VOCABULARY.index(b"7"), "word must be a string, got bytes"),
        (lambda: VOCABULARY.encode("the cat", unknown=b"7"), "word must be a string, got bytes"),
        (lambda: VOCABULARY.decode(b"\0\1"), "ids must be whole numbers, got bytes"),
        (lambda: VOCABULARY.decode("01"), "ids must be whole numbers, got str"),
        (lambda: words_of(CAPTION), ONE),
        (lambda: treebank_words(CAPTION), ONE),
        (lambda: WordPairs.of([CAPTION]), "words must be a list of strings, got bytes"),
        (lambda: WordPairs.of(["the digit"]), "words must be a list of strings, got str"),
        (lambda: WordPairs.of([]).unlike(CAPTION), "words must be a list of strings, got bytes"),
        (lambda: Triples.of(CAPTION, 10, 10), LIST),
        (lambda: Triples.of("abc", 10, 10), "captions must be a list of strings, got one string: use ..abc..$"),
        (lambda: Triples.of([CAPTION] * 3, 10, 10), ONE),
        (lambda: open_encoder(b"caption"), "sentences must be caption, .*, got b'caption'"),
    ],
)
def test_text(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_a_fault_of_text():
    assert text_fault(CAPTION) == "is no text but bytes"


def test_a_pipeline():
    pipe = Pipeline.from_pretrained("mnist")
    for given, message in ((CAPTION, ONE), ([CAPTION], ONE), (bytearray(CAPTION), "captions must be .* got bytearray")):
        with pytest.raises(CaptionError, match=f"^{message}"):
            pipe(given)
        with pytest.raises(CaptionError, match="must be a"):
            pipe.reader.encode_batch(given)
    with pytest.raises(CaptionError, match=f"^{ONE}$"):
        pipe.remark(CAPTION)


def test_stored_vectors(tmp_path):
    np.savez(tmp_path / "v.npz", captions=np.array(["a cat"]), vectors=np.ones((1, 2), np.float32))
    encoder = StoredVectors(tmp_path / "v.npz")
    assert torch.equal(encoder.encode(["a cat"]), torch.ones(1, 2))
    for given, message in ((b"a cat", LIST), ([b"a cat"], ONE)):
        with pytest.raises(CaptionError, match=f"^{message}$"):
            encoder.encode(given)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda path: StoredVectors(path), "path"),
        (lambda path: SkipThoughts(path), "folder"),
        (lambda path: read_captions(path), "images"),
        (lambda path: read_captions("/", path), "captions"),
        (lambda path: read_coco(path, []), "images"),
        (lambda path: CaptionedImages.open(path), "folder"),
        (lambda path: CaptionedWriter(path, (3, 2, 2), {}), "folder"),
        (lambda path: load_digits(path), "path"),
        (lambda path: open_data_set("captioned", path), "path"),
        (lambda path: Triples.read(path, 10, 10), "file"),
        (lambda path: write_coco(path, "train", np.zeros((0, 3, 2, 2), np.uint8), []), "folder"),
    ],
)
def test_paths(tmp_path, call, name):
    with pytest.raises(ValueError, match=f"^{name} must be a path, got b'.*/none'$"):
        call(bytes(tmp_path / "none"))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a.jpg", b"a cat .")], "the caption is no text but bytes"),
        ([(b"a.jpg", "a cat .")], "keys of images must be strings, got bytes"),
        (b"a cat .", "captions of split train must be pairs of a key and a caption, got int"),
        (["ab"], "captions of split train must be pairs of a key and a caption, got str"),
    ],
)
def test_a_writer(tmp_path, pairs, message):
    """Nothing is written."""
    with CaptionedWriter(tmp_path / "data", (1, 2, 2), {}) as writer:
        writer.store("train", ["a.jpg"], np.zeros((1, 1, 2, 2), np.uint8))
        with pytest.raises(DataError, match=f"^{message}$"):
            writer.finish({"train": pairs})
        with pytest.raises(ValueError, match="^keys of images must be strings, got bytes$"):
            writer.store("train", [b"b.jpg"], np.zeros((1, 1, 2, 2), np.uint8))
    assert not (tmp_path / "data").exists()
