"""The host's connection to one box, over which it runs one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from rewardkit_sandbox.errors import BoxDied, SandboxError
from rewardkit_sandbox.host import seccomp
from rewardkit_sandbox.types import Execution, Limits, Status

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
COMMON_MODULES = (
    "abc", "array", "bisect", "collections", "collections.abc", "contextlib", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math", "numbers", "operator",
    "queue", "random", "re", "statistics", "string", "struct", "textwrap", "time", "typing", "threading", "traceback",
)  # fmt: skip
GRACE_S = 5.0
_BUSY_READS = 200
_PAUSE_S = 0.001
"""The pause between reads after so many of them: a program that writes byte by byte must not keep this process busy."""
_CHUNK = 1 << 18
_CANCEL = b"x"


@cache
def bootstrap() -> str:
    """Return the source that `python3 -c` starts a box with."""
    return resources.files("rewardkit_sandbox.box").joinpath("boot.py").read_text()


@cache
def _sources() -> dict[str, str]:
    box = resources.files("rewardkit_sandbox.box")
    return {
        name: box.joinpath(f"{name}.py").read_text()
        for name in ("codec", "program_process", "unit_tests", "scratch_folders", "fork_server")
    }


def memory_file(data: bytes) -> int:
    """Return the descriptor of a sealed, anonymous file with these bytes, its offset at 0."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 0xF)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


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


def resource_limits(limits: Limits, *, address_space: bool) -> list[tuple[int, int, int]]:
    """Return (resource, soft, hard) for each limit of a process."""
    cpu, memory, file = math.ceil(limits.cpu_s), limits.memory_mb << 20, limits.file_mb << 20
    stack = min(memory, 256 << 20) // 2
    rows = [
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, file, file),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes, limits.processes),
        (resource.RLIMIT_CORE, 1, 1),  # 1, not 0: a core_pattern that pipes would still be run for 0
        (resource.RLIMIT_MEMLOCK, 65536, 65536),
        (resource.RLIMIT_STACK, stack, stack),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_SIGPENDING, 1024, 1024),
        (resource.RLIMIT_NICE, 0, 0),
        (resource.RLIMIT_RTPRIO, 0, 0),
    ]
    return [*rows, (resource.RLIMIT_AS, memory, memory)] if address_space else rows


@dataclass(frozen=True, slots=True)
class Job:
    """One process to run in a box."""

    entry: str
    """The action of the box: compile, script, call, batch, serve, unit_tests, or exec."""
    code: int
    """Descriptor of the source or binary."""
    limits: Limits
    stdin: int
    """Descriptor that becomes standard input."""
    result: bool = False
    """True if lines written to descriptor 3 are collected."""
    handed: tuple[int, ...] = ()
    """Descriptors that follow the streams (3 or 4 and up) and are closed on this side once the box has them."""
    extra: tuple[int, ...] = ()
    """Descriptors handed over as they are."""
    argv: tuple[str, ...] = ()
    file: str | None = None
    collect: str | None = None
    address_space: bool = True
    output_files: tuple[int, int] | None = None
    """Descriptors that become stdout and stderr instead of pipes."""
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    """For `exec`; Python programs have the box's own."""


@dataclass(slots=True)
class Outcome:
    """The result of a job."""

    execution: Execution
    result: bytes = b""
    """The text written to descriptor 3."""
    files: tuple[int, ...] = ()
    """Descriptors that came back: the file named by `Job.collect`."""


class BoxConnection:
    """A running box. One thread uses it at a time, and it is not used again after an error."""

    def __init__(
        self,
        name: str,
        connection: socket.socket,
        end: Callable[[], None],
        watch: Callable[[], Callable[[], bool]] | None = None,
    ) -> None:
        """Takes over a connection.

        Args:
            name: what it is called in messages.
            connection: the control socket.
            end: ends the box and gives back what it holds.
            watch: called before a program; what it returns is asked after a violent end whether the kernel killed in the
                box for want of memory since. None where the host can't tell.
        """
        self.name = name
        self._watch = watch or (lambda: lambda: False)
        self.broken = False
        self.python: tuple[int, ...] = ()
        self._connection = connection
        self._end = end
        self._lock = threading.Lock()
        self._ended = False
        self._running = False

    def start(self, config: BoxConfig, timeout_s: float = 20.0) -> None:
        """Send the fork server's source and wait until it is ready.

        Raises:
            BoxDied: it did not come up; the message has what it said.
        """
        self._connection.settimeout(timeout_s)
        bundle = memory_file(config.bundle())
        try:
            socket.send_fds(self._connection, [b"boot"], [bundle])
            packet = self._connection.recv(65536)
        except OSError as error:
            raise BoxDied(f"{self.name} did not start: {error}") from error
        finally:
            os.close(bundle)
        if not packet:
            raise BoxDied(f"{self.name} ended while starting")
        answer = json.loads(packet)
        if "error" in answer:
            raise BoxDied(f"{self.name} could not be set up: {answer['error']}")
        self.python = tuple(answer["python"])

    def alive(self) -> bool:
        """Return whether the box still has its end of the socket; nothing is sent."""
        with self._lock:
            if self.broken:
                return False
            poll = select.poll()
            poll.register(self._connection, select.POLLIN)
            return not poll.poll(0)

    def hang_up(self) -> None:
        """End the conversation, from any thread: a run in progress raises `BoxDied` at once. The box itself ends with `close`."""
        with self._lock:
            self.broken = True
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the box and everything in it. Idempotent, and allowed from any thread.

        A run in progress still polls the socket. It closes it itself, because the number of a descriptor closed here could
        already belong to something else when that thread polls again.
        """
        self.hang_up()
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if not self._running:
                self._connection.close()
        self._end()

    def forget(self) -> None:
        """Drop the socket in a forked child of the owner, so that only the owner keeps the box alive."""
        self._lock = threading.Lock()  # another thread may have held it at the fork
        with contextlib.suppress(OSError):
            os.close(self._connection.fileno())
        self._ended = self.broken = True

    def run(self, job: Job) -> Outcome:
        """Run one process, read its output, and wait for its end.

        Raises:
            BoxDied: the box ended or stopped answering; nothing is known about the program.
            SandboxError: The program could not be isolated, or this process has no descriptors left.
        """
        try:
            exchange = _Exchange(job)
        except OSError as error:
            raise SandboxError(f"this process is short of descriptors: {error}") from error
        try:
            with self._keep_open():
                return self._exchange(exchange)
        finally:
            exchange.close()

    @contextlib.contextmanager
    def _keep_open(self) -> Iterator[None]:
        """Keep the socket open for the length of a run, whoever closes the box meanwhile."""
        with self._lock:
            if self._ended:
                raise BoxDied(f"{self.name} is closed")
            self._running = True
        try:
            yield
        finally:
            self._stop_running()

    def _stop_running(self) -> None:
        with self._lock:
            self._running = False
            if self._ended:
                self._connection.close()

    def _exchange(self, exchange: _Exchange) -> Outcome:
        out_of_memory = self._watch()
        try:
            exchange.send(self._connection)
            exchange.pump(self._connection)
            if exchange.answer.get("oom", False) is None:
                exchange.answer["oom"] = out_of_memory()
            return exchange.outcome()
        except (_Ended, OSError, ValueError) as error:
            hung_up, self.broken = self.broken, True
            if not hung_up and out_of_memory():
                # The program was alone in the box: the kernel killed the box's server because the program used its memory.
                return Outcome(Execution("memory_limit", note=f"used more than {exchange.job.limits.memory_mb} MiB"))
            raise BoxDied(f"{self.name}: {error}") from error
        except SandboxError:
            self.broken = True
            raise


class _Ended(Exception):
    """The box hung up."""


class _Exchange:
    """The descriptors and buffers of one job while it runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.answer: dict[str, Any] = {}
        self.files: list[int] = []
        self.exceeded = False
        names = ([] if job.output_files else ["stdout", "stderr"]) + (["result"] if job.result else [])
        self.buffers = {name: bytearray() for name in names}
        self._theirs: list[int] = []
        self._readers: dict[int, str] = {}
        try:
            for name in names:
                read, write = os.pipe2(os.O_CLOEXEC)
                self._readers[read] = name
                self._theirs.append(write)
        except OSError:
            self._theirs += job.handed
            self.close()
            raise
        self._theirs += job.handed

    def send(self, connection: socket.socket) -> None:
        job = self.job
        streams = [job.stdin, *(job.output_files or ()), *self._theirs]
        message = {
            "entry": job.entry,
            "streams": len(streams),
            "limits": resource_limits(job.limits, address_space=job.address_space),
            "wall_s": job.limits.deadline_s,
        }
        if job.argv:
            message |= {
                "argv": job.argv,
                "file": job.file,
                "collect": job.collect,
                "environment": dict(job.environment),
            }
        connection.settimeout(GRACE_S)
        socket.send_fds(connection, [json.dumps(message).encode()], [job.code, *streams, *job.extra])
        self._close_theirs()

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def pump(self, connection: socket.socket) -> None:
        """Read until the fork server reports that every process has ended, and then the rest of the pipes."""
        control = connection.fileno()
        deadline = time.monotonic() + self.job.limits.deadline_s + GRACE_S
        poll = select.poll()
        poll.register(control, select.POLLIN)
        for descriptor in self._readers:
            poll.register(descriptor, select.POLLIN)
        cancelled = False
        reads = 0
        while not self.answer:
            reads += 1
            if reads > _BUSY_READS:
                time.sleep(_PAUSE_S)
            events = poll.poll(max(deadline - time.monotonic(), 0) * 1000)
            if not events:
                raise BoxDied("no answer after the deadline")
            for descriptor, _ in events:
                if descriptor == control:
                    packet, self.files, _, _ = socket.recv_fds(connection, 65536, 4)
                    if not packet:
                        raise _Ended("it ended with a program inside")
                    self.answer = json.loads(packet)
                    poll.unregister(control)
                elif not self._read(descriptor):
                    poll.unregister(descriptor)
            if self.exceeded and not cancelled and not self.answer:
                cancelled = True
                connection.send(_CANCEL)
        while events := poll.poll(0):
            for descriptor, _ in events:
                if not self._read(descriptor):
                    poll.unregister(descriptor)

    def _read(self, descriptor: int) -> bool:
        """Read the available output; return False at its end. Above the limit, stderr is dropped and other output ends the run."""
        data = os.read(descriptor, _CHUNK)
        name = self._readers[descriptor]
        buffer = self.buffers[name]
        room = self.job.limits.output_bytes - len(buffer)
        if len(data) <= room:
            buffer += data
        else:
            buffer += data[:room]
            self.exceeded |= name != "stderr"
        return bool(data)

    def outcome(self) -> Outcome:
        """Return the fork server's answer as an outcome.

        Raises:
            SandboxError: The program could not be isolated.
        """
        answer = self.answer
        if answer["fault"]:
            raise SandboxError(f"the box could not confine the program: {answer['fault']}")
        status, exit_code, note = _explain(answer, self.job.limits, exceeded=self.exceeded)
        execution = Execution(
            status=status,
            stdout=bytes(self.buffers.get("stdout", b"")),
            stderr=bytes(self.buffers.get("stderr", b"")),
            exit_code=exit_code,
            cpu_s=answer["cpu_s"],
            wall_s=answer["wall_s"],
            memory_kb=answer["rss_kb"],
            note=note,
        )
        files, self.files = tuple(self.files), []
        return Outcome(execution, bytes(self.buffers.get("result", b"")), files)

    def close(self) -> None:
        for descriptor in (*self._readers, *self._theirs, *self.files):
            os.close(descriptor)


def _explain(answer: Mapping[str, Any], limits: Limits, *, exceeded: bool) -> tuple[Status, int | None, str]:
    status = answer["status"]
    if exceeded:
        return "output_limit", None, f"wrote more than {limits.output_bytes} bytes"
    if answer["ended"] == "deadline":
        return "time_limit", None, f"timed out after {limits.deadline_s:g} s"
    if answer["cpu_s"] > math.ceil(limits.cpu_s) + 1:
        return "time_limit", None, f"used more than {limits.cpu_s:g} s of CPU"
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        return ("ok", 0, "") if code == 0 else ("error", code, f"exit code {code}")
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU or (number == signal.SIGKILL and answer["cpu_s"] >= limits.cpu_s):
        return "time_limit", None, f"used more than {limits.cpu_s:g} s of CPU"
    if answer.get("oom"):
        return "memory_limit", None, f"used more than {limits.memory_mb} MiB"
    if number == signal.SIGXFSZ:
        return "output_limit", None, f"wrote a file of more than {limits.file_mb} MiB"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return "killed", None, f"ended by signal {name}"
