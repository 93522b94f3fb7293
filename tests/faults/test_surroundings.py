"""What happens around a program: folders that move or cannot be written, clocks that jump, other processes."""

import os
import shutil
import sys
import time

import pytest
from file_faults import FileFaults, Killed, tree
from writers import WRITERS

from aligndraw.cli import main
from aligndraw.files import locked

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")
TRAINING = "train skipthoughts"  # the fastest
SOME = ("train skipthoughts", "train sharpener", "data folder", "sample archive")
every_writer = pytest.mark.parametrize("name", [
    name if name in SOME else pytest.param(name, marks=pytest.mark.faults) for name in WRITERS
])  # fmt: skip


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def run(capsys):
    def command(arguments):
        capsys.readouterr()
        status = main([str(a) if str(a) != "CAPTION" else "a red bus stands on grass" for a in arguments])
        return status, capsys.readouterr().err

    return command


@every_writer
def test_a_folder_that_is_read_only(name, inputs, place, monkeypatch, run, ledger):
    """One line, and nothing is made. The folder of the inputs is read-only too."""
    faults = FileFaults(monkeypatch)
    for _ in ledger.each(name, "read-only", 1):
        with faults.read_only():
            status, err = run(WRITERS[name].begin(inputs, place))
        assert status == 1 and err.count("\n") == 1 and "Read-only file system" in err, err
        assert str(place) in err and tree(place) == {}


@every_writer
def test_a_clock_that_jumps(name, inputs, place, monkeypatch, run, ledger):
    """Back by a day, and ahead, from one call to the next, also in the times of files: the same bytes."""
    assert run(WRITERS[name].begin(inputs, place)) == (0, "")
    expected = tree(place)
    shutil.rmtree(place)
    place.mkdir()
    calls, now, stamp, replace = [0], time.time, time.time_ns, os.replace

    def jump():
        calls[0] += 1
        return (-1) ** calls[0] * 86400

    def stamped(source, target):
        replace(source, target)
        os.utime(target, (now() + jump(),) * 2)

    for _ in ledger.each(name, "clock jumps", 1):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now() + jump())
            patch.setattr(time, "time_ns", lambda: stamp() + jump() * 10**9)
            patch.setattr(os, "replace", stamped)
            assert run(WRITERS[name].begin(inputs, place)) == (0, "")
        assert tree(place) == expected


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(inputs, place, monkeypatch, run):
    """Without this order a loss of power may leave the name of a checkpoint, and files without content."""
    synced, named, sync, replace = {}, [], os.fsync, os.replace

    def noted(file):
        sync(file)
        synced[os.fstat(file).st_ino] = os.fstat(file).st_size

    def checked(source, target):
        if target.name.startswith("update-"):
            sizes = {path.stat().st_ino: path.stat().st_size for path in source.iterdir()}
            assert len(sizes) == 3 and sizes.items() <= synced.items()
            named.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", checked)
    assert run(WRITERS[TRAINING].begin(inputs, place)) == (0, "")
    assert len(named) > 2


@pytest.mark.parametrize("name", [
    name if name in SOME else pytest.param(name, marks=pytest.mark.faults)
    for name, writer in WRITERS.items() if writer.training
])  # fmt: skip
def test_a_run_folder_that_moves(name, inputs, place, tmp_path, monkeypatch, run, ledger):
    """It is resumed at its new place after a kill, to the bytes of the run that stayed."""
    writer, faults = WRITERS[name], FileFaults(monkeypatch)
    with faults.counted():
        assert run(writer.begin(inputs, place)) == (0, "")
    expected, count = tree(place), len(faults.operations)
    shutil.rmtree(place)
    place.mkdir()
    for _ in ledger.each(name, "moved after a kill", 1):
        with faults.killed_at(count - 15), pytest.raises(Killed):
            run(writer.begin(inputs, place))
        (tmp_path / "other").mkdir()
        shutil.move(place / "run", tmp_path / "other" / "run")
        assert run(writer.again(inputs, tmp_path / "other"))[0] == 0
        moved = tree(tmp_path / "other")
        for files in (moved, expected):
            files.pop("run/samples.png", None)  # it names the folder of the model
        assert moved == expected


def test_data_that_move_are_asked_for(inputs, place, tmp_path, run, ledger):
    """A sharpener's training names the data that are gone, and goes on when they are back."""
    own = tmp_path / "inputs"
    shutil.copytree(inputs, own)
    writer = WRITERS["train sharpener"]
    assert run(writer.begin(own, place)) == (0, "")
    expected = tree(place)
    for _ in ledger.each("train sharpener", "data moved", 1):
        shutil.move(own / "data", own / "elsewhere")
        status, err = run(writer.again(own, place))
        assert status == 1 and err.count("\n") == 1 and str(own / "data") in err
        shutil.move(own / "elsewhere", own / "data")
        assert run(writer.again(own, place)) == (0, "") and tree(place) == expected


@pytest.mark.parametrize("moment", ["few", pytest.param("every", marks=pytest.mark.faults)])
@pytest.mark.parametrize("name", ["train skipthoughts", "data folder", "sample archive"])
def test_two_processes_in_one_folder(name, moment, inputs, place, monkeypatch, run, ledger, seconds):
    """The same command again, from another process, at an operation of the first: one wins, and both say so."""
    writer, faults = WRITERS[name], FileFaults(monkeypatch)
    with faults.counted():
        assert run(writer.begin(inputs, place)) == (0, "")
    expected, count, results = tree(place), len(faults.operations), []

    def again():
        results.append(run(writer.begin(inputs, place)))

    for k in ledger.each(name, "a second process", count, 2 if moment == "few" else None, seconds):
        shutil.rmtree(place)
        place.mkdir()
        results.clear()
        with faults.before(k, again):
            again()
        where = k, faults.operations[k], results
        assert 0 in {status for status, _ in results}, where
        assert all(err.count("\n") == 1 for status, err in results if status), where
        assert tree(place) == expected, where


def test_a_training_keeps_others_out(inputs, place, run, ledger):
    assert run(WRITERS[TRAINING].begin(inputs, place)) == (0, "")
    expected = tree(place)
    for option in ledger.each(TRAINING, "locked folder", 2):
        with locked(place / "run" / "lock"):
            more = ["--overwrite"] if option else []
            begin = WRITERS[TRAINING].begin(inputs, place) if option else WRITERS[TRAINING].again(inputs, place)
            status, err = run([*begin, *more])
        assert status == 1 and "another process is training in" in err and err.count("\n") == 1
        assert tree(place) == expected
