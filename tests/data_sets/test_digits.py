"""The shipped digits, and files that are not digits."""

import os
import re

import numpy as np
import pytest

from aligndraw.data import Digits, load_digits


def write(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def images(n):
    return np.zeros((n, 28, 28), np.uint8)


def labels(n):
    return np.zeros(n, np.uint8)


def test_shipped_digits():
    digits = load_digits()
    assert len(digits) == 10_000
    assert digits.images.shape == (10_000, 28, 28) and digits.images.dtype == np.uint8
    # Counts of the digits 0…9 in the source (NOTICE).
    counts = [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert np.bincount(digits.labels).tolist() == counts
    # No digit is there twice, so that no picture of one split is in another.
    assert len(np.unique(digits.images.reshape(10_000, -1), axis=0)) == 10_000


def test_own_file(tmp_path):
    chosen = load_digits().images[:5]
    path = write(tmp_path / "own.npz", images=chosen, labels=np.arange(5, dtype=np.uint8))
    digits = load_digits(path)
    assert (digits.images == chosen).all() and digits.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(load_digits(str(path))) == 5


def test_missing_file(tmp_path):
    path = tmp_path / "none.npz"
    with pytest.raises(FileNotFoundError, match=f"^digits file {re.escape(str(path))} does not"):
        load_digits(path)


def assert_refused(path, reason):
    with pytest.raises(ValueError) as error:
        load_digits(path)
    message = str(error.value)
    expected = f"digits file {path} must be an .npz archive with images uint8 [n, 28, 28] and labels uint8 [n]: "
    assert message.startswith(expected) and len(message) > len(expected)
    assert reason in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, part):
    whole = write(tmp_path / "whole.npz", images=load_digits().images[:50], labels=labels(50))
    data = whole.read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(data[: int(part * len(data))])
    assert_refused(path, "")


def test_damaged_file(tmp_path):
    path = write(tmp_path / "damaged.npz", images=load_digits().images[:50], labels=labels(50))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert_refused(path, "")


def test_foreign_files(tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("the digit 7 is at the top of the digit 1 .\n" * 10)
    assert_refused(text, "it is no .npy or .npz file")
    single = tmp_path / "single.npy"
    np.save(single, images(3))
    assert_refused(single, "it is a single array")


def test_pickled_objects_are_never_loaded(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    assert_refused(
        write(tmp_path / "o.npz", images=objects, labels=labels(1)), "it holds Python objects, which are not read"
    )


def test_a_reason_of_several_lines_is_cut_to_the_first(tmp_path):
    """NumPy explains in three lines why it does not read a very long header."""
    many = np.zeros(1, [(f"field{i}", np.uint8) for i in range(1000)])
    assert_refused(write(tmp_path / "header.npz", images=many, labels=labels(1)), "Header info")


@pytest.mark.parametrize(
    "arrays, reason",
    [
        ({"x": images(3)}, "it has no images and no labels"),
        ({"images": images(3)}, "it has no labels"),
        ({"images": images(3).reshape(3, -1), "labels": labels(3)}, "got uint8 [3, 784]"),
        ({"images": images(3) / 255, "labels": labels(3)}, "got float64 [3, 28, 28]"),
        ({"images": images(3), "labels": labels(4)}, "labels must be uint8 [3], got uint8 [4]"),
        ({"images": images(3), "labels": np.arange(3)}, "labels must be uint8 [3], got int64 [3]"),
        ({"images": images(3), "labels": labels(3) + 10}, "labels must be in 0…9, got 10"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, reason):
    assert_refused(write(tmp_path / "wrong.npz", **arrays), reason)


def test_digits_must_be_contiguous():
    with pytest.raises(ValueError, match="images must be C-contiguous uint8"):
        Digits(images(4)[::2], labels(2))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["pipe.npz", "pipe.h5"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    """Nobody writes into it, and reading it had no end."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"digits file .*{name} must be .*: it is a pipe or a device, not a file$"):
        load_digits(tmp_path / name)
