"""Images with classes: scenes by their objects, and CIFAR-10's two kinds of files."""

import io
import os
import pickle

import numpy as np
import pytest

from aligndraw.data import DataError, Scenes
from aligndraw.data.labelled import LabelledImages, LabelledScenes, read_cifar
from aligndraw.data.pickles import load_pickle
from aligndraw.data.scene import ATTRIBUTES

NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@pytest.fixture
def batches():
    """Six batches: five to train on, one to test on."""
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 256, (n, 3072)).astype(np.uint8), rng.integers(0, 10, n)) for n in (4, 3, 1, 2, 1, 5)]


def write_pickles(folder, batches, protocol=2):
    folder.mkdir(exist_ok=True)
    for name, (pixels, labels) in zip(NAMES, batches):
        batch = {"batch_label": name, "data": pixels, "labels": labels.tolist(), "filenames": ["x.png"] * len(labels)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    return folder


def write_binary(folder, batches):
    folder.mkdir(exist_ok=True)
    for name, (pixels, labels) in zip(NAMES, batches):
        np.column_stack([labels.astype(np.uint8), pixels]).tofile(folder / f"{name}.bin")
    return folder


def test_cifar(batches, tmp_path):
    """Both kinds of files hold the same."""
    train, test = read_cifar(write_pickles(tmp_path / "py", batches))
    other, _ = read_cifar(write_binary(tmp_path / "bin", batches))
    assert train.images.shape == (11, 3, 32, 32) and len(test.labels) == 5 and len(train.classes) == 10
    assert np.array_equal(train.images.reshape(11, -1), np.concatenate([b[0] for b in batches[:5]]))
    assert train.labels.tolist() == [label for _, labels in batches[:5] for label in labels]
    assert np.array_equal(train.images, other.images) and train.checksum == other.checksum != test.checksum


def test_a_pickle_of_python_2(batches, tmp_path):
    """As the distributed files are: words and pixels as Python 2's strings."""
    content = pickle.dumps({"data": batches[0][0], "labels": [3, 1, 4, 1]}, 2)
    # Python 3 writes bytes as text for _codecs.encode; Python 2 wrote them as they are.
    raw = batches[0][0].tobytes()
    file = io.BytesIO()
    file.write(b"\x80\x02}(U\x06labels](K\x03K\x01K\x04K\x01eU\x04data")
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x04M\x00\x0c\x86")
    file.write(b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T")
    file.write(len(raw).to_bytes(4, "little") + raw + b"tbu.")
    for name, made in (("old", file.getvalue()), ("new", content)):
        (tmp_path / name).write_bytes(made)
        batch = load_pickle(tmp_path / name, arrays=True)
        assert batch["labels"] == [3, 1, 4, 1] and np.array_equal(np.asarray(batch["data"]), batches[0][0])
        with pytest.raises(DataError, match="_reconstruct, which is refused"):
            load_pickle(tmp_path / name)


def test_a_pickle_that_counts_further_than_it_is_long(tmp_path):
    """A table as long as the number would be made."""
    (tmp_path / "x").write_bytes(b"\x80\x02]r" + (1000).to_bytes(4, "little") + b".")
    with pytest.raises(DataError, match="x must be a pickle of plain values: it numbers a value 1,000, of at most 9"):
        load_pickle(tmp_path / "x")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-50]), "test_batch must be a pickle of plain values"),
        (lambda p: p.write_bytes(pickle.dumps([1])), "test_batch must hold data and labels"),
        (lambda p: p.write_bytes(pickle.dumps({"data": Evil(), "labels": []})), "mkdir, which is refused"),
        (
            lambda p: p.write_bytes(pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, 2)),
            r"pixels uint8 \[n, 3072\] and classes \[n\], got float64 \[2, 3072\] and int64 \[2\]",
        ),
        (
            lambda p: p.write_bytes(pickle.dumps({"data": np.array([Evil()]), "labels": [0]}, 2)),
            "test_batch must be a pickle of plain values",
        ),
        (
            lambda p: p.write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, 2)),
            "classes from 0 to 9, got 10 to 10",
        ),
    ],
)
def test_damaged_pickles(batches, tmp_path, monkeypatch, damage, message):
    folder = write_pickles(tmp_path / "py", batches)
    monkeypatch.chdir(tmp_path)
    damage(folder / "test_batch")
    with pytest.raises(DataError, match=message):
        read_cifar(folder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("missing", ["data_batch_3", "data_batch_5", "test_batch"])
@pytest.mark.parametrize("write", [write_pickles, write_binary])
def test_a_batch_that_is_not_there(batches, tmp_path, missing, write):
    """A network was trained on the others."""
    folder = write(tmp_path / "cifar", batches)
    name = f"{missing}{'.bin' * (write is write_binary)}"
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"must hold CIFAR-10's files .*, got no {name}$"):
        read_cifar(folder)


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: path.mkdir()])
def test_leftovers_beside_good_batches(batches, tmp_path, make):
    """They hid the good ones."""
    folder = write_pickles(tmp_path / "py", batches)
    for name in NAMES[2:]:
        make(folder / f"{name}.bin")
    assert len(read_cifar(folder)[0].labels) == 11


def test_damaged_binary_files(batches, tmp_path):
    folder = write_binary(tmp_path / "bin", batches)
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="data_batch_2.bin must have 3,073 bytes an image, got 9,218 bytes"):
        read_cifar(folder)
    with pytest.raises(DataError, match="must hold CIFAR-10's files data_batch_1 .*, got no data_batch_1, "):
        read_cifar(tmp_path)


def test_epochs():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None]
    data = LabelledImages(images, np.arange(5), "abcde", "")
    pictures, labels = data.epoch(1, 2, 7)
    assert np.array_equal(pictures[:, 0, 0, 0], labels) and sorted(labels[:5]) == list(range(5))
    assert np.array_equal(data.epoch(1, 2, 7)[1], labels)
    assert any(not np.array_equal(data.epoch(1, epoch, 7)[1], labels) for epoch in (3, 4))


def test_scenes():
    """Seen and held-out combinations, mixed, with the object of each."""
    images, labels = LabelledScenes().epoch(0, 1, 8)
    assert images.shape == (8, 3, 32, 32) and len(LabelledScenes.classes) == len(ATTRIBUTES["object"])
    made = {}
    for combinations, size in (("seen", 6), ("held_out", 2)):
        part = Scenes("train", combinations).epoch(0, 1, size)
        for scene, picture in zip(part.scenes(), part.pictures(slice(None))):
            made[picture.tobytes()] = scene.object
    assert [made[image.tobytes()] for image in images] == [LabelledScenes.classes[i] for i in labels]
    assert np.array_equal(images, LabelledScenes().epoch(0, 1, 8)[0])
