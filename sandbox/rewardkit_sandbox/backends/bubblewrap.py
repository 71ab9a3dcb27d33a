"""Boxes made by bubblewrap from an unprivileged user's namespaces; no daemon and no privilege needed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from rewardkit_sandbox.backends import cgroups
from rewardkit_sandbox.backends.pooled import BOX_CPUS, SERVER_MB, PooledBackend
from rewardkit_sandbox.errors import BoxDied, Unavailable
from rewardkit_sandbox.host import box_ownership
from rewardkit_sandbox.host.box_config import COMMON_MODULES, SERVER_ENVIRONMENT, BoxConfig, bootstrap
from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.images import building
from rewardkit_sandbox.protocol import SandboxOptions
from rewardkit_sandbox.types import Property

OWNER = "REWARDKIT_SANDBOX_OWNER"
_UID = 1_900_000_000
"""Root starts boxes as a user of their own from here on: root in a user namespace would still own the host's files."""


class BubblewrapBackend(PooledBackend):
    """User, pid, network, ipc, uts and mount namespaces over a read-only root of their own."""

    name = "bubblewrap"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        image = options.image
        self.root = None if image == "host" else Path(image) if os.sep in image else building.root(image)
        """The root file system; None takes the host's /usr, read-only."""
        self._program = "bwrap"
        self._grouped = False
        """True if control groups could be made when it was opened. Then every box must have one."""

    def refuse(self) -> str | None:
        """Return an error message if the options are not valid, otherwise None."""
        if self.options.runtime is not None:
            return "a runtime is an option of the Docker backend"
        return super().refuse()

    def identity(self) -> str | None:
        """Return the path of the root file system and the time it was made: it is replaced whole, and read-only to programs."""
        if self.root is None:
            return f"bubblewrap host {sys.version}"
        try:
            made = (self.root / "usr/bin/python3").stat().st_ctime_ns
        except OSError:
            return None
        return f"bubblewrap {self.root.resolve()} {made}"

    def diagnose(self) -> Iterator[Property]:
        """Yield whether bubblewrap is installed, namespaces and control groups can be made, and the root file system is there."""
        program = shutil.which("bwrap")
        if program is None:
            yield Property("bubblewrap", False, "not installed", "apt-get install bubblewrap")
        else:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            yield Property("bubblewrap", said.returncode == 0, said.stdout.strip() or said.stderr.strip())
            namespaces = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
            tried = subprocess.run(
                [program, *namespaces, "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"],
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            yield Property(
                "user namespaces",
                tried.returncode == 0,
                "can be made" if tried.returncode == 0 else tried.stderr.strip() or f"exit code {tried.returncode}",
                "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
                "kernel.apparmor_restrict_unprivileged_userns=0",
            )
            if self.root is not None:
                has_root = (self.root / "usr/bin/python3").exists()
                name = self.options.image
                remedy = f"python -m rewardkit_sandbox build {name}"
                yield Property(f"root file system {name}", has_root, str(self.root), remedy)
        yield cgroups.diagnose()

    def prepare(self) -> None:
        """Make sure that bubblewrap and the root are there, and remove what dead owners left.

        Raises:
            Unavailable: they are not; the message says what to do.
        """
        program = shutil.which("bwrap")
        if program is None:
            raise Unavailable("bubblewrap is not installed: apt-get install bubblewrap")
        self._program = program
        if self.root is not None and not (self.root / "usr/bin/python3").exists():
            raise Unavailable(f"there is no root file system in {self.root}: run python -m rewardkit_sandbox build")
        sweep()
        group = cgroups.make(memory_mb=64, processes=4, cpus=BOX_CPUS)
        self._grouped = group is not None
        if group is not None:
            group.remove()

    def close(self) -> None:
        """Do nothing: the boxes share nothing."""

    def start(self, serial: int) -> BoxConnection:  # noqa: ARG002  the protocol's
        """Return one box, ready for programs.

        Raises:
            BoxDied: it did not come up.
        """
        with contextlib.ExitStack() as undo:
            box = self._start(undo)
            undo.pop_all()
        return box

    def _start(self, undo: contextlib.ExitStack) -> BoxConnection:
        limits = self.options.limits
        group = None
        if self._grouped:
            memory = limits.memory_mb + 2 * limits.scratch_mb + SERVER_MB
            group = cgroups.make(memory_mb=memory, processes=limits.processes + 4, cpus=BOX_CPUS)
            if group is None:
                raise BoxDied("its control group could not be made")
            undo.callback(group.remove)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undo.enter_context(ours)
        complaints = undo.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  lives as long as the box
        with theirs:
            told, tell = os.pipe()
            with os.fdopen(told, "rb") as info:
                try:
                    process = self._process(theirs.fileno(), tell, complaints)
                finally:
                    os.close(tell)
                end = partial(_end, process, group, complaints)
                box = BoxConnection(f"bubblewrap {process.pid}", ours, end, group.watch if group is not None else None)
                undo.callback(box.close)
                facts = info.read()
                if group is not None and facts:
                    group.add(json.loads(facts)["child-pid"])
        scratch = f"size={limits.scratch_mb}m,nr_inodes={limits.scratch_files},mode=1777"
        try:
            box.start(
                BoxConfig(
                    memory_files=group is not None,
                    mount_tmpfs={"/tmp": scratch, "/dev/shm": scratch},
                    read_only=("/proc/sys", "/proc/irq", "/proc/fs", "/proc/bus", "/proc/pressure"),
                    hide_processes=True,
                    drop_capabilities=True,
                    preimport=COMMON_MODULES if self.options.preimport is None else self.options.preimport,
                )
            )
        except BoxDied as error:
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip()[-1500:]
            raise BoxDied(f"{error}; it said: {said or 'nothing'}") from error
        return box

    def _process(self, control: int, tell: int, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        user = _UID + secrets.randbelow(100_000_000)
        identity: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if os.getuid() == 0 else {}
        python = ["/usr/bin/python3", "-s", "-P", "-c", bootstrap(), str(control)]
        return subprocess.Popen(
            [self._program, "--info-fd", str(tell), *self._arguments(), *python],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            pass_fds=[control, tell],
            env={},
            start_new_session=True,
            **identity,
        )

    def _arguments(self) -> list[str]:
        flags = [
            "--unshare-user",
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-uts",
            "--unshare-cgroup-try",
            "--as-pid-1",
        ]
        flags += [
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--hostname",
            "sandbox",
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CAP_SYS_ADMIN",
            "--cap-add",
            "CAP_SETPCAP",
        ]
        # The owner is for `sweep`, which reads this command line; it must not be in the box's own environment.
        flags += ["--setenv", OWNER, box_ownership.label(), "--clearenv"]
        for key, value in SERVER_ENVIRONMENT.items():
            flags += ["--setenv", key, value]
        if self.root is not None:
            files = ["--ro-bind", str(self.root), "/"]
        else:
            files = ["--ro-bind", "/usr", "/usr", "--dir", "/etc"]
            for name in ("bin", "sbin", "lib", "lib64", "lib32"):
                path = Path("/", name)
                if path.is_symlink():
                    files += ["--symlink", str(path.readlink()), str(path)]
                elif path.is_dir():
                    files += ["--ro-bind", str(path), str(path)]
            for name in ("ld.so.cache", "alternatives"):
                files += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        # bubblewrap's own --dev would need a second user namespace, from which the agent could not mount /tmp.
        files += ["--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev", "--dir", "/dev/shm"]
        for name in ("null", "zero", "full", "random", "urandom"):
            files += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        for name, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
            files += ["--symlink", f"/proc/self/{target}", f"/dev/{name}"]
        files += ["--remount-ro", "/dev", "--chdir", "/"]
        if self.root is None:
            files += ["--remount-ro", "/"]
        return [*flags, *files]


def _end(process: subprocess.Popen[bytes], group: cgroups.Group | None, complaints: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    complaints.close()
    if group is not None:
        group.remove()


def sweep() -> int:
    """End boxes whose owner ended without ending them; return how many."""
    removed = cgroups.sweep()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if b"--setenv" in arguments and OWNER.encode() in arguments and Path(arguments[0].decode()).name == "bwrap":
                label = arguments[arguments.index(OWNER.encode()) + 1].decode()
                if box_ownership.is_gone(label):
                    os.kill(int(folder.name), signal.SIGKILL)
                    removed += 1
    return removed
