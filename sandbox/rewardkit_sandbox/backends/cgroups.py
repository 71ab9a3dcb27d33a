"""Control groups, versions 1 and 2: limits on the memory, processes and CPU of a whole box."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rewardkit_sandbox.host import box_ownership
from rewardkit_sandbox.types import Property

ROOT = Path("/sys/fs/cgroup")
FOLDER = "rewardkit-sandbox"


@dataclass(frozen=True)
class Group:
    """The control group of one box."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Move a process into it."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    @cached_property
    def _events(self) -> int:
        """A descriptor of the group's memory events, kept open: it is read before each program."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    return os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def oom_kills(self) -> int:
        """Return how often the kernel killed in it for lack of memory."""
        try:
            lines = os.pread(self._events, 4096, 0).splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith(b"oom_kill "))

    def watch(self) -> Callable[[], bool]:
        """Return a function that says whether the kernel has killed in it for lack of memory since now."""
        before = self.oom_kills()
        return lambda: self.oom_kills() > before

    def remove(self) -> None:
        """Remove it, and kill the processes that are still in it."""
        if "_events" in self.__dict__:
            os.close(self.__dict__.pop("_events"))
        for folder in self.folders:
            for _ in range(100):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    _kill_members(folder)
                    time.sleep(0.02)
                else:
                    break


def _kill_members(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for line in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(line), 9)


def make(*, memory_mb: int, processes: int, cpus: float) -> Group | None:
    """Return a group with these limits, or None if it can't be made."""
    name = f"{box_ownership.label()}-{secrets.token_hex(4)}"
    unified = (ROOT / "cgroup.controllers").exists()
    memory, period = memory_mb << 20, 100_000
    if unified:
        rows = {
            "": {
                "memory.max": memory,
                "memory.swap.max": 0,
                "pids.max": processes,
                "cpu.max": f"{int(cpus * period)} {period}",
            }
        }
    else:
        rows = {
            "memory": {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory},
            "pids": {"pids.max": processes},
            "cpu": {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": int(cpus * period)},
        }
    made: list[Path] = []
    try:
        for controller, settings in rows.items():
            parent = ROOT / controller / FOLDER
            parent.mkdir(exist_ok=True)
            if unified:
                for folder in (ROOT, parent):
                    (folder / "cgroup.subtree_control").write_text("+memory +pids +cpu")
            folder = parent / name
            folder.mkdir()
            made.append(folder)
            for key, value in settings.items():
                if key in ("memory.memsw.limit_in_bytes", "memory.swap.max") and not (folder / key).exists():
                    continue
                (folder / key).write_text(str(value))
    except OSError:
        Group(tuple(made)).remove()
        return None
    return Group(tuple(made))


def sweep() -> int:
    """Remove groups whose owner ended, with what still runs in them; return how many."""
    removed = 0
    for parent in {ROOT / FOLDER, *(ROOT / controller / FOLDER for controller in ("memory", "pids", "cpu"))}:
        if parent.is_dir():
            for folder in parent.iterdir():
                if folder.is_dir() and box_ownership.is_gone(folder.name.rpartition("-")[0]):
                    Group((folder,)).remove()
                    removed += 1
    return removed


def diagnose() -> Property:
    """Return whether this user may make control groups."""
    group = make(memory_mb=64, processes=8, cpus=1.0)
    version = 2 if (ROOT / "cgroup.controllers").exists() else 1
    name = "control groups for bubblewrap"
    if group is None:
        return Property(
            name,
            False,
            f"version {version}, and this user may not make any: memory is limited for each process alone",
            "run as root, or delegate memory, pids and cpu (systemd-run --user --scope -p Delegate=yes)",
        )
    group.remove()
    return Property(name, True, f"version {version}: memory, processes and CPU of a whole box")
