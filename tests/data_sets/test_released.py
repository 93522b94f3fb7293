"""The authors' arrays and pickles: what is read, and what a pickle may not do."""

import os
import pickle

import numpy as np
import pytest

from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.released import load_pickle, store_released
from aligndraw.text import UNKNOWN

WORDS = {"a": 1, "bus": 2, ".": 3, "UNK": 4, "n't": 6}


def python2(value):
    """The pickle of Python 2 of a dictionary of words or numbers, in its text protocol."""
    return pickle.dumps(value, 0)


@pytest.fixture
def released(tmp_path):
    folder = tmp_path / "released"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, n in (("train", 3), ("dev", 2), ("test", 1)):
        np.save(folder / f"{name}-images-32x32.npy", rng.integers(0, 256, (n, 3072)) / np.float32(255))
        ids = np.zeros((2 * n, 5), np.int64)
        ids[:] = [1, 2, 6, 3, 0]
        ids[0] = [1, 4, 3, 0, 0]
        np.save(folder / f"{name}-captions.npy", ids)
        np.save(folder / f"{name}-captions-len.npy", np.array([[3]] + [[4]] * (2 * n - 1)))
        (folder / f"{name}-cap2im.pkl").write_bytes(python2({i: i // 2 for i in range(2 * n)}))
    (folder / "dictionary.pkl").write_bytes(python2(WORDS))
    return folder


def test_what_is_stored(released, tmp_path):
    """Planes, row by row; each word with its id; a caption as long as it is said to be."""
    data = store_released(released, tmp_path / "data")
    assert data.sizes["validation"] == {"images": 2, "captions": 4} and list(data.sizes) == [
        "train",
        "validation",
        "test",
    ]
    assert data.vocabulary.words == ("[0]", "a", "bus", ".", UNKNOWN, "[5]", "n't")
    train = data.split("train")
    images, ids, lengths = train.batch(slice(None))
    pixels = np.load(released / "train-images-32x32.npy")
    assert (images == np.rint(pixels * 255).astype(np.uint8).reshape(3, 3, 32, 32)[[0, 0, 1, 1, 2, 2]]).all()
    assert lengths.tolist() == [3, 4, 4, 4, 4, 4] and ids[:2].tolist() == [[1, 4, 3, 0], [1, 2, 6, 3]]
    assert train.captions()[:2] == [f"a {UNKNOWN} .", "a bus n't ."]
    assert CaptionedImages.open(tmp_path / "data").checksum == data.checksum


def test_a_split_that_is_not_there(released, tmp_path):
    for file in released.glob("dev-*"):
        file.unlink()
    assert list(store_released(released, tmp_path / "data").sizes) == ["train", "test"]


EMPTY = {"": np.zeros((0, 5), np.int64), "-len": np.zeros(0, np.int64)}


def put(name, array):
    return lambda folder: np.save(folder / name, array)


def pickled(name, value):
    return lambda folder: (folder / name).write_bytes(python2(value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "dictionary.pkl").unlink(), "cannot read .*dictionary.pkl: No such file"),
        (
            lambda f: (f / "dictionary.pkl").write_bytes(b"\x80\x02}q"),
            "dictionary.pkl must be a pickle of plain values",
        ),
        (pickled("dictionary.pkl", ["a"]), "dictionary.pkl must hold a dictionary from words to ids, got list"),
        (pickled("dictionary.pkl", {"a": -1}), "must hold words with ids of at least 0, got 'a': '-1'"),
        (pickled("dictionary.pkl", {"a": 0, "b": 0}), "must give each word an id of its own, got 0 twice"),
        (pickled("dictionary.pkl", {"a b": 0}), "dictionary.pkl: words must be strings free of white space, got 'a b'"),
        (lambda f: [p.unlink() for p in f.glob("*.npy")], "it has no train-images-32x32.npy"),
        (lambda f: [p.unlink() for p in f.glob("train-*")], "it has no train-images-32x32.npy"),
        (lambda f: (f / "dev-images-32x32.npy").unlink(), "cannot read .*dev-images-32x32.npy: No such file"),
        (
            put("train-images-32x32.npy", np.zeros((3, 3))),
            r"must be an array of numbers \[·, 3072\], got float64 \[3, 3\]",
        ),
        (put("train-images-32x32.npy", np.full((3, 3072), 200.0)), r"train-images-32x32.npy must lie in \[0, 1\]"),
        (put("train-images-32x32.npy", np.full((3, 3072), np.nan)), r"train-images-32x32.npy must lie in \[0, 1\]"),
        (put("train-captions.npy", np.full((6, 5), 7)), "train-captions.npy must hold ids in 0…6"),
        (put("train-captions.npy", np.array([{}])), "train-captions.npy is no NumPy array: .*Python objects"),
        (put("train-captions-len.npy", np.full(6, 6)), "train-captions-len.npy must hold 6 lengths in 1…5"),
        (put("train-captions-len.npy", np.full(5, 1)), "train-captions-len.npy must hold 6 lengths in 1…5"),
        (pickled("train-cap2im.pkl", {0: 0}), "train-cap2im.pkl must give caption 1 one of 3 images, got None"),
        (pickled("train-cap2im.pkl", {0: 5}), "train-cap2im.pkl must give caption 0 one of 3 images, got 5"),
        (put("train-captions-len.npy", np.full(6, 1.5)), "train-captions-len.npy must hold whole numbers"),
        (put("train-captions-len.npy", np.full(6, np.nan)), "train-captions-len.npy must hold whole numbers"),
        (put("train-captions-len.npy", np.full(6, 1e300)), "train-captions-len.npy must hold whole numbers"),
        (put("train-captions.npy", np.full((6, 5), 1.5)), "train-captions.npy must hold whole numbers"),
        (pickled("train-cap2im.pkl", {0: True}), "train-cap2im.pkl must give caption 0 one of 3 images, got True"),
        (pickled("dictionary.pkl", {"a": True}), "must hold words with ids of at least 0, got 'a': 'True'"),
        (pickled("dictionary.pkl", {"a\udcff": 0}), "dictionary.pkl: the word 'a.*' has half a character"),
        (
            pickled("dictionary.pkl", {"a" * 5000: 1}),
            "dictionary.pkl: the word 'aaa.*' has 5000 letters, more than 4096",
        ),
        (
            lambda f: [put(f"train-captions{end}.npy", a)(f) for end, a in EMPTY.items()],
            "train-captions.npy must hold at least one caption",
        ),
        (lambda f: (f / "train-captions.npy").unlink(), "cannot read .*train-captions.npy"),
    ],
)
def test_damage(released, tmp_path, damage, message):
    damage(released)
    with pytest.raises(DataError, match=message):
        store_released(released, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["released"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"a": Evil()}, 0),
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n.",
        b"caligndraw.data.released\nstore_released\n.",
        pickle.dumps(np.array([{}])),
        pickle.dumps({1, 2}, 2),
    ],
)
def test_a_pickle_makes_nothing_but_plain_values(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match="x.pkl must be a pickle of plain values: it holds .* which is refused"):
        load_pickle(tmp_path / "x.pkl")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_plain_values(tmp_path, protocol):
    value = {"a": [1, 2.5, "ü", (None, True)], "b": {3: "x"}}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    assert load_pickle(tmp_path / "x.pkl") == value


@pytest.mark.parametrize(
    "number", [np.int64(-7), np.float32(2.5), np.dtype(">i4").type(9), np.uint8(200), np.bool_(True)]
)
@pytest.mark.parametrize("protocol", [0, 2])
def test_numbers_of_numpy(tmp_path, number, protocol):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({0: number}, protocol))
    assert load_pickle(tmp_path / "x.pkl") == {0: number.item()}


def test_other_scalars_of_numpy_are_refused(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(np.datetime64("2020-01-01"), 2))
    with pytest.raises(DataError, match="it holds a NumPy M8, which is refused|refused"):
        load_pickle(tmp_path / "x.pkl")
