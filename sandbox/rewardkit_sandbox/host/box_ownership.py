"""Marks the owner of a box, to distinguish leftovers of a dead process from boxes in use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(pid: int) -> str | None:
    """Return the clock ticks from boot to the start of a process, None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def label() -> str:
    """Return a label of this process: machine, boot, pid namespace, pid and start time."""
    return f"{_machine()}.{os.getpid()}.{_started(os.getpid())}"


def is_gone(text: str) -> bool:
    """Return whether the process of a label ended; False for processes of another machine or namespace, which can't be seen."""
    machine, _, rest = text.rpartition(".")[0].rpartition(".")
    started = text.rpartition(".")[2]
    return machine == _machine() and rest.isdigit() and _started(int(rest)) != started
