"""What this machine has for a sandbox: engine, bubblewrap, images, control groups. Nothing here opens a box."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from rewardkit_sandbox.backends import cgroups, registry
from rewardkit_sandbox.errors import Unavailable
from rewardkit_sandbox.host import seccomp
from rewardkit_sandbox.images import building


@dataclass(frozen=True, slots=True)
class Property:
    """One thing that is so, or is not."""

    name: str
    holds: bool
    detail: str
    """What was seen."""
    remedy: str = ""
    """What to do where it does not hold."""


def check_host(image: str = "python") -> list[Property]:
    """What there is. None of it must be: one backend suffices, and `auto` says which."""
    return [
        *_docker(image),
        *_bubblewrap(image),
        _control_groups(),
        _filter(),
        _images(),
        *_third_parties(),
    ]


def _docker(image: str) -> Iterator[Property]:
    from rewardkit_sandbox.backends.docker import client, is_engine_error

    start = "start it (systemctl start docker, or dockerd), or install it: apt-get install docker.io"
    try:
        engine = client(timeout_s=10)
    except Unavailable as error:
        yield Property("Docker engine", False, str(error), start)
        return
    try:
        facts = engine.info()
        tags = {tag for each in engine.images.list() for tag in each.tags}
    except Exception as error:
        if not is_engine_error(error):
            raise
        yield Property("Docker engine", False, f"it does not answer: {error}", start)
        return
    finally:
        engine.close()
    security = ", ".join(text.removeprefix("name=") for text in facts.get("SecurityOptions") or ()) or "none"
    version = f"{facts['ServerVersion']}, {facts['Driver']}, control groups {facts.get('CgroupVersion', '1')}"
    yield Property("Docker engine", True, f"{version}, its own walls: {security}")
    limits = [name for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if not facts.get(name)]
    yield Property(
        "Docker limits",
        not limits,
        f"the engine can't set {', '.join(limits)}" if limits else "memory, processes and CPU",
        "mount the control groups of memory, pids and cpu for the engine" if limits else "",
    )
    tag = building.tag(image)
    yield Property(f"Docker image {image}", tag in tags, tag, f"python -m rewardkit_sandbox build {image}")
    runtimes = sorted(facts.get("Runtimes") or ())
    yield Property(
        "gVisor",
        "runsc" in runtimes,
        f"the engine's runtimes: {', '.join(runtimes)}",
        "only for another kernel between programs and this one: install runsc, then runtime='runsc'",
    )


def _bubblewrap(image: str) -> Iterator[Property]:
    program = shutil.which("bwrap")
    if program is None:
        yield Property("bubblewrap", False, "not installed", "apt-get install bubblewrap")
        return
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    yield Property("bubblewrap", said.returncode == 0, said.stdout.strip() or said.stderr.strip())
    walls = [
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
    ]
    tried = subprocess.run(
        [program, *walls, "/bin/true"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    yield Property(
        "user namespaces",
        tried.returncode == 0,
        "can be made" if tried.returncode == 0 else tried.stderr.strip() or f"exit code {tried.returncode}",
        "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0",
    )
    root = building.root(image)
    there = (root / "usr/bin/python3").exists()
    yield Property(f"root file system {image}", there, str(root), f"python -m rewardkit_sandbox build {image}")


def _control_groups() -> Property:
    group = cgroups.make(memory_mb=64, processes=8, cpus=1.0)
    version = 2 if (cgroups.ROOT / "cgroup.controllers").exists() else 1
    if group is None:
        return Property(
            "control groups for bubblewrap",
            False,
            f"version {version}, and this user may not make any: memory is bounded for each process alone",
            "run as root, or have memory, pids and cpu delegated (systemd-run --user --scope -p Delegate=yes)",
        )
    group.remove()
    return Property(
        "control groups for bubblewrap", True, f"version {version}: memory, processes and CPU of a whole box"
    )


def _filter() -> Property:
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


def _third_parties() -> Iterator[Property]:
    for name in registry.names():
        if name not in registry.BUILT_IN:
            try:
                registry.opener(name)
            except Unavailable as error:
                yield Property(f"backend {name}", False, str(error), "tell its author, or uninstall it")
            else:
                yield Property(f"backend {name}", True, "can be loaded; open_sandbox takes it by name")
