"""A vocabulary as a tokenizer file, and back."""

import json

import pytest
import tokenizers

from aligndraw.text import UNKNOWN, Vocabulary, read_tokenizer, write_tokenizer

WORDS = Vocabulary((UNKNOWN, ".", "a", "dog's", "ü", '"', "\\", "7"))


def test_there_and_back(tmp_path):
    write_tokenizer(WORDS, tmp_path / "t.json")
    assert read_tokenizer(tmp_path / "t.json") == WORDS


@pytest.mark.parametrize("words", [WORDS, Vocabulary(("a", "dog", "."))])
def test_the_library_reads_it(tmp_path, words):
    """Also where there is no word for unknown ones."""
    write_tokenizer(words, tmp_path / "t.json")
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    assert tokenizer.get_vocab() == {word: i for i, word in enumerate(words.words)}
    assert tokenizer.encode("A .").ids == words.encode("A .")


def test_the_librarys_own_file_is_read(tmp_path):
    model = tokenizers.models.WordLevel({"a": 0, "bus": 1, UNKNOWN: 2}, unk_token=UNKNOWN)
    tokenizers.Tokenizer(model).save(str(tmp_path / "t.json"))
    assert read_tokenizer(tmp_path / "t.json").words == ("a", "bus", UNKNOWN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("{}", "'model' is missing"),
        ("[]", "it must be an object, got a list"),
        ({"type": "BPE"}, "its type is 'BPE'"),
        ({"type": "WordLevel"}, "'vocab' is missing"),
        ({"type": "WordLevel", "vocab": ["a"]}, "'vocab' must be an object, got a list"),
        ({"type": "WordLevel", "vocab": {"a": 1}}, "its ids are not 0, 1, 2"),
        ({"type": "WordLevel", "vocab": {"a": 0, "b": "c"}}, "'b' must be a whole number, got \"c\""),
        ({"type": "WordLevel", "vocab": {"a b": 0}}, "free of white space"),
        ({"type": "WordLevel", "vocab": {}}, "at least one word"),
    ],
)
def test_other_files(tmp_path, content, message):
    text = content if isinstance(content, str) else json.dumps({"model": content})
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=rf"t.json is no word-level tokenizer in JSON: .*{message}"):
        read_tokenizer(tmp_path / "t.json")
