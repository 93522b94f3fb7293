"""`aligndraw train` in several processes, as torchrun starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from spoiled_trainings import spoiled_command
from torch_processes import command, run_together, started_processes

SIZES = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 --language-units 4 --align-units 4"
RECIPE = "--preset paper --epoch-size 12 --batch-size 4 --validation-size 3 --init fan_in"
TRAIN = ("train", "mnist", *SIZES.split(), *RECIPE.split())


def ends(*results, status=0):
    """Checks that the processes ended so; returns what the first printed."""
    assert [result[0] for result in results] == [status] * len(results), results
    assert all(result[1:] == ("", "") for result in results[1:]), results
    return results[0][1:]


def state(folder):
    """The newest checkpoint: its number and its tensors."""
    newest = max((folder / "checkpoints").iterdir())
    return newest.name, load_file(newest / "state.safetensors")


def assert_same_run(folder, expected):
    """Checks that two runs ended in the same files, weights and curves."""
    (number, ours), (wanted, theirs) = state(folder), state(expected)
    assert number == wanted and ours.keys() == theirs.keys()
    for kind in ("model", "optimizer"):
        a, b = (torch.cat([t.flatten() for n, t in s.items() if n.startswith(kind)]) for s in (ours, theirs))
        assert (a - b).norm() <= 1e-6 * b.norm()
    mine, others = ([json.loads(line) for line in (f / "metrics.jsonl").open()] for f in (folder, expected))
    assert [m["update"] for m in mine] == [m["update"] for m in others]
    assert [m["bound"] for m in mine if "kl" in m] == pytest.approx([m["bound"] for m in others if "kl" in m], rel=1e-6)
    bounds = [[m["seen"]["bound"]["mean"] for m in run if "epoch" in m] for run in (mine, others)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6) and len(bounds[0]) > 1
    listing = [{p.relative_to(f) for p in f.rglob("*") if "update-" not in str(p)} for f in (folder, expected)]
    assert listing[0] == listing[1]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The folder of four epochs in one process without a launcher."""
    folder = tmp_path_factory.mktemp("single")
    (ended,) = run_together(1, command, *TRAIN, "--epochs", 4, "--out", folder / "run", folder=folder / "printed",
                            variables=[{"RANK": None}])  # fmt: skip
    assert ended[0] == 0
    return folder / "run"


@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(tmp_path, single, before, after):
    """The first process alone has the run folder."""
    run, each = tmp_path / "run-0", tmp_path / "run-{rank}"
    out, err = ends(*run_together(before, command, *TRAIN, "--epochs", 2, "--out", each, folder=tmp_path / "before"))
    assert err == "" and (f"cpu, {before} processes\n" in out) == (before > 1)
    again = run_together(after, command, "train", "mnist", "--epochs", 4, "--out", each, "--resume",
                         folder=tmp_path / "after")  # fmt: skip
    _, err = ends(*again)
    changed = f"this training goes on to rounding, not to the bit: processes was {before} and is {after}\n"
    assert err == changed * (before != after)
    assert not (tmp_path / "run-1").exists()
    assert_same_run(run, single)


@pytest.mark.parametrize(
    "words, complaint",
    [
        (
            (*TRAIN, "--batch-size", 3, "--out", "{out}"),
            "batch_size must be at least the number of processes, 4, got 3",
        ),
        ((*TRAIN, "--seed", "{rank}", "--out", "{out}"), "all processes must have the same seed: "),
        (
            ("train", "features", "--out", "{out}"),
            "this training runs in one process, got 4: start it without torchrun",
        ),
        ((*TRAIN, "--out", "{taken}"), "holds run.json already: give another folder, --resume or --overwrite"),
        ((*TRAIN, "--out", "{file}"), "cannot write "),
    ],
)
def test_a_refusal_is_one_line(tmp_path, words, complaint):
    """Of all processes together; and nothing is written."""
    places = {"out": tmp_path / "out", "taken": tmp_path / "taken", "file": tmp_path / "file"}
    places["taken"].mkdir()
    for path in (places["taken"] / "run.json", places["file"]):
        path.write_text("{}")
    words = [places.get(str(word).strip("{}"), word) for word in words]
    ended = run_together(4, command, *words, folder=tmp_path / "printed")
    assert [status for status, _, _ in ended] == [1] * 4
    printed = "".join(out + err for _, out, err in ended)
    assert printed.startswith("aligndraw: error: ") and printed.count("\n") == 1 and complaint in printed, printed
    assert not places["out"].exists() and [p.name for p in places["taken"].iterdir()] == ["run.json"]


SPOILED = "the loss of update 2 is not finite (KL nan, NLL nan nats) on examples 5 to 8 of epoch 1, in process 1"


def test_a_number_that_is_not_finite_ends_all_with_one_line(tmp_path):
    run = tmp_path / "run"
    words = (*TRAIN, "--epochs", 1, "--checkpoint-every", 1, "--out", run)
    ended = run_together(2, spoiled_command, *words, folder=tmp_path / "printed")
    assert [status for status, _, _ in ended] == [1, 1]
    err = "".join(err for _, _, err in ended)
    place = run / "checkpoints" / "update-00000001"
    assert err == f"aligndraw: error: {SPOILED}: lower learning_rate; the last good checkpoint is {place}\n"
    assert state(run)[0] == place.name


def test_a_skipped_batch_is_told_once(tmp_path):
    run = tmp_path / "run"
    words = (*TRAIN, "--epochs", 1, "--skip-batches", 1, "--out", run)
    _, err = ends(*run_together(2, spoiled_command, *words, folder=tmp_path / "printed"))
    told = "skipped 1 of 3 batches, whose numbers were not finite"
    assert err == f"skipped: {SPOILED}: lower learning_rate\n{told}\n"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert [line["update"] for line in lines] == [1, 2, 3, 3] and lines[1] == {"update": 2, "skipped": 1}


def wait_for(path, timeout=120):
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f"{path} has not come"
        time.sleep(0.01)


LONG = (*TRAIN, "--epoch-size", 40000, "--epochs", 1, "--checkpoint-every", 5)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_with_one_line(tmp_path, killed):
    run = tmp_path / "run"
    with started_processes(2, command, *LONG, "--out", run, folder=tmp_path / "printed") as processes:
        wait_for(run / "checkpoints" / "update-00000005")
        os.kill(processes[killed].process.pid, signal.SIGKILL)
        assert processes[killed].ended()[0] == -signal.SIGKILL
        status, _, err = processes[1 - killed].ended()
    assert status == 1 and err.count("\n") == 1, err
    assert err.startswith("aligndraw: error: another process of this training has ended or does not answer: ")
    assert len(state(run)[1]) > 10


def test_a_signal_to_one_stops_all(tmp_path, single):
    """The stopped training has a checkpoint of the update at which all stopped."""
    run = tmp_path / "run"
    with started_processes(2, command, *LONG, "--out", run, folder=tmp_path / "printed") as processes:
        wait_for(run / "checkpoints" / "update-00000005")
        for _ in range(2):  # torchrun passes on a signal that the terminal has sent already
            os.kill(processes[1].process.pid, signal.SIGTERM)
        results = [one.ended() for one in processes]
    _, err = ends(*results, status=130)
    updates = int(state(run)[0].removeprefix("update-"))
    assert (
        err == f"stopped after {updates:,} of 10,000 updates; go on with: aligndraw train mnist --out {run} --resume\n"
    )


def children(process):
    return [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the processes of torchrun are found by /proc")
def test_torchrun_starts_again_by_itself(tmp_path, single):
    """After the kill of a process the same command resumes, and ends in the weights of a single process."""
    run = tmp_path / "run"
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        2,
        "--max-restarts",
        1,
        "--standalone",
    ]
    words = [*torchrun, "-m", "aligndraw", *TRAIN, "--epochs", 4, "--checkpoint-every", 1, "--out", run]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen([*map(str, words)], cwd=tmp_path, stdout=printed, stderr=printed, env=environment)
        wait_for(run / "checkpoints" / "update-00000003")
        os.kill(children(process)[1], signal.SIGKILL)
        assert process.wait(120) == 0, (tmp_path / "printed").read_text()
    text = (tmp_path / "printed").read_text()
    assert ", from update " in text and "Traceback" not in text
    assert_same_run(run, single)


NO_AGENT = {"MASTER_PORT": "29400", "LOCAL_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "False"}


@pytest.fixture
def namespaces():
    """Two network namespaces that see each other by a pair of veth devices, at 10.98.7.1 and 10.98.7.2."""
    names = [f"aligndraw-{os.getpid()}-{i}" for i in (1, 2)]
    devices = [f"adraw{i}" for i in (1, 2)]

    def ip(*words):
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip(
                "link",
                "add",
                devices[0],
                "netns",
                names[0],
                "type",
                "veth",
                "peer",
                "name",
                devices[1],
                "netns",
                names[1],
            )
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
        for i, (name, device) in enumerate(zip(names, devices), 1):
            ip("-n", name, "address", "add", f"10.98.7.{i}/24", "dev", device)
            for link in (device, "lo"):
                ip("-n", name, "link", "set", link, "up")
        yield [
            {"NETNS": name, "GLOO_SOCKET_IFNAME": device, "MASTER_ADDR": "10.98.7.1", **NO_AGENT}
            for name, device in zip(names, devices)
        ]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.slow
def test_two_nodes(tmp_path, single, namespaces):
    """They share no folder: the first alone has the run."""
    words = (*TRAIN, "--epochs", 4, "--out", tmp_path / "node-{rank}")
    results = run_together(2, command, *words, folder=tmp_path / "printed", variables=namespaces)
    assert [status for status, _, _ in results] == [0, 0] and results[1][1] == "", results
    assert not any("aligndraw" in err for _, _, err in results)  # PyTorch warns of addresses without names
    assert not (tmp_path / "node-1").exists()
    assert_same_run(tmp_path / "node-0", single)
