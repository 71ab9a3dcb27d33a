"""The configuration of a box, and the sources that it is started with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from rewardkit_sandbox.host import seccomp

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
SERVER_ENVIRONMENT = {**ENVIRONMENT, "LD_BIND_NOW": "1"}
"""The environment that a box's server starts with. Symbols that it did not bind, each process of a program would bind anew."""
COMMON_MODULES = (
    "abc", "array", "bisect", "collections", "collections.abc", "contextlib", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math", "numbers", "operator",
    "queue", "random", "re", "statistics", "string", "struct", "textwrap", "time", "typing", "threading", "traceback",
)  # fmt: skip


@cache
def bootstrap() -> str:
    """Return the source that `python3 -c` starts a box with."""
    return resources.files("rewardkit_sandbox.box").joinpath("boot.py").read_text()


@cache
def _sources() -> dict[str, str]:
    box = resources.files("rewardkit_sandbox.box")
    return {
        name: box.joinpath(f"{name}.py").read_text()
        for name in ("codec", "program_process", "unit_tests", "scratch_folders", "template", "fork_server")
    }


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """The configuration of a box's fork server. A backend sets what it could not set up from outside."""

    memory_files: bool
    """True if the control group counts the memory of files made by `memfd_create`."""
    uid_base: int = 0
    """Each program gets a uid from here on; 0 keeps the server's own, which then must be unprivileged."""
    uid_count: int = 50_000
    mount_tmpfs: Mapping[str, str] = field(default_factory=dict)
    read_only: Sequence[str] = ()
    """Folders that the fork server makes read-only."""
    bounding: Sequence[int] = ()
    """Capabilities that each program still has to lose from its bounding set."""
    hide_processes: bool = False
    drop_capabilities: bool = False
    scratch: Sequence[str] = ("/tmp", "/dev/shm")
    preimport: Sequence[str] = COMMON_MODULES

    def bundle(self) -> bytes:
        """Return the bytes that the boot code reads."""
        config = {
            "seccomp": seccomp.build(memory_files=self.memory_files).hex(),
            "uid_base": self.uid_base,
            "uid_count": self.uid_count,
            "mount_tmpfs": dict(self.mount_tmpfs),
            "read_only": list(self.read_only),
            "bounding": list(self.bounding),
            "hide_processes": self.hide_processes,
            "drop_capabilities": self.drop_capabilities,
            "environment": ENVIRONMENT,
            "scratch": list(self.scratch),
            "preimport": list(self.preimport),
        }
        return json.dumps({"sources": _sources(), "config": config}).encode()
