"""What stands behind the interface of sentence encoders."""

import sys
import types

import numpy as np
import pytest
import torch

from aligndraw.model.language import LanguageModel
from aligndraw.text import CaptionError, Vocabulary
from aligndraw.text.sentences import StoredVectors, absolute_specification, open_encoder

WORDS = Vocabulary(tuple("a b c d .".split()))
CAPTIONS = ["a b .", "d", "c c c c a"]


@pytest.mark.parametrize("conventions", ["paper", "released"])
def test_caption_state(conventions):
    torch.manual_seed(0)
    language = LanguageModel(5, 3, conventions)
    encoder = open_encoder("caption", language, WORDS)
    vectors = encoder.encode(CAPTIONS)
    assert vectors.shape == (3, encoder.units) == (3, 6) and not vectors.requires_grad
    for caption, vector in zip(CAPTIONS, vectors):
        ids = torch.tensor([WORDS.encode(caption)])
        h_lang, _ = language(ids, torch.tensor([ids.shape[1]]))
        # Final forward | final backward: the paper's backward LSTM ends at the first word.
        last = torch.cat([h_lang[0, -1, :3], h_lang[0, -1 if conventions == "released" else 0, 3:]])
        torch.testing.assert_close(vector, last.detach())


def test_caption_state_refuses_what_its_model_does(tmp_path):
    encoder = open_encoder("caption", LanguageModel(5, 3), WORDS)
    with pytest.raises(CaptionError, match='unknown word "zebra"'):
        encoder.encode(["a", "zebra"])
    with pytest.raises(CaptionError, match="at least one caption, got none"):
        encoder.encode([])


def test_caption_state_of_unknown_words():
    """Where the vocabulary has a word for those that it does not know, it is read."""
    torch.manual_seed(0)
    encoder = open_encoder("caption", LanguageModel(3, 3), Vocabulary(("a", "b", "[UNK]")))
    known = encoder.encode(["a b", "a a"])
    strange = encoder.encode(["a zebra", "a a"])
    assert torch.equal(strange[1], known[1]) and not torch.equal(strange[0], known[0])


def test_stored_vectors(tmp_path):
    path = tmp_path / "v.npz"
    vectors = np.arange(6.0).reshape(3, 2)
    np.savez(path, captions=CAPTIONS, vectors=vectors)
    found = open_encoder(f"vectors:{path}").encode(["d", "a b .", "d"])
    assert found.dtype == torch.float32 and StoredVectors(path).units == 2
    assert found.tolist() == [[2, 3], [0, 1], [2, 3]]
    with pytest.raises(CaptionError, match="v.npz has no vector of the caption 'e'"):
        StoredVectors(path).encode(["d", "e"])


def test_a_string_is_no_list_of_letters(tmp_path):
    """ "ab" was the captions "a" and "b"."""
    path = tmp_path / "v.npz"
    np.savez(path, captions=["a", "b"], vectors=np.zeros((2, 3)))
    for encoder in (StoredVectors(path), open_encoder("caption", LanguageModel(5, 3), WORDS)):
        with pytest.raises(CaptionError, match=r'captions must be a list of strings, got one string: use \["ab"\]'):
            encoder.encode("ab")
        with pytest.raises(CaptionError, match="caption must be a string, got int"):
            encoder.encode([1])
        with pytest.raises(CaptionError, match="at least one caption, got none"):
            encoder.encode([])


def test_vectors_that_are_not_finite(tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, captions=CAPTIONS, vectors=np.array([[0, 1], [np.nan, 0], [np.inf, 2]]))
    message = r"v.npz must hold finite numbers, got others in 2 of 3 vectors: the first is row 1, of the caption 'd'"
    with pytest.raises(ValueError, match=message):
        StoredVectors(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b"PK nothing"), "is no .npz archive of captions and vectors"),
        (lambda p: np.savez(p, captions=["a"]), "is no .npz archive of captions and vectors: .*vectors"),
        (lambda p: np.savez(p, captions=[b"a"], vectors=np.zeros((1, 3))), "captions must be text, got .S1"),
        (lambda p: np.savez(p, captions=["a"], vectors=np.zeros((2, 3))), r"vectors \[n, d\], got \[1\] and \[2, 3\]"),
        (lambda p: np.save(p.open("wb"), np.zeros(3)), "is no .npz archive of captions and vectors"),
    ],
)
def test_what_holds_no_vectors(write, message, tmp_path):
    write(tmp_path / "v.npz")
    with pytest.raises(ValueError, match=message):
        StoredVectors(tmp_path / "v.npz")


def test_transformer(monkeypatch):
    class SentenceTransformer:
        def __init__(self, name, device):
            self.name = name

        def get_sentence_embedding_dimension(self):
            return 2

        def encode(self, captions, convert_to_numpy):
            return np.array([[len(self.name), len(caption)] for caption in captions])

    module = types.SimpleNamespace(SentenceTransformer=SentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    encoder = open_encoder("transformer:four")
    assert encoder.units == 2 and encoder.encode(["a", "b c"]).tolist() == [[4, 1], [4, 3]]
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match="need the package sentence-transformers: pip install"):
        open_encoder("transformer:four")


@pytest.mark.parametrize("name", ["", "captions", "caption:x", "uni-skip", "tri-skip:x", "vectors:", "bert:x"])
def test_unknown_specifications(name):
    with pytest.raises(ValueError, match="sentences must be|model must be one of uni, bi, combined"):
        open_encoder(name)


def test_a_path_is_one_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_specification("vectors:v.npz") == f"vectors:{tmp_path / 'v.npz'}"
    assert absolute_specification("bi-skip:a/b") == f"bi-skip:{tmp_path / 'a' / 'b'}"
    assert (absolute_specification("caption"), absolute_specification("transformer:a/b")) == (
        "caption",
        "transformer:a/b",
    )


def test_caption_states_need_a_model():
    with pytest.raises(ValueError, match="are those of a model, and none is given"):
        open_encoder("caption")


@pytest.mark.parametrize("kind", [np.int32, bool, np.complex64])
def test_vectors_that_are_no_floating_point_numbers(tmp_path, kind):
    np.savez(tmp_path / "v.npz", captions=["a"], vectors=np.ones((1, 2), kind))
    with pytest.raises(
        ValueError, match=f"v.npz is no .npz archive .*: vectors must hold floating.* {np.dtype(kind)}$"
    ):
        StoredVectors(tmp_path / "v.npz")
