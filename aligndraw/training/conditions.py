"""The conditions that the last bits of a training depend on, besides its settings and its data.

Under other conditions sums round differently, so a resumed training matches the uninterrupted one only up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

import aligndraw
from aligndraw.backends import backend_for
from aligndraw.machine import processor
from aligndraw.ops import LOOPS, OPS
from aligndraw.training.state import Resumable

# Environment variables that select the instructions of the libraries below PyTorch.
VARIABLES = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")


def current_conditions(trainer: Resumable[Any]) -> dict[str, str]:
    """Returns the conditions of a trainer's updates in this process, by name.

    "aligndraw" and "torch" are versions; "ops" are the backends of the device; "precision" is the trainer's;
    "processes" is the number of those that share the training. On a CPU there are also "threads", "processor" and
    "instructions".
    """
    device = next(trainer.model.parameters()).device
    found = {
        "aligndraw": aligndraw.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ops": " ".join(sorted({backend_for(op, device.type) for op in (*OPS, *LOOPS)})),
        "precision": trainer.precision,
        "processes": str(trainer.ranks.count),
    }
    if device.type == "cpu":
        variables = [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
        found["threads"] = str(torch.get_num_threads())
        found["processor"] = processor()
        found["instructions"] = " ".join([torch.backends.cpu.get_cpu_capability(), *variables])
    return found


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns one line that names the conditions that have changed; "" where none has.

    A condition that only one side has is not compared.
    """
    both = [name for name in before if name in now and before[name] != now[name]]
    changed = ", ".join(f"{name} was {before[name]} and is {now[name]}" for name in both)
    return f"this training goes on to rounding, not to the bit: {changed}" if changed else ""
