"""Captions that stay in their files: what is read, in whatever order, and what memory it takes."""

import numpy as np
import pytest

from aligndraw.data import CaptionedWriter
from aligndraw.data.captioned import drawn_rows
from aligndraw.data.mapped import STEP, MappedCaptions
from aligndraw.json_files import FileError

COUNTS = [1, STEP - 1, STEP, STEP + 1, 3 * STEP + 5]


def stored(folder, count):
    """Captions of different lengths, and the files of them as a split has them."""
    rng = np.random.default_rng(count)
    texts = [" ".join(["é" * (i % 3 + 1), *map(str, range(i % 5))]) for i in range(count)]
    lengths = np.array([len(text.split()) for text in texts], np.int32)
    words = rng.integers(0, 99, lengths.sum()).astype(np.int32)
    (folder / "text.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return texts, words, lengths, MappedCaptions(folder / "text.txt", words, lengths)


@pytest.mark.parametrize("count", COUNTS)
def test_captions_in_any_order(count, tmp_path):
    texts, words, lengths, captions = stored(tmp_path, count)
    assert captions.lines == len(captions) == count
    assert list(captions) == texts == captions[:] and captions[count - 1] == texts[-1]
    first = np.cumsum(lengths) - lengths
    for numbers in (np.arange(count), np.random.default_rng(0).integers(0, count, 50), np.arange(0)):
        assert captions.texts(numbers) == [texts[i] for i in numbers]
        ids, got = captions.ids(numbers)
        assert ids.dtype == got.dtype == np.int64 and got.tolist() == lengths[numbers].tolist()
        for row, i in zip(ids, numbers):
            assert row[: lengths[i]].tolist() == words[first[i] : first[i] + lengths[i]].tolist()
            assert not row[lengths[i] :].any()
    with pytest.raises(IndexError, match=f"caption must be in 0…{count - 1}, got {count}"):
        captions[count]


def test_lines_over_the_blocks_that_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("aligndraw.data.mapped._BLOCK", 7)
    texts, *_, captions = stored(tmp_path, 2 * STEP + 3)
    assert list(captions) == texts


def test_bytes_that_are_no_text(tmp_path):
    *_, captions = stored(tmp_path, 3)
    content = bytearray((tmp_path / "text.txt").read_bytes())
    content[0] = 0xFF
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(FileError, match=r"text.txt is damaged: .*utf-8"):
        captions[0]


def test_few_of_very_many_rows():
    """Up to 50 times the size the rows are those of earlier versions: a training resumes with the same examples."""
    old = np.random.default_rng([3, 4]).permutation(500)[:10]
    assert drawn_rows(np.random.default_rng([3, 4]), 500, 10).tolist() == old.tolist()
    rows = drawn_rows(np.random.default_rng(0), 10**12, 1000)  # a permutation of them would take 8 TB
    assert len(set(rows.tolist())) == 1000 and rows.min() >= 0 and rows.max() < 10**12
    assert abs(rows.mean() / 10**12 - 0.5) < 0.05
    assert rows.tolist() == drawn_rows(np.random.default_rng(0), 10**12, 1000).tolist()


def test_examples_by_position(tmp_path):
    with CaptionedWriter(tmp_path / "data", (1, 1, 1), {}) as writer:
        writer.store("train", list("abc"), np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1))
        data = writer.finish({"train": [(key, f"letter {key}") for key in "abc"]})
    train = data.split("train")
    for examples in (train, train.select(np.array([2, 0, 1, 0]))):
        for index in (slice(None), slice(1, None), np.array([-1, 0]), np.array([1, 1])):
            pictures, _, lengths = examples.batch(index)
            texts = examples.captions(index)
            assert texts == [f"letter {'abc'[i]}" for i in pictures.reshape(-1)] and len(lengths) == len(texts)
        for read in (examples.batch, examples.captions, examples.texts):
            with pytest.raises(IndexError):
                read(np.array([len(examples)]))
