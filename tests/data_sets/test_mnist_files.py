"""Full MNIST in its two common forms, made small here; and files that only look like it."""

import gzip
import struct

import numpy as np
import pytest

from aligndraw.data import load_digits

DIGITS = load_digits()


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, part, first, last, separator="-", packed=False):
    for kind, array in (("images{}idx3-ubyte", DIGITS.images), ("labels{}idx1-ubyte", DIGITS.labels)):
        content = idx(array[first:last])
        path = folder / f"{part}-{kind.format(separator)}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx_files(tmp_path, packed, separator):
    """Both spellings of the names in circulation; the test set comes last."""
    write_idx(tmp_path, "train", 0, 6, separator, packed)
    assert len(load_digits(tmp_path)) == 6
    write_idx(tmp_path, "t10k", 6, 9, separator, packed)
    digits = load_digits(tmp_path)
    assert (digits.images == DIGITS.images[:9]).all() and (digits.labels == DIGITS.labels[:9]).all()


@pytest.mark.parametrize("scale", ["bytes", "floats"])
def test_the_authors_file(tmp_path, scale):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mnist.h5", "w") as file:
        for part, rows in (("train", slice(0, 5)), ("validation", slice(5, 8))):
            pixels = DIGITS.images[rows].reshape(-1, 784)
            file[part] = pixels if scale == "bytes" else pixels.astype(np.float32) / 255
            file[f"{part}_labels"] = DIGITS.labels[rows].astype(np.int64)
    digits = load_digits(tmp_path / "mnist.h5")
    assert (digits.images == DIGITS.images[:8]).all() and (digits.labels == DIGITS.labels[:8]).all()


def cut(path, count=1):
    path.write_bytes(path.read_bytes()[:-count])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), "it has no train-labels-idx1-ubyte or"),
        (lambda f: cut(f / "train-images-idx3-ubyte"), "should hold 4704 bytes of data, got 4703"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b""), "is no IDX file of bytes"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x0d\3" + b"\0" * 12), "is no IDX file of bytes"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(DIGITS.labels[:5])), "labels must be uint8 [6]"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"\x1f\x8bzz"), ""),
    ],
)
def test_damaged_idx_files(tmp_path, damage, reason):
    write_idx(tmp_path, "train", 0, 6)
    damage(tmp_path)
    with pytest.raises(ValueError) as error:
        load_digits(tmp_path)
    message = str(error.value)
    assert message.startswith(f"digits folder {tmp_path} must hold MNIST's IDX files: ") and reason in message
    assert "\n" not in message


def test_a_foreign_h5_file(tmp_path):
    (tmp_path / "other.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="digits file .*other.h5 must be the authors' mnist.h5: ."):
        load_digits(tmp_path / "other.h5")
