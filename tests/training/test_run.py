"""Run folders: a training that is interrupted and taken up again ends like one that never was."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch
from file_faults import FileFaults, Killed, tree

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import MNISTCaptions, evaluation_sets, load_digits
from aligndraw.model.saved import load_model, save_model
from aligndraw.training.checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from aligndraw.training.model_run import Run, train_run
from aligndraw.training.run import RunError
from aligndraw.training.trainer import Trainer

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
RECIPE = TrainingConfig(epochs=3, epoch_size=12, batch_size=4, optimizer="adam", ema=0.9)
DIGITS = load_digits()
SCORED = evaluation_sets(DIGITS, "validation", size=5)


def fresh(seed=0, config=RECIPE):
    torch.manual_seed(0)
    return Trainer(AlignDRAW(TINY), MNISTCaptions(DIGITS), config, seed)


def go(run, trainer, **options):
    with run.locked():
        return train_run(run, trainer, SCORED, checkpoint_every=2, **options)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture
def whole(tmp_path):
    run = Run.create(tmp_path / "whole", TINY, RECIPE, 0)
    trainer = fresh()
    assert go(run, trainer) == "finished"
    return run, trainer


def test_a_run_folder(whole):
    run, trainer = whole
    lines = run.metrics()
    assert [m["update"] for m in lines if "epoch" not in m] == list(range(1, 10))
    epochs = [m for m in lines if "epoch" in m]
    assert [m["epoch"] for m in epochs] == [1, 2, 3]
    assert set(epochs[0]) == {"update", "epoch", "seen", "held_out"}
    assert [p.name for p in checkpoints(run.folder / "checkpoints")] == ["update-00000009", "update-00000008"]
    model, _, notes = load_model(run.folder)
    with trainer.averaged() as averaged:
        assert same(model, averaged)
    assert not same(model, trainer.model)
    assert notes["bound"]["seen"] == epochs[-1]["seen"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")
@pytest.mark.parametrize("how", ["killed_at", "full_from"])
def test_stopped_at_every_file_operation(whole, tmp_path, monkeypatch, how):
    """Of a save: the checkpoint before it or its own is taken up, the model is whole, and nothing stays beside them."""
    faults = FileFaults(monkeypatch)

    def save(run, trainer):
        save_model(trainer.model, trainer.source.vocabulary, run.folder)
        run.checkpoint(trainer)

    def copied(name):
        shutil.copytree(whole[0].folder, tmp_path / name)
        return Run.open(tmp_path / name)

    whole[1].index += 1  # an update more
    monkeypatch.setattr(Trainer, "total", whole[1].index)
    whole[0].log(update=whole[1].index)
    after = copied("after")
    with faults.counted():
        save(after, whole[1])
    before, names = set(tree(whole[0].folder)), set(tree(after.folder))
    for k in range(len(faults.operations)):
        run = copied(f"at-{k}")
        with getattr(faults, how)(k), suppress(Killed, OSError):
            save(run, whole[1])
        again = fresh()
        with run.locked():
            passed = run.restore(again)
        assert passed == [] and again.index in (9, 10), faults.operations[k]
        load_model(run.folder)
        assert set(tree(run.folder)) <= before | names, faults.operations[k]
        for checkpoint in checkpoints(run.folder / "checkpoints"):
            load_checkpoint(fresh(), checkpoint)
        with run.locked():
            save(run, whole[1])
        assert set(tree(run.folder)) == names, faults.operations[k]
        shutil.rmtree(run.folder)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")
def test_killed_while_a_run_is_overwritten(whole, tmp_path, monkeypatch):
    """No later training takes a checkpoint of the old one for its own; and it can be overwritten still."""
    faults = FileFaults(monkeypatch)

    def begin(folder, **options):
        return Run.create(folder, TINY, RECIPE, 1, **options)

    shutil.copytree(whole[0].folder, tmp_path / "copy")
    with faults.counted():
        begin(tmp_path / "copy", overwrite=True)
    expected = tree(tmp_path / "copy")
    for k in range(len(faults.operations)):
        folder = tmp_path / str(k)
        shutil.copytree(whole[0].folder, folder)
        with faults.killed_at(k), pytest.raises(Killed):
            begin(folder, overwrite=True)
        with suppress(RunError):
            begin(folder)
            assert not list(checkpoints(folder / "checkpoints")), faults.operations[k]
        begin(folder, overwrite=True)
        assert tree(folder) == expected, faults.operations[k]


@pytest.mark.parametrize("stop", range(1, 9))
def test_stopped_and_resumed(whole, tmp_path, stop):
    """Metrics and weights are those of the run that was never interrupted."""
    run = Run.create(tmp_path / "parts", TINY, RECIPE, 0)
    trainer = fresh()
    assert go(run, trainer, stopping=lambda: trainer.index == stop) == "stopped"
    again = fresh()
    run = Run.open(tmp_path / "parts")
    assert run.restore(again) == [] and again.index == stop
    assert go(run, again) == "finished"
    assert same(again.model, whole[1].model)
    assert run.metrics() == whole[0].metrics()
    assert all(torch.equal(again.average[n], whole[1].average[n]) for n in again.average)


SCRIPT = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {here!r})
import importlib.util
spec = importlib.util.spec_from_file_location("run_tests", {this!r})
tests = importlib.util.module_from_spec(spec); spec.loader.exec_module(tests)
folder = Path(sys.argv[1])
run = tests.Run.open(folder) if (folder / "run.json").exists() else tests.Run.create(folder, tests.TINY, tests.LONG, 0)
trainer = tests.fresh(config=tests.LONG)
run.restore(trainer)
print("ready", trainer.index, flush=True)
tests.go(run, trainer)
"""
LONG = RECIPE.replace(epochs=10, epoch_size=40)


def test_killed_at_random_moments(tmp_path):
    """SIGKILL, also in the middle of a save: no more is lost than the updates since the last checkpoint.

    All processes run on one thread: on how many they run, the bits depend.
    """
    code = SCRIPT.format(here=str(Path(__file__).parent), this=__file__)
    folder = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    chance, kills, reached = random.Random(0), 0, 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )
        assert process.stdout is not None
        started = int(process.stdout.readline().split()[1])
        assert started >= reached - 2
        if kills < KILLS:
            time.sleep(chance.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            lines = Run.open(folder).metrics()
            reached = max((m["update"] for m in lines), default=0)
        else:
            assert process.wait() == 0
            break
    trainer = fresh(config=LONG)
    run = Run.create(tmp_path / "whole", TINY, LONG, 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        go(run, trainer)
    finally:
        torch.set_num_threads(threads)
    assert Run.open(folder).metrics() == run.metrics()
    survivor, _, _ = load_model(folder)
    with trainer.averaged() as averaged:
        assert same(survivor, averaged)


KILLS = int(os.environ.get("ALIGNDRAW_TEST_KILLS", "3"))


def test_patience(tmp_path):
    config = RECIPE.replace(epochs=50, patience=2, learning_rate=1e-12, ema=0.0)
    run = Run.create(tmp_path, TINY, config, 0)
    trainer = fresh(config=config)
    result = go(run, trainer)
    bounds = [m["seen"]["bound"]["mean"] for m in run.metrics() if "epoch" in m]
    assert result == "no better bound"
    assert min(bounds[-2:]) >= min(bounds[:-2]) and trainer.index < trainer.total
    again = fresh(config=config)
    run.restore(again)
    assert go(run, again) == "no better bound" and again.index == trainer.index


def test_only_one_process_trains_in_a_folder(whole, tmp_path):
    run, _ = whole
    code = (
        "from pathlib import Path; from aligndraw.training.model_run import Run; "
        f"Run.open(Path({str(run.folder)!r})).locked().__enter__()"
    )
    with run.locked():
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "another process is training in" in ran.stderr
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def damage(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif how == "one bit":
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    elif how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"not a file of ours")


@pytest.mark.parametrize("how", ["truncated", "one bit", "missing", "foreign"])
@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(whole, name, how):
    run, trainer = whole
    newest, before = checkpoints(run.folder / "checkpoints")
    damage(newest / name, how)
    if (name, how) == ("manifest.json", "one bit"):  # may still be JSON, of another checksum or name
        with pytest.raises(CheckpointError):
            load_checkpoint(fresh(), newest)
    again = fresh()
    (passed,) = run.restore(again)
    assert str(newest) in passed and again.index == 8
    go(run, again)
    assert same(again.model, trainer.model)
    damage(before / name, how)


def test_no_whole_checkpoint(whole):
    run, _ = whole
    for path in checkpoints(run.folder / "checkpoints"):
        damage(path / "state.safetensors", "truncated")
    with pytest.raises(RunError, match="no checkpoint in .* is whole; the newest: .*state.safetensors is damaged"):
        run.restore(fresh())


def test_a_full_disk_leaves_the_last_checkpoint(whole, monkeypatch):
    run, trainer = whole
    before = sorted(p.name for p in (run.folder / "checkpoints").iterdir())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    trainer.index += 1
    with pytest.raises(OSError, match="No space left"):
        run.checkpoint(trainer)
    assert sorted(p.name for p in (run.folder / "checkpoints").iterdir()) == before


def test_another_configuration(whole, tmp_path):
    run, trainer = whole
    save_checkpoint(trainer, tmp_path / "c")
    other = Trainer(AlignDRAW(TINY.replace(latent_units=4)), MNISTCaptions(DIGITS), RECIPE)
    with pytest.raises(CheckpointError, match="is of another configuration: look at"):
        load_checkpoint(other, tmp_path / "c")
    other = Trainer(AlignDRAW(TINY), MNISTCaptions(DIGITS), RECIPE.replace(optimizer="rmsprop"))
    with pytest.raises(CheckpointError, match="is of another configuration: its optimizer is Adam"):
        load_checkpoint(other, tmp_path / "c")


@pytest.mark.parametrize(("kept", "lost"), [(None, 9), (0, 9), (5, 5), (11, 0)])
def test_metrics_that_are_gone(whole, kept, lost):
    """They were missing without a word. Of the 12 lines the last is the third epoch's."""
    path = whole[0].folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink() if kept is None else path.write_bytes(b"".join(lines[:kept]))
    told = Run.open(whole[0].folder).restore(fresh())
    assert told == [f"{path} lacks the figures of {lost} of 9 updates"] * bool(lost)


def _moment(tensors):
    return next(name for name in tensors if name.startswith("optimizer/") and tensors[name].dim() == 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, n: t.update({"model/other": t.pop(_moment(t))}), "is of another configuration: look at model/other"),
        (lambda t, n: t.update({_moment(t): torch.zeros(2)}), "is of another configuration: look at optimizer/"),
        (lambda t, n: t.pop(_moment(t)), "no checkpoint: it must hold .* tensors, got"),
        (lambda t, n: n.update(index=10), "no checkpoint: 'index' must be in 0…9, got 10"),
        (lambda t, n: n.update(index=10**9), "no checkpoint: 'index' must be in 0…9, got 1000000000"),
    ],
)
def test_a_checkpoint_of_another_training(whole, change, message):
    """Its checksums are right. It was a traceback, another model, or a training that had "finished"."""
    run, _ = whole
    path = run.folder / "checkpoints" / "update-00000009"
    tensors = safetensors.torch.load((path / "state.safetensors").read_bytes())
    numbers = json.loads((path / "state.json").read_text())
    change(tensors, numbers)
    contents = {"state.safetensors": safetensors.torch.save(tensors), "state.json": json.dumps(numbers).encode()}
    for name, content in contents.items():
        (path / name).write_bytes(content)
    manifest = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in contents.items()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(fresh(), path)
    again = fresh()
    (passed,) = run.restore(again)
    assert str(path) in passed and again.index == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format="x"), "its format is not aligndraw run 2"),
        (lambda r: r.pop("training"), "run.json is damaged or foreign: 'training'"),
        (lambda r: r["model"].update(steps=0), "steps must be a whole number"),
    ],
)
def test_a_foreign_record(whole, change, message):
    run, _ = whole
    record = json.loads((run.folder / "run.json").read_text())
    change(record)
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=message):
        Run.open(run.folder)


def test_a_taken_folder(whole, tmp_path):
    with pytest.raises(RunError, match="holds run.json already: give another folder, --resume or --overwrite"):
        Run.create(whole[0].folder, TINY, RECIPE, 0)
    with pytest.raises(RunError, match="there is no run in"):
        Run.open(tmp_path / "none")


@pytest.mark.parametrize("name", ["lapgan.json", "sharpener.safetensors", "features.json", "utable.npy", "config.json"])
def test_results_of_whatever_kind_take_a_folder(tmp_path, name):
    """They are neither shadowed nor lost, unless they are to be overwritten; and then all of them."""
    names = ("mine.txt", name, "bi_skip.npz")
    for each in names:
        (tmp_path / each).write_text(each)
    with pytest.raises(RunError, match=r"holds \S+ already: give another folder, --resume or --overwrite"):
        Run.create(tmp_path, TINY, RECIPE, 0)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    run = Run.create(tmp_path, TINY, RECIPE, 0, overwrite=True)
    with pytest.raises(ZeroDivisionError), run.begun():
        raise ZeroDivisionError
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "lock"}


@pytest.mark.parametrize(
    "change",
    [lambda r: r["model"].update(steps=3), lambda r: r["training"].update(epoch_size=8), lambda r: r.update(seed=1)],
)
def test_a_record_that_has_changed_since_the_checkpoints(whole, change):
    """A training went on as another one."""
    run, _ = whole
    record = json.loads((run.folder / "run.json").read_text())
    Run.open(run.folder).restore(fresh())
    change(record)
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(
        RunError, match="update-00000009 is of another configuration: the run's record has changed since"
    ):
        Run.open(run.folder).restore(fresh())


def test_a_checkpoint_of_whole_numbers(whole, tmp_path):
    """They were read as floats."""
    _, trainer = whole
    save_checkpoint(trainer, tmp_path / "c")
    state, manifest = (tmp_path / "c" / name for name in ("state.safetensors", "manifest.json"))
    tensors = safetensors.torch.load(state.read_bytes())
    state.write_bytes(safetensors.torch.save({**tensors, "model/canvas": tensors["model/canvas"].int()}))
    record = json.loads(manifest.read_text())
    record["state.safetensors"]["sha256"] = hashlib.sha256(state.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="is of another configuration: look at model/canvas$"):
        load_checkpoint(fresh(), tmp_path / "c")
