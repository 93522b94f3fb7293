"""Several processes that share a training, started as torchrun starts them, but without importing torch in each."""

import contextlib
import ctypes
import multiprocessing
import os
import sys
import traceback
from pathlib import Path

from torch.distributed import TCPStore

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["aligndraw.cli.train", "aligndraw.weights", "torch._dynamo", "pytest"])
_CLONE_NEWNET = 0x40000000


class Process:
    """One process; what it prints is in two files."""

    def __init__(self, process, folder, rank):
        self.process = process
        self.out, self.err = (folder / f"{name}-{rank}" for name in ("stdout", "stderr"))

    def ended(self, timeout=120):
        """Waits; returns the exit status, and the text of both streams."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"it still runs; it has printed {self.out.read_text()!r}"
        return self.process.exitcode, self.out.read_text(), self.err.read_text()


@contextlib.contextmanager
def started_processes(count, function, *arguments, folder, variables=({},)):
    """Yields `count` processes that call the function, which must be importable from a file of helpers.

    Args:
        folder: for what they print, empty or absent.
        variables: more environment variables, of each process or of all; None removes one, and "NETNS" is the namespace
            of its network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun has it too
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
    }
    found = []
    with _in_folder(folder):  # the tree may have no compiled library
        for rank in range(count):
            environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **variables[rank % len(variables)]}
            one = Process(None, folder, rank)
            one.process = _CONTEXT.Process(target=_child, args=(function, arguments, environment, one.out, one.err))
            one.process.start()
            found.append(one)
    try:
        yield found
    finally:
        for one in found:
            one.process.kill()
            one.process.join()


def run_together(count, function, *arguments, **options):
    """Returns the exit status and the text of both streams of each process."""
    with started_processes(count, function, *arguments, **options) as processes:
        return [one.ended() for one in processes]


@contextlib.contextmanager
def _in_folder(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _child(function, arguments, environment, out, err):
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
    if namespace := environment.pop("NETNS", None):
        with Path("/var/run/netns", namespace).open() as file:
            assert ctypes.CDLL(None).setns(file.fileno(), _CLONE_NEWNET) == 0
    os.environ.update({name: value for name, value in environment.items() if value is not None})
    import torch

    torch.set_num_threads(1)
    try:
        status = function(*arguments)
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)


def command(*words):
    """Runs `aligndraw` in this process; {rank} in a word is the number of the process."""
    from aligndraw.cli import main

    return main([str(word).replace("{rank}", os.environ.get("RANK", "0")) for word in words])
