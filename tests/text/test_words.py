"""What a word is: in twenty scripts, in every version of Unicode, and for the `tokenizers` library as for us."""

import json
import random
import re
import unicodedata

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from aligndraw.text import UNKNOWN, CaptionError, Vocabulary, characters, read_tokenizer, words_of, write_tokenizer
from aligndraw.text.words import treebank_words

# Each is of a caption in another script, and its words.
SCRIPTS = {
    "Latin": ("A naïve Ǆ in a CAFÉ, isn’t it?", "a naïve ǆ in a café , isn’t it ?"),
    "Greek": ("ΕΝΑΣ ΣΚΎΛΟΣ, «σκύλος»", "ενας σκύλος , « σκύλος »"),
    "Cyrillic": ("Чёрный Кот-рыболов", "чёрный кот-рыболов"),
    "Armenian": ("Մեծ շուն։", "մեծ շուն ։"),
    "Georgian": ("ᲓᲘᲓᲘ ძაღლი", "დიდი ძაღლი"),
    "Hebrew": ("כֶּלֶב גָּדוֹל", "כֶּלֶב גָּדוֹל"),
    "Arabic": ("كَلْبٌ كبير، نعم؟", "كَلْبٌ كبير ، نعم ؟"),
    "Persian": ("می\u200cخواهم", "میخواهم"),
    "Devanagari": ("हिन्दी में एक कुत्ता।", "हिन्दी में एक कुत्ता ।"),
    "Bengali": ("একটি কুকুর বাংলায়।", "একটি কুকুর বাংলায় ।"),
    "Gurmukhi": ("ਇੱਕ ਕੁੱਤਾ", "ਇੱਕ ਕੁੱਤਾ"),
    "Gujarati": ("એક કૂતરો", "એક કૂતરો"),
    "Tamil": ("ஒரு நாய்.", "ஒரு நாய் ."),
    "Telugu": ("ఒక కుక్క", "ఒక కుక్క"),
    "Kannada": ("ಒಂದು ನಾಯಿ", "ಒಂದು ನಾಯಿ"),
    "Malayalam": ("ഒരു നായ", "ഒരു നായ"),
    "Sinhala": ("බල්ලෙක්", "බල්ලෙක්"),
    "Thai": ("หมากินข้าว ๑๒ ที่", "ห ม า กิ น ข้ า ว ๑๒ ที่"),
    "Lao": ("ໝາໃຫຍ່", "ໝ າ ໃ ຫ ຍ່"),
    "Khmer": ("ឆ្កែ", "ឆ្ កែ"),
    "Burmese": ("ခွေး", "ခွေး"),
    "Tibetan": ("ཁྱི་ཆེན།", "ཁྱི ་ ཆེན །"),
    "Ethiopic": ("ትልቅ ውሻ።", "ትልቅ ውሻ ።"),
    "Hangul": ("큰 개가 앉아 있다.", "큰 개가 앉아 있다 ."),
    "Chinese": ("一只iPhone手机。", "一 只 iphone 手 机 。"),
    "Japanese": ("コーヒー が、猫", "コ ー ヒ ー が 、 猫"),
    "Cherokee": ("ᎩᎵ ꭹꮅ", "ꭹꮅ ꭹꮅ"),
    "Mongolian": ("ᠨᠣᠬᠠᠢ᠃", "ᠨᠣᠬᠠᠢ ᠃"),
    "N'Ko": ("ߥߎߟߎ߫", "ߥߎߟߎ߫"),
    "emoji": ("❤️👍🏽 1️⃣", "❤ 👍 🏽 1⃣"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_scripts(script):
    caption, words = SCRIPTS[script]
    assert words_of(caption) == unicodedata.normalize("NFC", words).split(" ")
    assert words_of(unicodedata.normalize("NFD", caption)) == words_of(caption)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("cafe\u0301 cafe\u0327\u0301 cafe\u0301\u0327", "café cafȩ́ cafȩ́"),  # decomposed, in any order
        ("İSTANBUL I\u0307STANBUL", "i̇stanbul i̇stanbul"),
        ("J\u030c ǰ", "ǰ ǰ"),  # only the small one has a composed form
        ("ΟΔΟΣ οδος οδοσ ΣΑΣ. Σ", "οδος οδος οδος σας . σ"),
        ("\u212a \u2126 \u212b", "k ω å"),  # signs that are letters in normal form
        ("soft\u00adhyphen \ufeffdog\u200b \u202ecat\u202c", "softhyphen dog cat"),
        ("x\u0301\u2260 =\u0338", "x́ ≠ ≠"),
        ("man\u001fdog\u0085cat\u3000x_1", "man dog cat x_1"),
        ("\U00010d50\U00011938\u0897\ud800", "\ufffd \ufffd \ufffd \ufffd"),  # too new; no character
    ],
)
def test_spellings_of_one_word(caption, words):
    assert words_of(caption) == unicodedata.normalize("NFC", words).split(" ")


def test_ascii_is_read_as_it_always_was():
    """Models and data of earlier versions have such captions."""
    draw = random.Random(0)
    pieces = [*map(chr, range(128)), "'s", "n't", "'re", "-", " ", " ", "dog", "A"]
    for _ in range(3000):
        caption = "".join(draw.choices(pieces, k=draw.randrange(1, 30)))
        assert words_of(caption) == words_of(caption, rule=1)
        assert treebank_words(caption) == treebank_words(caption, rule=1)


def test_treebank_words_of_scripts():
    """As of captions, but that their case is kept."""
    assert treebank_words("हिन्दी Cafe\u0301 Σας 手机 ที่ it's") == ["हिन्दी", "Café", "Σας", "手", "机", "ที่", "it", "'s"]


SPACELESS = re.compile(
    "CJK|HIRAGANA|(HALFWIDTH )?KATAKANA|BOPOMOFO|YI |IDEOGRAPH|HANGZHOU|VERTICAL [KI]|MASU|"
    "THAI|LAO|KHMER|MYANMAR|(NEW )?TAI"
)


def test_the_classes_are_those_of_unicode():
    """Of the characters of the first plane that Python knows: what joins a word, and what stands alone."""
    left_out = re.compile(f"[{characters.HIDDEN}{characters.UNSETTLED}{characters.SPACE}\ud800-\udfff'’-]")
    for character in map(chr, range(0x10000)):
        kind, name = unicodedata.category(character), unicodedata.name(character, "")
        if kind == "Cn" or left_out.match(character):
            continue
        if kind[0] == "M":
            assert len(words_of(f"a{character}")) == 1, name
        else:
            joins = kind in ("Nd", "No") or character == "_" or (kind[0] in "LN" and not SPACELESS.match(name))
            assert (len(words_of(f"a{character}a")) == 1) == joins, name


# ---- the library ----


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The words that the library finds by the file that we write."""
    path = tmp_path_factory.mktemp("tokenizer") / "t.json"
    write_tokenizer(Vocabulary((UNKNOWN,)), path)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))

    def words(text):
        return [w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))]

    return words


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_library_makes_the_same_ids(script, tmp_path):
    """Also of words that are not in the vocabulary, and of the text of its unknown word."""
    caption = f"{SCRIPTS[script][0]} {UNKNOWN} man 's dog's ."
    words = dict.fromkeys(words_of(caption))
    vocabulary = Vocabulary((UNKNOWN, *list(words)[::2]))
    write_tokenizer(vocabulary, tmp_path / "t.json")
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    ids = vocabulary.encode(caption, unknown=UNKNOWN)
    assert tokenizer.encode(caption).ids == ids and set(ids) == set(range(len(vocabulary)))
    assert read_tokenizer(tmp_path / "t.json") == vocabulary


UNIFORM = ((0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xD800, 0xF8FF), (0x17000, 0x187FF), (0x20000, 0x10FFFF))


def test_the_library_splits_at_every_character_as_we_do(library):
    """Each code point, some of uniform ranges: alone, within and behind a word, around marks that have an order."""
    apart = [c for a, b in UNIFORM for c in (a, b, *range(a, b, 499))]
    others = [c for c in range(0x20000) if not any(a <= c <= b for a, b in UNIFORM)]
    characters = [chr(c) for c in sorted({*apart, *others}) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(characters), 1000):
        text = "".join(f"a{c}b{c}\u0316\u0301 Σ{c}\u0316{c}\u0301Σ {c}'S " for c in characters[start : start + 1000])
        found, ours = library(text), words_of(text)
        if found != ours:  # pytest's own comparison of such lists takes minutes
            pytest.fail(f"{next((a, b) for a, b in zip(found, ours) if a != b)}")


TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("aΣσςİ'’-_. \t\u0301\u0316\u0334\u0345\u093cक्षｶﾞ가각\u1100\u1161\u11a8猫がที่\u200d\ufe0f"),
        st.characters(categories=["Mn", "Mc", "Me", "Lu", "Lt", "Lm", "Cf"]),
    ),
    max_size=30,
)


@given(TEXT)
@example("\u0344\u0f73\u1e9e\ufb1d")
def test_the_library_splits_any_text_as_we_do(library, text):
    assert library(text) == words_of(text)


@given(TEXT)
def test_words_stay_words(text):
    """A caption of a caption's words has the same words."""
    words = words_of(text)
    assert words_of(" ".join(words)) == words


# ---- earlier versions ----


OLD = {  # as they were written
    "type": "Split",
    "pattern": {"Regex": r"(?<!\S)['’](?:s|re|ve|ll|d|m)(?!\S)|\w+(?:['’-]\w+)*|[^\w\s]"},
    "behavior": "Removed",
    "invert": True,
}


def old_file(path, words):
    model = {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": UNKNOWN}
    path.write_text(json.dumps({"normalizer": {"type": "Lowercase"}, "pre_tokenizer": OLD, "model": model}))
    return read_tokenizer(path)


def test_words_of_earlier_versions_keep_their_ids(tmp_path):
    """They split Hindi at its vowel signs, and so must whoever reads it for a model that learnt it so."""
    old = old_file(tmp_path / "t.json", [UNKNOWN, "ह", "ि", "न", "्", "द", "ी", "a"])
    assert old.encode("हिन्दी a") == [1, 2, 3, 4, 5, 6, 7] and old.rule == 1
    assert old != Vocabulary(old.words)
    write_tokenizer(old, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["pre_tokenizer"] == OLD
    for again in (read_tokenizer(tmp_path / "again.json"), Vocabulary.from_dict(old.to_dict())):
        assert again == old
    assert Vocabulary.from_dict({"words": list(old.words)}) == Vocabulary.from_dict(list(old.words)) == old


@pytest.mark.parametrize("words", [["a", "dog's", "."], ["café", "οδος", "ё", "€", "가", "’"]])
def test_words_that_both_rules_read_alike_are_read_by_the_newer(tmp_path, words):
    assert old_file(tmp_path / "t.json", words) == Vocabulary(tuple(words)) == Vocabulary.from_dict(words)


@pytest.mark.parametrize("words", ["手机", "e \u0301", "cafe\u0301", "i\u0307", "\u200d 👩", "\u1100\u1161"])
def test_words_that_only_the_older_rule_finds_are_read_by_it(tmp_path, words):
    assert old_file(tmp_path / "t.json", words.split()).rule == 1


def test_a_foreign_file_is_read_by_the_newer_rule(tmp_path):
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"हिन्दी": 0}, unk_token=UNKNOWN)).save(str(tmp_path / "t.json"))
    assert read_tokenizer(tmp_path / "t.json").encode("हिन्दी") == [0]


def test_a_later_rule_is_refused():
    with pytest.raises(ValueError, match=r"rule must be one of 1, 2, got 3: .*a later version of aligndraw"):
        Vocabulary.from_dict({"words": ["a"], "rule": 3})


@given(st.text(max_size=100))
def test_captions_of_any_text_have_words_or_an_error(text):
    vocabulary = Vocabulary((UNKNOWN,))
    if words_of(text):
        assert vocabulary.encode(text, max_words=1000, unknown=UNKNOWN) == [0] * len(words_of(text))
    else:
        with pytest.raises(CaptionError):
            vocabulary.encode(text)
