"""Files: whole or not at all, with nothing left beside them; arrays, of which damaged ones are named in one line."""

import errno
import hashlib
import io
import os
import signal
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from file_faults import FileFaults, Killed, tree

from aligndraw.files import (
    atomic_update,
    atomic_write,
    discard,
    load_archive,
    load_array,
    load_tensors,
    locked,
    read_text,
    reading,
    save_tensors,
    scratch,
    sweep,
    write_array,
)

posix = pytest.mark.skipif(os.name != "posix", reason="there is no fork")
patched = pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")

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
    checksum = write_array(tmp_path / "a.npy", ARRAY.shape, np.float32, blocks)
    np.save(tmp_path / "whole.npy", ARRAY)
    content = (tmp_path / "a.npy").read_bytes()
    assert content == (tmp_path / "whole.npy").read_bytes()
    assert checksum == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("array", [ARRAY.transpose(2, 0, 1), ARRAY[:0], np.array([True, False]), np.int64([1, 2])])
def test_one_array(tmp_path, array):
    write_array(tmp_path / "a.npy", array.shape, array.dtype, [array])
    loaded = load_array(tmp_path / "a.npy")
    assert loaded.dtype == array.dtype and np.array_equal(loaded, array)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk():
    """/dev/full is always: an error, where a mapped file would end the process."""
    with pytest.raises(OSError, match="No space left"):
        write_array(Path("/dev/full"), ARRAY.shape, np.float32, [ARRAY])


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="Python objects cannot be written without pickle"):
        write_array(tmp_path / "a.npy", (1,), object, [np.array([{}])])
    assert not list(tmp_path.iterdir())


@posix
def test_a_disk_that_is_full_near_the_end(tmp_path):
    """`np.save` loses what its last buffer holds without a word."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_array(tmp_path / "a.npy", ARRAY.shape, ARRAY.dtype, [ARRAY])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def write_file(path, text):
    with atomic_write(path) as new:
        new.write_text(text)


def write_folder(path, text):
    with atomic_write(path) as new:
        (new / "deep").mkdir(parents=True)
        (new / "deep" / "a").write_text(text)
        (new / "b").write_text(text)


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_replacing(tmp_path, write):
    """Also what is there already; and an error leaves that as it was."""
    for text in ("one", "two"):
        write(tmp_path / "x", text)
        (tmp_path / text).mkdir()
        write(tmp_path / text / "x", text)
        got = {k.removeprefix(f"{text}/"): v for k, v in tree(tmp_path).items() if k.startswith(f"{text}/")}
        assert {k: v for k, v in tree(tmp_path).items() if k.startswith("x")} == got
    before = tree(tmp_path)
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "x") as new:
        write(new, "three")
        raise ZeroDivisionError
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["rename", "replace"])
def test_interrupted_just_after_a_folder_was_moved(tmp_path, monkeypatch, name):
    """The old one out of the way, or the new one into place: one of them is there, whole."""
    write_folder(tmp_path / "x", "old")
    move, moved = getattr(Path, name), []

    def interrupted(path, target):
        move(path, target)
        moved.append(target)
        if len(moved) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, name, interrupted)
        write_folder(tmp_path / "x", "new")
    text = {"rename": b"old", "replace": b"new"}[name]
    assert tree(tmp_path) == {"x": None, "x/b": text, "x/deep": None, "x/deep/a": text}


@patched
@pytest.mark.parametrize("how", ["killed_at", "full_from"])
def test_several_files_are_replaced_together(tmp_path, monkeypatch, how):
    """Stopped at every operation: after a sweep all are old or all are new, and other files are as they were."""
    faults = FileFaults(monkeypatch)
    old, new = {"a": b"old", "b": b"old", "other": b"mine"}, {"b": b"new", "c": b"new", "other": b"mine"}

    def reset():
        sweep(tmp_path)
        for path in tmp_path.iterdir():
            path.unlink()
        for name, text in old.items():
            (tmp_path / name).write_bytes(text)

    def update():
        with atomic_update(tmp_path, "abcd") as folder:
            for name in "bc":
                (folder / name).write_bytes(b"new")

    reset()
    with faults.counted():
        update()
    assert tree(tmp_path) == new
    seen = []
    for k in range(len(faults.operations)):
        reset()
        stopped = True
        with getattr(faults, how)(k), suppress(Killed, OSError):
            update()
            stopped = False
        sweep(tmp_path)
        seen.append(tree(tmp_path))
        assert seen[-1] in (old, new), faults.operations[k]
        assert stopped or seen[-1] == new, faults.operations[k]
    assert old in seen and new in seen


def test_a_file_does_not_replace_a_folder(tmp_path):
    write_folder(tmp_path / "x", "one")
    before = tree(tmp_path)
    with pytest.raises(OSError):
        write_file(tmp_path / "x", "two")
    assert tree(tmp_path) == before


@patched
@pytest.mark.parametrize("how", ["killed_at", "full_from"])
@pytest.mark.parametrize("write", [write_file, write_folder, lambda path, _: discard(path)])
def test_stopped_at_every_operation(tmp_path, monkeypatch, write, how):
    """After a sweep there is the old or the new one, whole, and nothing else."""
    faults = FileFaults(monkeypatch)
    first = write_file if write is write_file else write_folder
    path = tmp_path / "x"
    first(path, "old")
    old = tree(tmp_path)
    with faults.counted():
        write(path, "new")
    new, seen = tree(tmp_path), []
    for k in range(len(faults.operations)):
        sweep(tmp_path)
        if path.exists():
            discard(path) if path.is_dir() else path.unlink()
        first(path, "old")
        with getattr(faults, how)(k), suppress(Killed, OSError):
            write(path, "new")
        sweep(tmp_path)
        assert tree(tmp_path) in (old, new), faults.operations[k]
        seen.append(tree(tmp_path) == old)
    assert seen == sorted(seen, reverse=True) and seen[0]


@posix
def test_the_scratch_of_a_live_process_stays(tmp_path):
    """Until that process is killed: then the next write into the folder removes it."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        with scratch(tmp_path) as place:
            (place / "half").write_text("a lot")
            os.write(into, b"x")
            time.sleep(600)
    os.read(out, 1)
    write_file(tmp_path / "x", "x")
    sweep(tmp_path)
    assert len(list(tmp_path.glob(".aligndraw-*/half"))) == 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    write_file(tmp_path / "x", "y")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_sweeping_keeps_everything_else(tmp_path):
    (tmp_path / ".aligndraw-mine").write_text("a file")
    (tmp_path / ".other-123").mkdir()
    with locked(tmp_path / "lock"):
        sweep(tmp_path)
    assert set(tree(tmp_path)) == {".aligndraw-mine", ".other-123", "lock"}
    sweep(tmp_path / "nowhere")


def test_locks(tmp_path):
    with locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock"):
            pass
        (tmp_path / "lock").unlink()
        with locked(tmp_path / "lock"):  # another file
            pass
    with locked(tmp_path / "lock"):
        pass


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


@posix
def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Everything is written there, and nothing is swept."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with scratch(tmp_path) as place:
        sweep(tmp_path)
        assert place.is_dir()
    write_file(tmp_path / "x", "one")
    assert set(tree(tmp_path)) == {"x"}


@posix
def test_tensors_in_a_folder_whose_name_is_not_utf_8(tmp_path):
    """The library of safetensors opens no such path."""
    place = tmp_path / os.fsdecode(b"n\xff")
    place.mkdir()
    save_tensors(place / "w", {"a": torch.arange(6.0)}, {"kind": "é"})
    tensors, metadata = load_tensors(place / "w")
    assert list(tensors) == ["a"] and tensors["a"].equal(torch.arange(6.0)) and metadata == {"kind": "é"}


def test_a_folder_in_the_place_of_a_file(tmp_path):
    """The file of a checkpoint's name ended the training after its updates."""
    (tmp_path / "a").write_text("old")
    with atomic_write(tmp_path / "a") as new:
        new.mkdir()
        (new / "b").write_text("new")
    assert (tmp_path / "a" / "b").read_text() == "new" and os.listdir(tmp_path) == ["a"]


def test_a_file_is_discarded_too(tmp_path):
    (tmp_path / "a").write_text("old")
    discard(tmp_path / "a")
    assert not os.listdir(tmp_path)


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    """Whatever their metadata: the library wrote them in a random order."""
    metadata = {name: name for name in "abcdefgh"}
    for name in ("one", "two", "three"):
        save_tensors(tmp_path / name, {"x": torch.arange(3), "y": torch.ones(1, dtype=torch.uint8)}, metadata)
    assert len({(tmp_path / name).read_bytes() for name in ("one", "two", "three")}) == 1
    tensors, found = load_tensors(tmp_path / "one")
    assert found == metadata and tensors["x"].tolist() == [0, 1, 2] and tensors["y"].tolist() == [1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("load", [load_array, lambda path: load_archive(path, "x")])
def test_arrays_are_read_from_files_alone(tmp_path, load):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("a picture of a cat")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    objects = "objects.npy" if load is load_array else "objects.npz"
    for name, why in (
        ("pipe", "it is a pipe or a device, not a file"),
        ("text", "it is no .npy or .npz file"),
        (objects, "it holds Python objects, which are not read"),
    ):
        with pytest.raises(ValueError, match=f"^{why}$"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
