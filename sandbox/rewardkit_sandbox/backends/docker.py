"""Boxes as containers of a Docker engine on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit_sandbox.backends.pooled import BOX_CPUS, SERVER_MB, PooledBackend
from rewardkit_sandbox.errors import BoxDied, Unavailable
from rewardkit_sandbox.host import box_ownership
from rewardkit_sandbox.host.box_config import COMMON_MODULES, SERVER_ENVIRONMENT, BoxConfig, bootstrap
from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.images import building
from rewardkit_sandbox.protocol import SandboxOptions
from rewardkit_sandbox.types import Property

if TYPE_CHECKING:
    import docker

_EVENTS_S = 1.0
"""Seconds that the engine may take to report why a container ended."""
_PREFIX = "rewardkit-sandbox-"
LABEL = "rewardkit.sandbox.owner"
_CAPABILITIES = {"DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8}
"""The capabilities of the fork server: it changes users, ends programs and empties /tmp. Programs have none of them."""


def client(timeout_s: float = 60) -> docker.DockerClient:
    """Return a client of the engine that the environment names.

    Raises:
        Unavailable: no engine answers.
    """
    try:
        import docker
        import docker.errors
    except ImportError as error:
        raise Unavailable("the Docker SDK is not installed: pip install 'rewardkit-sandbox[docker]'") from error
    path = (os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").removeprefix("unix://")
    if path.startswith("/"):
        if not Path(path).exists():
            raise Unavailable(f"no Docker engine answers: there is no {path}")
        try:  # before the SDK does, which leaves its sockets open where nobody answers
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(timeout_s)
                probe.connect(path)
        except OSError as error:
            raise Unavailable(
                f"no Docker engine answers on {path} ({error.strerror or error}): is it running?"
            ) from error
    try:
        return docker.from_env(timeout=int(timeout_s))
    except docker.errors.DockerException as error:
        raise Unavailable(f"no Docker engine answers: {error}") from error


def is_engine_error(error: BaseException) -> bool:
    """Return whether an exception came from the engine or the connection to it."""
    return type(error).__module__.split(".")[0] in ("docker", "requests", "urllib3")


_COVERED = ("/dev/mqueue", "/dev/pts")
"""Message queues would outlive a program, terminals are limited for the whole host."""
_NOTHING = "ro,size=4k,nr_inodes=2,mode=555"


class DockerBackend(PooledBackend):
    """Containers without network, writable root, capabilities of use to a program, or a way to gain any."""

    name = "docker"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        image = options.image
        self.image = image if ":" in image or "/" in image else building.tag(image)
        self._folder = Path()

    def identity(self) -> str | None:
        """Return the id of the image; None without an engine or image."""
        try:
            engine = client()
        except Unavailable:
            return None
        try:
            return f"docker {engine.images.get(self.image).id}"
        except Exception as error:
            if is_engine_error(error):
                return None
            raise
        finally:
            engine.close()

    def diagnose(self) -> Iterator[Property]:
        """Check that an engine answers, that it supports the limits, and that it has the image."""
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
        yield Property("Docker engine", True, f"{version}, security options: {security}")
        missing = [name for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if not facts.get(name)]
        yield Property(
            "Docker limits",
            not missing,
            f"the engine can't set {', '.join(missing)}" if missing else "memory, processes and CPU",
            "mount the control groups of memory, pids and cpu for the engine" if missing else "",
        )
        name = self.options.image
        yield Property(
            f"Docker image {name}", self.image in tags, self.image, f"python -m rewardkit_sandbox build {name}"
        )
        runtimes = sorted(facts.get("Runtimes") or ())
        yield Property(
            "gVisor",
            "runsc" in runtimes,
            f"the engine's runtimes: {', '.join(runtimes)}",
            "only needed for a second kernel between programs and this one: install runsc, then runtime='runsc'",
        )

    def prepare(self) -> None:
        """Make sure that the engine and the image are there, and remove what dead owners left.

        Raises:
            Unavailable: they are not; the message says what to do.
        """
        import docker.errors

        engine = client()
        try:
            engine.images.get(self.image)
            sweep()
        except docker.errors.ImageNotFound as error:
            message = f"the engine has no image {self.image}: run python -m rewardkit_sandbox build"
            raise Unavailable(message) from error
        except Exception as error:
            if is_engine_error(error):
                raise Unavailable(f"the Docker engine does not answer as it should: {error}") from error
            raise
        finally:
            engine.close()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._folder.chmod(0o711)
        (self._folder / "owner").write_text(box_ownership.label())

    def close(self) -> None:
        """Remove the folder of sockets."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, serial: int) -> BoxConnection:
        """Return one box, ready for programs.

        Raises:
            BoxDied: it did not come up.
            Unavailable: the engine is not there.
        """
        folder = self._folder / str(serial)
        path = folder / "control"
        engine = client()
        container: Any = None
        box: BoxConnection | None = None
        try:
            folder.mkdir(mode=0o711, parents=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(str(path))
                path.chmod(0o666)
                listener.listen(1)
                container = engine.containers.create(self.image, **self._options(folder))
                container.start()
                connection = self._accept(listener, container)
            end = partial(_remove, container.id, folder)
            box = BoxConnection(
                f"container {container.short_id}", connection, end, partial(_memory_watch, container.id)
            )
            try:
                box.start(self._config())
            except BoxDied as error:
                raise BoxDied(f"{error}; {_logs(container)}") from error
            path.unlink()
            return box  # noqa: TRY300
        except Exception as error:
            if box is not None:
                box.close()
            elif container is not None:
                _remove(container.id, folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            if is_engine_error(error):
                raise BoxDied(f"the engine did not start a container: {error}") from error
            raise
        finally:
            engine.close()

    def _accept(self, listener: socket.socket, container: Any) -> socket.socket:
        listener.settimeout(0.5)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return listener.accept()[0]
            except TimeoutError:
                container.reload()
                if container.status not in ("created", "running"):
                    break
        raise BoxDied(f"the container did not connect; {_logs(container)}")

    def _config(self) -> BoxConfig:
        # Users of no other box: the kernel counts processes per user, across containers.
        base = 1_000_000_000 + 500 * secrets.randbelow(1_600_000)
        preimport = COMMON_MODULES if self.options.preimport is None else self.options.preimport
        return BoxConfig(
            memory_files=True, uid_base=base, uid_count=500, bounding=list(_CAPABILITIES.values()), preimport=preimport
        )

    def _options(self, folder: Path) -> dict[str, Any]:
        limits = self.options.limits
        memory = f"{limits.memory_mb + 2 * limits.scratch_mb + SERVER_MB}m"
        scratch = f"size={limits.scratch_mb}m,nr_inodes={limits.scratch_files},mode=1777,noatime,nosuid,nodev,noexec"
        return {
            "command": ["-c", bootstrap(), "/control/control"],
            "entrypoint": ["/usr/bin/python3", "-s", "-P"],
            "detach": True,
            "network_mode": "none",
            "read_only": True,
            "cap_drop": ["ALL"],
            "cap_add": list(_CAPABILITIES),
            "security_opt": ["no-new-privileges"],
            "mem_limit": memory,
            "memswap_limit": memory,
            "pids_limit": limits.processes + 2,
            "nano_cpus": int(BOX_CPUS * 1e9),
            "tmpfs": {"/tmp": scratch, "/dev/shm": scratch, **dict.fromkeys(_COVERED, _NOTHING)},
            "volumes": {
                str(folder): {"bind": "/control", "mode": "ro"},
                "/dev/null": {"bind": "/etc/resolv.conf", "mode": "ro"},
            },
            "environment": SERVER_ENVIRONMENT,
            "hostname": "sandbox",
            "labels": {LABEL: box_ownership.label()},
            "user": "0:0",
            "working_dir": "/",
            "ipc_mode": "private",
            "runtime": self.options.runtime,
            "log_config": {"Type": "json-file", "Config": {"max-size": "64k", "max-file": "1"}},
            "auto_remove": True,
        }


def _logs(container: Any) -> str:
    try:
        return f"it said: {container.logs(tail=20).decode('utf-8', 'replace').strip()[-1500:] or 'nothing'}"
    except Exception as error:
        if not is_engine_error(error):
            raise
        return "it left no log"


def _memory_watch(identity: str) -> Callable[[], bool]:
    """Return a function that says whether the kernel has killed in this container for lack of memory since now.

    The engine also remembers the events of removed containers.
    """
    since = time.time()

    def out_of_memory() -> bool:
        try:
            engine = client(timeout_s=20)
        except Unavailable:
            return False
        try:
            filters = {"container": identity, "event": "oom"}
            until = time.time() + _EVENTS_S  # fractions of seconds, which the annotations of the SDK do not know
            events: Any = engine.api.events
            return any(events(since=since, until=until, filters=filters))
        except Exception as error:
            if not is_engine_error(error):
                raise
            return False
        finally:
            engine.close()

    return out_of_memory


def _remove(identity: str, folder: Path) -> None:
    """Kill and remove a container. An engine that is stopped removes it when it starts again."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        engine = client(timeout_s=20)
    except Unavailable:
        return
    try:
        engine.api.remove_container(identity, force=True, v=True)
    except Exception as error:
        if not is_engine_error(error):
            raise
    finally:
        engine.close()


def sweep() -> int:
    """Remove containers and folders whose owner ended without removing them; return how many."""
    engine = client()
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if box_ownership.is_gone((folder / "owner").read_text()):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    try:
        for container in engine.api.containers(all=True, filters={"label": LABEL}):
            if box_ownership.is_gone(container["Labels"][LABEL]):
                with contextlib.suppress(Exception):
                    engine.api.remove_container(container["Id"], force=True, v=True)
                    removed += 1
    finally:
        engine.close()
    return removed
