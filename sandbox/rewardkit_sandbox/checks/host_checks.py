"""Finds the engines, images and control groups that this machine offers to sandboxes. Opens no box."""

from __future__ import annotations

import platform

from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.errors import Unavailable
from rewardkit_sandbox.host import seccomp
from rewardkit_sandbox.images import building
from rewardkit_sandbox.protocol import SandboxOptions
from rewardkit_sandbox.types import Property


def check_host(image: str = "python") -> list[Property]:
    """Return what was found for each backend. A single backend is enough, and `auto` chooses one."""
    found = []
    for name in registry.names():
        if name in registry.BUILT_IN and registry.BUILT_IN[name].takes_url:
            continue
        found += registry.diagnose(name, SandboxOptions(image))
    return [*found, _system_call_filter(), _images()]


def _system_call_filter() -> Property:
    try:
        size = len(seccomp.build(memory_files=True)) // 8
    except Unavailable as error:
        return Property("system call filter", False, str(error), "use another machine")
    return Property("system call filter", True, f"{size} instructions for {platform.machine()}")


def _images() -> Property:
    known = building.recipes()
    built = [name for name in known if (building.root(name) / "usr").exists()]
    missing = ", ".join(name for name in known if name not in built)
    detail = f"built: {', '.join(built) or 'none'}" + (f"; not built: {missing}" if missing else "")
    return Property("images", bool(built), detail, "python -m rewardkit_sandbox build IMAGE")
