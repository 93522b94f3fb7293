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
        (lambda f: cut(f / "train-images-idx3-ubyte"), "should hold 4,704 bytes of data, got 4,703"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b""), "is no IDX file of bytes"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x0d\3" + b"\0" * 12), "is no IDX file of bytes"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(DIGITS.labels[:5])), "labels must be uint8 [6]"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"\x1f\x8bzz"), "train-labels-idx1-ubyte is damaged: "),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\3\0"), "train-images-idx3-ubyte is cut off"),
        (
            lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\xff" + b"\xff" * 1020),
            "train-images-idx3-ubyte has 255 dimensions: images have 3, labels 1",
        ),
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


def test_a_packed_file_that_takes_far_more_than_it_has(tmp_path, monkeypatch):
    """Zeros are packed a thousand to one; the header is read before the rest."""
    monkeypatch.setattr("aligndraw.files.FREE_BYTES", 4096)
    write_idx(tmp_path, "train", 0, 6, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((1000, 28, 28), np.uint8))))
    assert path.stat().st_size < 3000
    with pytest.raises(ValueError, match="idx3-ubyte.gz would take 784,000 bytes, more than 100 times the file"):
        load_digits(tmp_path)
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)))
    with pytest.raises(ValueError, match="idx3-ubyte.gz would take [0-9,]{35,} bytes, more than 100 times the file"):
        load_digits(tmp_path)


@pytest.mark.parametrize("content", [DIGITS.images[:6].tobytes()[:-1], DIGITS.images[:6].tobytes() + b"more"])
def test_a_packed_file_of_another_length(tmp_path, content):
    write_idx(tmp_path, "train", 0, 6, packed=True)
    head = struct.pack(">HBB3I", 0, 8, 3, 6, 28, 28)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + content))
    with pytest.raises(ValueError, match="idx3-ubyte.gz should hold 4,704 bytes of data, got (4,703|more)"):
        load_digits(tmp_path)


def test_a_packed_file_that_is_damaged(tmp_path):
    """Cut off, or other bytes than were packed."""
    write_idx(tmp_path, "train", 0, 6, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    for damaged in (content[:-4], content[:-8] + bytes(4) + content[-4:], content[:30]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="IDX files: train-images-idx3-ubyte.gz is damaged: ."):
            load_digits(tmp_path)


@pytest.mark.parametrize("leftover", ["a folder", "empty", "cut off"])
@pytest.mark.parametrize("packed", [False, True])
def test_leftovers_beside_good_files(tmp_path, leftover, packed):
    """They hid the good ones."""
    write_idx(tmp_path, "train", 0, 6, packed=packed)
    for kind in ("images-idx3", "labels-idx1"):
        good = tmp_path / f"train-{kind}-ubyte{'.gz' * packed}"
        other = tmp_path / f"train-{kind}-ubyte{'' if packed else '.gz'}"
        if leftover == "a folder":
            other.mkdir()
        else:
            other.write_bytes(good.read_bytes()[:30] if leftover == "cut off" else b"")
    (tmp_path / "t10k-images-idx3-ubyte").mkdir()
    assert (load_digits(tmp_path).images == DIGITS.images[:6]).all()


def test_only_leftovers(tmp_path):
    write_idx(tmp_path, "train", 0, 6)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="train-images-idx3-ubyte is no IDX file of bytes$"):
        load_digits(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="it has no train-images-idx3-ubyte or train-images-idx3-ubyte.gz$"):
        load_digits(tmp_path)


def h5_file(path, **changes):
    h5py = pytest.importorskip("h5py")
    data = {"train": DIGITS.images[:5].reshape(-1, 784), "train_labels": DIGITS.labels[:5]}
    data |= {"validation": DIGITS.images[5:8].reshape(-1, 784), "validation_labels": DIGITS.labels[5:8]}
    with h5py.File(path, "w") as file:
        for name, array in (data | changes).items():
            if callable(array):
                array(file, name)
            else:
                file[name] = array
    return path


def hollow(file, name):
    """Rows of which none is there."""
    file.create_dataset(name, (50_000, 784), "u1", chunks=(50, 784))


def in_large_pieces(file, name):
    """Of which one is larger than the whole."""
    pixels, shape = DIGITS.images[:5].reshape(-1, 784), (None, 784)
    file.create_dataset(name, data=pixels, maxshape=shape, chunks=(50_000, 784), compression="gzip")


def elsewhere(file, name):
    import h5py

    other = h5_file(file.filename.replace("mnist", "other"))
    file[name] = h5py.ExternalLink(other, name)


def virtual(file, name):
    import h5py

    layout = h5py.VirtualLayout((5, 784), "u1")
    layout[:] = h5py.VirtualSource(h5_file(file.filename.replace("mnist", "other")), "train", (5, 784))
    file.create_virtual_dataset(name, layout)


def raw(file, name):
    np.zeros((5, 784), np.uint8).tofile(f"{file.filename}.raw")
    file.create_dataset(name, (5, 784), "u1", external=[(f"{file.filename}.raw", 0, 5 * 784)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": hollow}, "train would take 39,200,000 bytes, more than 100 times the file"),
        ({"train": np.zeros((5, 700), np.uint8)}, r"train must be \[n, 784\] or \[n, 28, 28\], got \[5, 700\]"),
        ({"train": lambda f, n: f.create_group(n)}, "it has no data set 'train'"),
        ({"train": in_large_pieces}, "train would take 39,200,000 bytes, more than 100 times the file"),
        ({"train": elsewhere}, "train must lie in the file itself"),
        ({"train": virtual}, "train must lie in the file itself"),
        ({"train": raw}, "train must lie in the file itself"),
        ({"train": np.array([["a"] * 784] * 5, "S1")}, "train must be bytes, or lie in .0, 1., got |S1"),
        ({"train": np.full((5, 784), np.nan)}, "train must be bytes, or lie in .0, 1., got nan to nan"),
        ({"train_labels": np.array([1, 2, 256 + 3, 4, 5])}, "train_labels must be whole numbers in 0…9, got 1 to 259"),
        ({"train_labels": np.array([1, 2, 3.5, 4, 5])}, "train_labels must be whole numbers in 0…9"),
        ({"train_labels": np.array([-1, 2, 3, 4, 5])}, "train_labels must be whole numbers in 0…9, got -1 to 5"),
        ({"train_labels": np.arange(4)}, "train_labels must be .5., got .4."),
    ],
)
def test_h5_files_of_no_use(tmp_path, monkeypatch, changes, message):
    """Some took more memory than they have, read other files, or wrapped labels around."""
    monkeypatch.setattr("aligndraw.files.FREE_BYTES", 4096)
    with pytest.raises(ValueError, match=message):
        load_digits(h5_file(tmp_path / "mnist.h5", **changes))


def test_a_foreign_h5_file(tmp_path):
    (tmp_path / "other.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="digits file .*other.h5 must be the authors' mnist.h5: ."):
        load_digits(tmp_path / "other.h5")
