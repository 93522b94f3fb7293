"""Files of arrays: damaged ones are named in one line, and they are written in blocks."""

from pathlib import Path

import numpy as np
import pytest

from aligndraw.files import load_archive, load_array, reading, write_array

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
