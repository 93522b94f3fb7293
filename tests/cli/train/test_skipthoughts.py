"""`aligndraw train skipthoughts`, and its files as the sentences of a sharpener."""

import json
import shutil

import numpy as np
import pytest

from aligndraw.text.sentences import open_encoder

TINY = "--word-units 4 --units 3 --epochs 2 --batch-size 2".split()
LINES = "A dog runs.\nIt sleeps.\nThen it runs.\nA cat sees it.\n\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(3 * LINES, encoding="utf-8")
    return path


def test_training_and_resuming(command, text, tmp_path):
    train = ("train", "skipthoughts", "--text", text, *TINY)
    status, out, err = command(*train, "--out", tmp_path / "a", "--direction", "bi")
    assert (status, err) == (0, "")
    assert "on 6 triples of sentences, 12 words: 6 updates; cpu" in out
    assert "nats per word in the last epoch" in out and "wrote dictionary.txt, bi_skip.npz, btable.npy into" in out
    assert open_encoder(f"bi-skip:{tmp_path / 'a'}").encode(["A cat runs", "nothing"]).shape == (2, 6)
    table = (tmp_path / "a" / "btable.npy").read_bytes()
    (tmp_path / "a" / "btable.npy").unlink()
    (tmp_path / "a" / "checkpoints" / "update-00000006" / "state.json").unlink()
    status, out, err = command("train", "skipthoughts", "--resume", "--out", tmp_path / "a")
    assert status == 0 and "from update 3 on" in out and "passed over" in err
    assert (tmp_path / "a" / "btable.npy").read_bytes() == table


def test_a_run_of_an_earlier_version_goes_on_with_its_words(command, tmp_path):
    """It split words at vowel signs, and its run says no rule."""
    path, folder = tmp_path / "text.txt", tmp_path / "a"
    path.write_text(3 * "हिन्दी में।\nकुत्ता।\nएक हाथी।\n", encoding="utf-8")
    command("train", "skipthoughts", "--text", path, *TINY, "--out", folder)
    assert np.load(folder / "uni_skip.npz")["word_rule"] == 2
    assert "हिन्दी" in (folder / "dictionary.txt").read_text(encoding="utf-8")
    record = json.loads((folder / "run.json").read_text())
    del record["settings"]["word_rule"]
    (folder / "run.json").write_text(json.dumps(record))
    shutil.rmtree(folder / "checkpoints")
    command("train", "skipthoughts", "--resume", "--out", folder)
    assert np.load(folder / "uni_skip.npz")["word_rule"] == 1
    assert "ि" in (folder / "dictionary.txt").read_text(encoding="utf-8").split("\n")


def test_more_words(command, text, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(map(str, rng.normal(0, 1, 2)))}" for word in ("dog", "cat", "runs", "sees", "zebra")]
    (tmp_path / "v.txt").write_text(f"{len(lines)} 2\n" + "\n".join(lines) + "\n")
    train = ("train", "skipthoughts", "--text", text, *TINY, "--out", tmp_path / "a")
    status, out, _ = command(*train, "--word-vectors", tmp_path / "v.txt")
    assert status == 0 and "expanded the vocabulary to 13 words" in out
    encoder = open_encoder(f"uni-skip:{tmp_path / 'a'}")
    assert not np.allclose(encoder.encode(["zebra"]), encoder.encode(["unknown"]))


def test_errors(command, text, tmp_path, listing):
    (tmp_path / "short.txt").write_text("One.\nTwo.\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9\n")
    before = listing()
    train = ("train", "skipthoughts", "--out", tmp_path / "s")
    for arguments, status, message in (
        (train, 2, "--text FILE must name the training text"),
        ((*train, "--text", tmp_path / "none.txt"), 1, "cannot read"),
        ((*train, "--text", tmp_path / "short.txt"), 1, "no three sentences"),
        ((*train, "--text", tmp_path / "latin.txt"), 1, "must be UTF-8 text"),
        ((*train, "--text", text, "--words", 2), 2, "words must be at least 3, got 2"),
        ((*train, "--text", text, "--word-vectors", tmp_path / "none.bin"), 1, "there are no word vectors"),
        ((*train, "--resume"), 1, "there is no run in"),
    ):
        found, _, err = command(*arguments)
        assert found == status and message in err and err.count("\n") == 1, (arguments, err)
    assert listing() == before


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            "3 2\ndog 1 2\ncat nan 1\nruns 1 3\n",
            "is damaged or no word2vec file: the vector of 'cat' must hold finite numbers",
        ),
        ("3 2\ndog 1 2\ncat 1e39 1\nruns 1 3\n", "the vector of 'cat' must hold finite numbers"),
        ("3 2\ndog 1 2\ncat 1 1\nruns 1\n", "the vector of 'runs' is cut off"),
        ("3 2\ndog 1 2\ncat 1 1\nzebra 1 1\n", "must share at least 3 words with the training text, got 2"),
    ],
)
def test_unusable_word_vectors(command, text, tmp_path, listing, content, fault):
    """They were read only after the whole training, and a number that is not finite named no file."""
    (tmp_path / "v.txt").write_text(content)
    before = listing()
    train = ("train", "skipthoughts", "--text", text, *TINY, "--out", tmp_path / "a")
    status, out, err = command(*train, "--word-vectors", tmp_path / "v.txt")
    assert (status, len(err.splitlines())) == (1, 1) and "nats" not in out
    assert f"{tmp_path / 'v.txt'} " in err and fault in err
    assert listing() == before


def test_a_text_without_three_sentences_is_named(command, tmp_path):
    (tmp_path / "t.txt").write_text("One.\nTwo.\n")
    status, _, err = command("train", "skipthoughts", "--text", tmp_path / "t.txt", *TINY, "--out", tmp_path / "a")
    assert (status, err) == (
        1,
        f"aligndraw: error: {tmp_path / 't.txt'}: no three sentences of at most 30 words follow each other\n",
    )
