#!/usr/bin/env bash
# torch.distributed: a gloo group that a variable still holds keeps its threads after destroy_process_group().
#
# Guess: destroy_process_group() without arguments destroys all groups, with all of their threads.
# Behaviour of torch 2.13.0: the default group's threads end. A further group's threads run until the last reference to
# the group is gone. Deleting the variable joins them, so a program should do it before the interpreter ends.
# Linux alone: the script reads the names of threads in /proc.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PY'
import gc
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist


def gloo_threads():
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return Counter(name for name in names if "gloo" in name)


store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
dist.init_process_group("gloo", store=store, rank=0, world_size=1)
further = dist.new_group(backend="gloo")
for group in (None, further):
    dist.all_reduce(torch.ones(3), group=group)
both = gloo_threads()
dist.destroy_process_group()
held = gloo_threads()
del further, group
gc.collect()
released = gloo_threads()

print("torch", torch.__version__)
print("two groups:", dict(both))
print("destroyed, one of them held by a variable:", dict(held))
print("the variable deleted:", dict(released))
assert not dist.is_initialized()
assert held and held.total() < both.total(), "destroy_process_group() leaves other threads than before"
assert not released, "threads outlive the last reference"
PY
