"""The commands that the GPU report runs: their limits and their output."""

import os
import sys
import time

import gpu_command
import pytest
import torch


def test_a_command_is_ended_with_what_it_started(tmp_path):
    arguments = [sys.executable, "-c", SLEEP, str(tmp_path / "pid")]
    script = f"import subprocess; print('here', flush=True); subprocess.run({arguments!r})"
    began = time.monotonic()
    done = gpu_command.run([sys.executable, "-c", script], 2.0, dict(os.environ))
    assert done.code is None and done.status == "cut short" and done.output == "here\n"
    assert time.monotonic() - began < 10
    child = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not running(child):
            return
        time.sleep(0.1)
    pytest.fail("the process that it had started runs on")


SLEEP = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_runs_away_from_the_sources():
    script = "import os; print(os.getcwd()); raise SystemExit(3)"
    done = gpu_command.run([sys.executable, "-c", script], 30, dict(os.environ))
    assert done.code == 3 and done.status == "failed"
    assert done.output.strip() != os.getcwd()


def test_this_machine_is_probed():
    """The real probe: a machine, or one sentence why there is none."""
    from gpu_stages import probe

    found = probe()
    assert ("gpu" in found) == torch.cuda.is_available()
    assert found.get("reason", "").count("\n") == 0


def test_what_a_command_prints_stands_in_the_log_as_it_comes(tmp_path):
    """After the output of the commands before it, which is not taken for its own."""
    log = tmp_path / "log"
    for word in ("first", "second"):
        done = gpu_command.run([sys.executable, "-c", f"print('{word}')"], 20.0, dict(os.environ), log)
        assert done.output == f"{word}\n"
    assert log.read_text() == "first\nsecond\n"
