"""Captions to word ids: what is understood, and every error."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aligndraw.text import MAX_WORDS, CaptionError, Vocabulary
from aligndraw.text.vocabulary import check_captions

NUMERALS = Vocabulary(("0", "1", "7", "digit", "is", "the", "top", "."))
WORDS = Vocabulary(("seven", "twenty", "the", "digit"))
BOTH = Vocabulary(("7", "seven"))


@pytest.mark.parametrize(
    "caption",
    [
        "the digit 7 is the top .",
        "The digit seven is the top.",
        "THE DIGIT SEVEN IS THE TOP",
        "  the\tdigit\n7   is the top  .  ",
    ],
)
def test_spellings_of_one_caption_have_one_encoding(caption):
    assert NUMERALS.encode(caption) == [5, 3, 2, 4, 5, 6, 7]


def test_numbers_meet_the_spelling_of_the_vocabulary():
    assert WORDS.encode("the digit 7") == WORDS.encode("the digit seven") == [2, 3, 0]
    assert WORDS.encode("20 TWENTY") == [1, 1]
    assert BOTH.encode("seven 7") == [1, 0]


def test_every_number_to_twenty_is_known_in_both_spellings():
    words = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty"
    ).split()
    numerals = [str(i) for i in range(21)]
    assert Vocabulary(tuple(numerals)).encode(" ".join(words)) == list(range(21))
    assert Vocabulary(tuple(words)).encode(" ".join(numerals)) == list(range(21))


def test_full_stop_is_supplied_only_where_the_vocabulary_has_it():
    assert NUMERALS.encode("top") == NUMERALS.encode("top.") == [6, 7]
    assert WORDS.encode("the digit") == [2, 3]


def test_punctuation_is_split_off_but_kept_inside_words():
    vocabulary = Vocabulary(("a", "man's", "black-and-white", "dog", ",", "!"))
    assert vocabulary.encode("A man's, black-and-white dog!") == [0, 1, 4, 2, 3, 5]


def test_endings_are_split_off_where_the_vocabulary_has_them():
    """As the Penn Treebank writes words; otherwise a word stays whole."""
    treebank = Vocabulary(("the", "man", "'s", "dog", "do", "n't", "'re"))
    assert treebank.encode("The man's dog don't") == [0, 1, 2, 3, 4, 5]
    assert treebank.encode("the man’s dog don’t") == [0, 1, 2, 3, 4, 5]
    assert treebank.encode("the man 's dog do n't") == [0, 1, 2, 3, 4, 5]
    assert Vocabulary(("man's", "man", "'s")).encode("man's man 's") == [0, 1, 2]
    with pytest.raises(CaptionError, match='unknown words "cat\'s", "they\'re"'):
        treebank.encode("cat's they're")
    assert Vocabulary(("'", "s", "man")).encode("'s' man '") == [0, 1, 0, 2, 0]


def test_a_word_for_unknown_ones():
    vocabulary, plain = Vocabulary(("[UNK]", "a", "dog", ".")), Vocabulary(("a", "dog", "."))
    for unknown in ("[UNK]", None):
        assert vocabulary.encode("A cat, a dog", unknown=unknown) == [1, 0, 0, 1, 2, 3]
    assert plain.encode("A cat, a dog", unknown="dog") == [0, 1, 1, 0, 1, 2]
    assert vocabulary.encode_batch(["a cat"])[0].tolist() == [[1, 0, 3]]
    with pytest.raises(CaptionError, match='unknown words "cat", ","'):
        plain.encode("A cat, a dog")


def test_unknown_words_are_named():
    vocabulary, plain = Vocabulary(("[UNK]", "a", "dog", "7", ".")), Vocabulary(("a", "dog"))
    assert vocabulary.unknown_words("A cat, a cat, seven dogs") == ["cat", ",", "dogs"]
    assert vocabulary.remark("a cat dogs") == (
        '[UNK] stands for the unknown words "cat", "dogs" in caption "a cat dogs"; the vocabulary has 5 words, '
        'nearest: "a" for "cat"; "dog" for "dogs"'
    )
    assert vocabulary.remark("a dog") == plain.remark("a dog") == ""
    vocabulary.check_known(["a dog", "seven"])
    for refused in (lambda: vocabulary.check_known(["a dog", "a cow"]), lambda: plain.remark("a cow")):
        with pytest.raises(CaptionError, match='unknown word "cow" in caption "a cow"'):
            refused()
    with pytest.raises(CaptionError, match="at least one word"):
        vocabulary.remark(" ")


def test_synonyms():
    """They are read as words of the vocabulary or left out, and told; its own words are read as themselves."""
    synonyms = {"hound": "dog", "one": "a", "old": "", "dog": "a", "7": "dog"}
    vocabulary = Vocabulary(("a", "dog", "seven", "."), synonyms=synonyms)
    assert vocabulary.encode("One old HOUND a dog 7") == [0, 1, 0, 1, 2, 3]
    assert vocabulary.unknown_words("one old cat") == ["cat"]
    assert vocabulary.remark("one old hound") == (
        'caption "one old hound": "one" is read as "a", "old" is left out, "hound" is read as "dog"'
    )
    assert vocabulary.remark("a dog 7") == ""
    with pytest.raises(CaptionError, match='unknown word "cow" in caption "an old cow"'):
        Vocabulary(("an",), synonyms={"old": ""}).encode("an old cow")
    with pytest.raises(CaptionError, match="at least one word"):
        vocabulary.encode("old old")
    phrases = Vocabulary(
        ("a", "dog", "."), synonyms={"big dog": "dog", "very big dog": "", "big": "", "puppy": "a dog"}
    )
    assert phrases.encode("a very big dog big big dog puppy") == [0, 1, 0, 1, 2]
    assert phrases.remark("a big dog puppy") == (
        'caption "a big dog puppy": "big dog" is read as "dog", "puppy" is read as "a dog"'
    )
    more = vocabulary.extended(Vocabulary(("hound", "cat")))
    assert more.words[-2:] == ("hound", "cat") and more.encode("old hound cat") == [4, 5, 3]
    plain = Vocabulary(vocabulary.words)
    assert vocabulary == plain and hash(vocabulary) == hash(plain) and plain.synonyms == {}
    again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert again.synonyms == synonyms and "synonyms" not in plain.to_dict()


def test_batch_is_padded_on_the_right_and_its_lengths_say_where():
    ids, lengths = NUMERALS.encode_batch(["the digit 7 is top.", "top"])
    assert ids.dtype == lengths.dtype == torch.int64
    assert ids.tolist() == [[5, 3, 2, 4, 6, 7], [6, 7, 0, 0, 0, 0]]
    assert lengths.tolist() == [6, 2]


def test_decode_inverts_encode():
    assert NUMERALS.decode(NUMERALS.encode("The digit seven.")) == "the digit 7 ."
    ids, lengths = NUMERALS.encode_batch(["the digit is 7", "top"])
    assert NUMERALS.decode(ids[1, : lengths[1]]) == "top ."


def test_decode_refuses_ids_that_are_no_words():
    for wrong in (-1, 8):
        with pytest.raises(ValueError, match=rf"^ids must be in 0…7, got {wrong}$"):
            NUMERALS.decode([wrong])
    with pytest.raises(TypeError):
        NUMERALS.decode([1.5])


def test_index_and_length():
    assert len(NUMERALS) == 8
    assert NUMERALS.index("seven") == NUMERALS.index("7") == 2
    with pytest.raises(CaptionError, match=r'^unknown word "tip"; .* nearest: "top"$'):
        NUMERALS.index("tip")


def test_unknown_word_is_named_with_the_nearest():
    with pytest.raises(CaptionError) as error:
        NUMERALS.encode("the dog is the\ntop")
    assert str(error.value) == (
        'unknown word "dog" in caption "the dog is the top"; the vocabulary has 8 words, nearest: "digit"'
    )


def test_every_unknown_word_is_named_once():
    with pytest.raises(CaptionError) as error:
        NUMERALS.encode("dgit tpo dgit qqq")
    assert str(error.value) == (
        'unknown words "dgit", "tpo", "qqq" in caption "dgit tpo dgit qqq"; '
        'the vocabulary has 8 words, nearest: "digit" for "dgit"; "top" for "tpo"'
    )


def test_a_number_beyond_the_vocabulary_is_unknown():
    with pytest.raises(CaptionError, match=r'^unknown word "10" in .* nearest: "1", "0"$'):
        NUMERALS.encode("the digit 10")


def test_without_a_near_word_some_of_the_vocabulary_are_listed():
    with pytest.raises(CaptionError, match='has 4 words, such as "seven", "twenty", "the", "digit"'):
        WORDS.encode("zzz")


@pytest.mark.parametrize("empty", ["", "  \n\t "])
def test_empty_caption(empty):
    with pytest.raises(CaptionError, match=r'^caption must hold at least one word, got ""$'):
        NUMERALS.encode(empty)


def test_longest_caption():
    # 255 words and the full stop that is supplied.
    assert len(NUMERALS.encode("the " * (MAX_WORDS - 1))) == MAX_WORDS
    with pytest.raises(CaptionError) as error:
        NUMERALS.encode("the " * MAX_WORDS)
    message = str(error.value)
    assert message.startswith('caption must have at most 256 words, got 257: "the the ')
    assert message.endswith('..."') and len(message) < 120
    with pytest.raises(CaptionError, match="at most 2 words, got 3"):
        NUMERALS.encode("the top", max_words=2)


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("the \udcff top", r'caption has half a character, or a byte that is not UTF-8: "the \xff top"'),
        ("the \ud83d top", r'caption has half a character, or a byte that is not UTF-8: "the \ud83d top"'),
        ("t" * 4097, f'caption has 4097 letters, more than 4096: "{57 * "t"}..."'),
    ],
)
def test_caption_that_no_model_can_read(caption, fault):
    """Pictures were drawn from half a character, and a PNG of them was a traceback; so was a sheet of endless words."""
    readers = (
        lambda: Vocabulary(("[UNK]",)).encode(caption, unknown="[UNK]"),
        lambda: NUMERALS.encode_batch(["the", caption]),
        lambda: check_captions(["the", caption]),
    )
    for read in readers:
        with pytest.raises(CaptionError) as error:
            read()
        assert str(error.value) == fault


@pytest.mark.parametrize("wrong, kind", [(7, "int"), (None, "NoneType"), (b"the", "bytes")])
def test_caption_that_is_no_string(wrong, kind):
    with pytest.raises(CaptionError, match=f"^caption must be a string, got {kind}$"):
        NUMERALS.encode(wrong)
    with pytest.raises(CaptionError, match=f"^caption must be a string, got {kind}$"):
        NUMERALS.encode_batch(["the", wrong])


def test_a_lone_string_is_no_batch():
    with pytest.raises(CaptionError, match=r'got one string: use \["the top"\]$'):
        NUMERALS.encode_batch("the top")
    with pytest.raises(CaptionError, match=r"^captions must hold at least one caption, got none$"):
        NUMERALS.encode_batch([])


@given(st.text(max_size=300))
def test_any_text_encodes_or_gives_one_line(text):
    try:
        ids = NUMERALS.encode(text)
    except CaptionError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert ids and all(0 <= i < len(NUMERALS) for i in ids)
        assert NUMERALS.encode(NUMERALS.decode(ids)) == ids


def test_huge_unknown_words_and_vocabularies_are_answered_at_once():
    vocabulary = Vocabulary(tuple(f"word{i}" for i in range(5000)))
    with pytest.raises(CaptionError) as error:
        vocabulary.encode(" ".join(f"{'x' * 1000}{i}" for i in range(200)), max_words=200)
    assert len(str(error.value)) < 20_000


def test_json_round_trip():
    again = Vocabulary.from_dict(json.loads(json.dumps(NUMERALS.to_dict())))
    assert again == NUMERALS and again.rule == 2 and again.encode("seven") == [2, 7]


@pytest.mark.parametrize(
    "data, message",
    [
        ({"word": ["a"]}, r"keys \"words\", \"rule\" and \"synonyms\" alone, got \['word'\]"),
        ({"words": ["a"], "synonyms": ["a"]}, "synonyms must be a mapping of words, got list"),
        ({"words": ["a"], "synonyms": {"b  c": "a"}}, "words with one space between them, got 'b  c'"),
        ({"words": ["a"], "synonyms": {"": "a"}}, "words with one space between them, got ''"),
        (
            {"words": ["a"], "synonyms": {"b": "a c"}},
            "'b' must be read as words of the vocabulary or as \"\", got 'a c'",
        ),
        ({"words": ["a"], "synonyms": {"b": None}}, "synonym 'b' must be read as .*, got None"),
        ({"words": ["a"], "more": 1}, r"alone, got \['more', 'words'\]"),
        ("a", "alone, got str"),
        ({"words": ["a"], "rule": True}, "rule must be one of 1, 2, got True"),
        ({"words": ["a"], "rule": [2]}, r"rule must be one of 1, 2, got \[2\]"),
        ({"words": "abc"}, "words must be a list, got str"),
        ({"words": []}, "at least one word, got an empty tuple"),
        ({"words": ["a", 3]}, "free of white space, got 3"),
        ({"words": ["a b"]}, "free of white space, got 'a b'"),
        ({"words": [""]}, "free of white space, got ''"),
        ({"words": ["a", "b", "a"]}, "distinct, got 'a' more than once"),
    ],
)
def test_foreign_vocabularies(data, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_dict(data)


def test_words_must_be_a_tuple_so_that_a_vocabulary_cannot_change():
    with pytest.raises(ValueError, match="words must be a tuple of at least one word, got list"):
        Vocabulary(["a"])
    with pytest.raises(AttributeError):
        NUMERALS.words = ("a",)
    assert len({NUMERALS, Vocabulary(NUMERALS.words)}) == 1


def test_an_extended_vocabulary_keeps_the_ids_of_captions():
    """A number in its other spelling, and a word with an ending, are no new words."""
    old = Vocabulary(("seven", "dog", "'s", "a", "."))
    words = old.extended(Vocabulary(("[UNK]", ".", "7", "dog's", "a", "cat's", "8", "eight")))
    assert words.words == (*old.words, "[UNK]", "cat's", "8", "eight")
    for caption in ("a dog's dog", "7 dogs".replace("dogs", "dog"), "seven", "a dog 's a ."):
        assert words.encode(caption) == old.encode(caption)
    assert words.has_words(old) and words.has_words(words) and not old.has_words(words)
    with pytest.raises(ValueError, match="rule must be 2 to extend a vocabulary of this rule of words, got 1"):
        old.extended(Vocabulary(("a",), rule=1))
    assert not old.has_words(Vocabulary(("a",), rule=1))


@pytest.mark.parametrize("caption", ["[UNK]", "unk", "zzz"])
def test_the_unknown_word_is_in_no_hint(caption):
    """It cannot be typed: its brackets are words of their own."""
    with pytest.raises(CaptionError) as error:
        Vocabulary(("[UNK]", "a", "bus")).check_known([caption])
    assert str(error.value).endswith('; the vocabulary has 3 words, such as "a", "bus"')
    with pytest.raises(CaptionError, match="; the vocabulary has 1 word$"):
        Vocabulary(("[UNK]",)).check_known([caption])
