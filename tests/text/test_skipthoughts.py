"""Skip-thoughts from files of the released form, against the published equations in NumPy."""

import sys

import numpy as np
import pytest
import torch

from aligndraw.text.skipthoughts import SkipThoughts, from_gru, to_gru
from aligndraw.text.vocabulary import CaptionError
from aligndraw.text.words import treebank_words

WORDS = ["<eos>", "UNK", "a", "dog", "Dog", "runs", ".", "n't", "does"]
E_, D = 5, 4
WIDE = {"encoder_Wx": np.zeros((E_, 20_000), np.float32)}  # a small array, by which weights of gigabytes would be made


def encoder(rng, prefix, d):
    shapes = {"W": (E_, 2 * d), "b": (2 * d,), "U": (d, 2 * d), "Wx": (E_, d), "Ux": (d, d), "bx": (d,)}
    return {f"{prefix}_{name}": rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "dictionary.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    for name in ("utable", "btable"):
        np.save(tmp_path / f"{name}.npy", rng.normal(0, 1, (len(WORDS), E_)).astype(np.float32))
    wemb = {"Wemb": np.zeros((3, E_), np.float32)}
    np.savez(tmp_path / "uni_skip.npz", **wemb, **encoder(rng, "encoder", 2 * D))
    np.savez(tmp_path / "bi_skip.npz", **wemb, **encoder(rng, "encoder", D), **encoder(rng, "encoder_r", D))
    return tmp_path


def published(arrays, prefix, inputs):
    """The last state, word by word, in float64."""
    W, b, U, Wx, Ux, bx = (np.float64(arrays[f"{prefix}_{n}"]) for n in ("W", "b", "U", "Wx", "Ux", "bx"))
    d = len(bx)
    h = np.zeros(d)
    for x in np.float64(inputs):
        gates = 1 / (1 + np.exp(-(x @ W + h @ U + b)))
        r, u = gates[:d], gates[d:]
        h = u * h + (1 - u) * np.tanh(x @ Wx + bx + r * (h @ Ux))
    return h


def expected(folder, words, model):
    rows = [WORDS.index(w) if w in WORDS else 1 for w in words]
    uni, bi = np.load(folder / "uni_skip.npz"), np.load(folder / "bi_skip.npz")
    u, b = np.load(folder / "utable.npy")[rows], np.load(folder / "btable.npy")[rows]
    parts = {
        "uni": published(uni, "encoder", u),
        "bi": np.concatenate([published(bi, "encoder", b), published(bi, "encoder_r", b[::-1])]),
    }
    names = ["uni", "bi"] if model == "combined" else [model]
    return np.concatenate([parts[n] / np.linalg.norm(parts[n]) for n in names])


SENTENCES = {
    "a dog runs.": ["a", "dog", "runs", "."],
    "Dog": ["Dog"],
    "a Cat doesn't run": ["a", "Cat", "does", "n't", "run"],
    "a . a . a . a . a dog": ["a", ".", "a", ".", "a", ".", "a", ".", "a", "dog"],
}


@pytest.mark.parametrize("model", ["uni", "bi", "combined"])
def test_the_published_equations(folder, model):
    vectors = SkipThoughts(folder, model).encode([*SENTENCES, "Dog"])
    assert vectors.dtype == torch.float32 and len(vectors) == 5
    for vector, words in zip(vectors, [*SENTENCES.values(), ["Dog"]]):
        np.testing.assert_allclose(vector, expected(folder, words, model), rtol=0, atol=1e-6)


def test_a_gru_and_back(folder):
    arrays = np.load(folder / "bi_skip.npz")
    back = from_gru(to_gru(arrays, ["encoder", "encoder_r"]), ["encoder", "encoder_r"])
    assert set(back) == set(arrays) - {"Wemb"}
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_dictionary_with_a_mark(folder):
    """Some programs begin UTF-8 text with one: it was part of the first word."""
    words = (folder / "dictionary.txt").read_text("utf-8").replace("<eos>\nUNK", "UNK\n<eos>")
    before = SkipThoughts(folder).encode(["a dog"])
    (folder / "dictionary.txt").write_text(words, "utf-8-sig")
    assert torch.equal(SkipThoughts(folder).encode(["a dog"]), before)


def test_words():
    assert treebank_words("It's 3,000.5 DON'T-stop, state-of-the-art; end.") == (
        ["It", "'s", "3,000.5", "DO", "N'T", "-", "stop", ",", "state-of-the-art", ";", "end", "."]
    )


def test_the_rule_of_words_is_stored(folder):
    """Files of earlier versions say none: their dictionary has vowel signs as words, which only rule 1 finds."""
    words = "a ह ि न ् द ी UNK a".split()
    (folder / "dictionary.txt").write_text("\n".join(dict.fromkeys([*words, "x"])) + "\n", encoding="utf-8")

    def vectors():
        return SkipThoughts(folder, "uni").encode(["हिन्दी", "UNK"])

    assert not torch.allclose(*vectors())
    np.savez(folder / "uni_skip.npz", word_rule=2, **np.load(folder / "uni_skip.npz"))
    torch.testing.assert_close(*vectors())
    with pytest.raises(ValueError, match=r"must split sentences by one rule, got \[1, 2\]"):
        SkipThoughts(folder)
    np.savez(folder / "uni_skip.npz", **{**np.load(folder / "uni_skip.npz"), "word_rule": 3})
    with pytest.raises(ValueError, match=r"uni_skip.npz is damaged .*: rule must be one of 1, 2, got 3"):
        SkipThoughts(folder, "uni")


def resident(path):
    """Bytes of a mapped file that are in memory; None where it is not mapped."""
    lines = iter(open("/proc/self/smaps"))
    sizes = [int(next(x for x in lines if x.startswith("Rss:")).split()[1]) for line in lines if str(path) in line]
    return 1024 * sum(sizes) if sizes else None


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc/self/smaps")
def test_a_table_is_never_loaded_whole(tmp_path):
    """A file of 1.6 GB, for the most part a hole, of which the rows of three words come into memory."""
    words, wide = 2_000, 200_000
    (tmp_path / "dictionary.txt").write_text("UNK\n" + "".join(f"word{i}\n" for i in range(1, words)))
    table = np.lib.format.open_memmap(tmp_path / "utable.npy", "w+", np.float32, (words, wide))
    table[1999, :9] = 1
    del table
    shapes = {"W": (wide, 4), "b": (4,), "U": (2, 4), "Wx": (wide, 2), "Ux": (2, 2), "bx": (2,)}
    np.savez(tmp_path / "uni_skip.npz", **{f"encoder_{n}": np.ones(s, np.float32) for n, s in shapes.items()})
    assert (tmp_path / "utable.npy").stat().st_size > 1.5e9
    encoder = SkipThoughts(tmp_path, "uni")
    assert encoder.encode(["word17 word1999 nowhere"]).norm() == pytest.approx(1)
    assert 3 * 4 * wide <= resident(tmp_path / "utable.npy") < 20e6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "dictionary.txt").write_text("a\nb\n"), "must have the word UNK"),
        (lambda f: (f / "dictionary.txt").write_text("a\nUNK\n"), "must have a row for each of the 2 words"),
        (lambda f: (f / "utable.npy").write_bytes(b"nothing"), "utable.npy is damaged or no table"),
        (lambda f: np.save(f / "utable.npy", np.zeros((len(WORDS), 3))), "vectors of 5 numbers .*, got 3"),
        (
            lambda f: (f / "uni_skip.npz").write_text("a picture of a cat"),
            "uni_skip.npz is damaged or no skip-thoughts: it is no .npy or .npz file",
        ),
        (lambda f: np.savez(f / "uni_skip.npz", a=np.zeros(3)), "damaged or no skip-thoughts: .*encoder_Wx"),
        (
            lambda f: np.savez(f / "uni_skip.npz", **encoder(np.random.default_rng(0), "encoder", D) | WIDE),
            r"damaged or no skip-thoughts: encoder_W must be \[5, 40000\] to fit encoder_Wx, got \[5, 8\]",
        ),
        (
            lambda f: (f / "dictionary.txt").write_text("a\nUNK\nÉté\n", "latin-1"),
            "dictionary.txt, line 3: it must be UTF-8 text: save it as such",
        ),
    ],
)
def test_damaged_files(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        SkipThoughts(folder)


def test_errors(folder, tmp_path):
    with pytest.raises(ValueError, match="model must be one of uni, bi, combined, got 'tri'"):
        SkipThoughts(folder, "tri")
    with pytest.raises(CaptionError, match="must hold at least one word, got ' '"):
        SkipThoughts(folder).encode(["a", " "])
    with pytest.raises(CaptionError, match="at least one caption, got none"):
        SkipThoughts(folder).encode([])
    (folder / "utable.npy").unlink()
    with pytest.raises(FileNotFoundError, match="utable.npy"):
        SkipThoughts(folder)
