"""A fault at each file operation of everything that writes: nothing is lost beyond the last checkpoint.

After the fault a user goes on, and has the bytes of the work that no fault met, with nothing beside them.
"""

import shutil
import signal
import sys

import pytest
from file_faults import FileFaults, Killed, tree
from writers import WRITERS

from aligndraw.cli import main
from aligndraw.cli.train.progress import Progress
from aligndraw.files import sweep
from aligndraw.training.run import RunFolder

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")


@pytest.fixture(autouse=True)
def keyboard():
    """Ctrl-C arrives: a test run in the background of a shell is born with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def progress(monkeypatch):
    """Notes the numbers of finished updates, of checkpoints that were saved, and those that a run resumed from."""
    seen = {"updates": [0], "checkpoints": [0], "resumed": [0]}
    report, save, restore = Progress.on_update, RunFolder.checkpoint, RunFolder.restore

    def on_update(self, update):
        report(self, update)
        seen["updates"].append(update.index + 1)

    def checkpoint(self, trainer, *rest):
        save(self, trainer, *rest)
        seen["checkpoints"].append(trainer.index)

    def restored(self, trainer):
        remarks = restore(self, trainer)
        seen["resumed"].append(trainer.index)
        return remarks

    monkeypatch.setattr(Progress, "on_update", on_update)
    monkeypatch.setattr(RunFolder, "restore", restored)
    monkeypatch.setattr(RunFolder, "checkpoint", checkpoint)
    return seen


@pytest.fixture
def run(capsys):
    """Runs a command; returns its status and what it complained of."""

    def command(arguments):
        capsys.readouterr()
        try:
            status = main([str(a) if str(a) != "CAPTION" else "a red bus stands on grass" for a in arguments])
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err

    return command


KINDS = ("killed", "disk full", "SIGINT", "SIGTERM", "disk full once")
CHEAP = ("train skipthoughts", "train sharpener", "data folder", "data webdataset", "sample archive")


def cases():
    """Every writer with every kind; and a few faults of writers that are fast, in the default run."""
    for writer in WRITERS:
        for kind in KINDS:
            yield pytest.param(writer, kind, None, id=f"{writer}-{kind}", marks=pytest.mark.faults)
    for writer in CHEAP:
        for kind in KINDS[:3]:
            yield pytest.param(writer, kind, 3, id=f"{writer}-{kind}-few")


def injected(faults, kind, k):
    """The context in which operation k meets a fault."""
    if kind == "killed":
        return faults.killed_at(k)
    if kind == "disk full":
        return faults.full_from(k)
    if kind == "disk full once":
        return faults.full_at(k)

    def arrive():
        number = getattr(signal, kind)
        if signal.getsignal(number) == signal.SIG_DFL:
            raise Killed  # as the system does
        signal.raise_signal(number)

    return faults.before(k, arrive)


def clear_line(status, err):
    """Whether a command ended by itself, in a way that a user understands."""
    beside = ("stopping after this update", "the same command resumes with them")
    lines = [line for line in err.splitlines() if line and not any(text in line for text in beside)]
    stopped = status == 130 and len(lines) == 1 and ("interrupted" in lines[0] or "go on with: " in lines[0])
    return status == 0 or stopped or status == 1 and len(lines) == 1 and lines[0].startswith("aligndraw: error: ")


@pytest.mark.parametrize(("name", "kind", "few"), [*cases()])
def test_every_operation(name, kind, few, inputs, tmp_path, monkeypatch, run, progress, ledger, seconds):
    writer, faults = WRITERS[name], FileFaults(monkeypatch)
    again = writer.again or writer.begin
    place = tmp_path / "place"  # the same path each time, since outputs may name it

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for numbers in progress.values():
            numbers[1:] = ()

    fresh()
    with faults.counted():
        assert run(writer.begin(inputs, place)) == (0, "")
    expected, count, total = tree(place), len(faults.operations), progress["updates"][-1]
    assert count > 5
    for k in ledger.each(name, kind, count, few, None if few else seconds):
        fresh()
        killed = False
        with injected(faults, kind, k):
            try:
                status, err = run(writer.begin(inputs, place))
            except Killed:
                killed = True
        where = f"{kind} at {k}: {faults.operations[k]}"
        assert killed or clear_line(status, err), (where, status, err)
        done, saved = progress["updates"][-1], progress["checkpoints"][-1]
        seen = {path: content for path, content in tree(place).items() if "/." not in f"/{path}"}
        if not (writer.training or name == "tables"):  # tables keep their parts
            assert seen.items() <= expected.items(), (where, "a part of the work")
        assert killed or status or seen == expected, (where, "it ended well, without its work")
        asked = kind in ("SIGINT", "SIGTERM") and 0 < done < total
        assert not asked or "go on with: " in err and not killed, (where, "it was asked to stop", err)
        status, err = run(again(inputs, place))
        begun = progress["resumed"][-1]
        over = seen == expected and "is there already" in err  # `export` had done its work, and replaces nothing
        assert status == 0 or over, (where, err)
        assert begun >= saved, (where, "lost a checkpoint")
        assert max(done - begun, 0) <= (not asked), (where, "lost more than the updates since the last checkpoint")
        ledger.counts[name, kind]["lost"] += max(done - begun, 0)
        if over:
            sweep(place)  # as the next command that writes here does
        assert tree(place) == expected, where
