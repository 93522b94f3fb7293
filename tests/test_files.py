"""Files of arrays: damaged ones are named in one line, and they are written in blocks."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aligndraw.files import load_archive, load_array, read_module, read_text, reading, write_array, write_module

ARRAY = np.arange(60, dtype=np.float32).reshape(10, 3, 2)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    np.savez(tmp_path / "a.npz", a=ARRAY, b=ARRAY + 1)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", ["empty", "cut-a.npy", "cut-a.npz", "a.npz", "objects.npy"])
def test_damaged_arrays(files, name, mapped):
    with pytest.raises(ValueError, match=rf"{name} is no array: .") as caught, reading(files / name, "no array"):
        load_array(files / name, mapped)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty", "cut-a.npz", "a.npy", "objects.npy"])
def test_damaged_archives(files, name):
    with pytest.raises(ValueError, match=rf"{name} is no archive: ."), reading(files / name, "no archive"):
        load_archive(files / name, "a")


def test_good_ones(files):
    for mapped in (False, True):
        np.testing.assert_array_equal(load_array(files / "a.npy", mapped), ARRAY)
    b, a = load_archive(files / "a.npz", "b", "a")
    assert (a == ARRAY).all() and (b == ARRAY + 1).all()
    with pytest.raises(ValueError, match="it has no c and no d"):
        load_archive(files / "a.npz", "c", "a", "d")
    with pytest.raises(FileNotFoundError), reading("none", "no array"):
        load_array("none")


def test_blocks(tmp_path):
    blocks = [ARRAY[:4].astype(np.float64), ARRAY[4:5], ARRAY[::-1][:5][::-1]]
    write_array(tmp_path / "a.npy", ARRAY.shape, np.float32, blocks)
    np.save(tmp_path / "whole.npy", ARRAY)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk():
    """/dev/full is always: an error, where a mapped file would end the process."""
    with pytest.raises(OSError, match="No space left"):
        write_array(Path("/dev/full"), ARRAY.shape, np.float32, [ARRAY])


@pytest.fixture
def few_bytes(monkeypatch):
    """A low limit, so that files which take more than they should are small."""
    monkeypatch.setattr("aligndraw.files.FREE_BYTES", 4096)


def test_an_archive_that_takes_far_more_than_it_has(tmp_path, few_bytes):
    """Zeros are packed a thousand to one."""
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((1000, 1000), np.uint8), b=ARRAY)
    assert (tmp_path / "a.npz").stat().st_size < 4000
    message = r"a.npz is no archive: it would take 1,000,496 bytes, more than 100 times the file: unpack it first$"
    with pytest.raises(ValueError, match=message), reading(tmp_path / "a.npz", "no archive"):
        load_archive(tmp_path / "a.npz", "b", "a")
    assert (load_archive(tmp_path / "a.npz", "b")[0] == ARRAY).all()
    np.savez(tmp_path / "b.npz", a=np.zeros((1000, 1000), np.uint8))
    assert not load_archive(tmp_path / "b.npz", "a")[0].any()


def test_what_several_arrays_take_together(tmp_path, few_bytes):
    np.savez_compressed(tmp_path / "a.npz", **{name: np.zeros(50_000, np.uint8) for name in "abcdefghijklmnop"})
    names = list("abcdefghijklmnop")
    assert len(load_archive(tmp_path / "a.npz", *names[:4])) == 4
    with pytest.raises(ValueError, match="more than 100 times the file"):
        load_archive(tmp_path / "a.npz", *names)


def test_a_header_that_promises_more_than_is_there(tmp_path):
    """Nothing of its size is made; the disk says how much there is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(100))
    for mapped in (False, True):
        with pytest.raises(ValueError, match="a.npy is no array: ."), reading(tmp_path / "a.npy", "no array"):
            load_array(tmp_path / "a.npy", mapped)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(100))
    with pytest.raises(ValueError, match="a.npz is no archive: ."), reading(tmp_path / "a.npz", "no archive"):
        load_archive(tmp_path / "a.npz", "a")


def test_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\nzwölf\n".encode())
    assert read_text(tmp_path / "a.txt") == "one\nzwölf\n"
    (tmp_path / "a.txt").write_bytes("one\nzwölf\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.txt, line 2: it must be UTF-8 text: save it as such$"):
        read_text(tmp_path / "a.txt")


def test_a_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"nothing of the kind")
    with pytest.raises(ValueError, match="is no archive: a is no array"), reading(tmp_path / "a.npz", "no archive"):
        load_archive(tmp_path / "a.npz", "a")


def test_modules_are_made_once_their_weights_are_known_to_fit(tmp_path):
    """A record is a few bytes, whatever the sizes that it tells."""
    devices = []

    def build(record):
        module = nn.Linear(record["inputs"], 2)
        devices.append(module.weight.device.type)
        record["inputs"] = str(record["inputs"])
        return module

    def load():
        return read_module(tmp_path, ("w.safetensors", "r.json"), "module", "test 1", build)

    linear = nn.Linear(3, 2)
    write_module(linear, tmp_path, ("w.safetensors", "r.json"), {"format": "test 1", "inputs": 3})
    module, record = load()
    assert devices == ["meta", "cpu"] and record["inputs"] == "3"
    assert torch.equal(module.weight, linear.weight) and torch.equal(module.bias, linear.bias)
    (tmp_path / "r.json").write_text(json.dumps({"format": "test 1", "inputs": 1000}))
    with pytest.raises(ValueError, match="w.safetensors does not fit r.json beside it: look at weight"):
        load()
    assert devices == ["meta", "cpu", "meta"]
