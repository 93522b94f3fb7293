"""The processor of this machine."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Returns the processor's name, as in "AMD EPYC 9355"; where it is unknown, its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
