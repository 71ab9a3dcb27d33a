"""One process in a box, as the host sees it: what it is asked for, its output, and its outcome."""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewardkit_sandbox.errors import BoxDied, SandboxError
from rewardkit_sandbox.host.box_config import ENVIRONMENT
from rewardkit_sandbox.types import Execution, Limits, Status

GRACE_S = 5.0
_BUSY_READS = 200
_PAUSE_S = 0.001
"""The pause between reads after so many of them: a program that writes byte by byte must not keep this process busy."""
_SOON_MS = 10
"""For so long the output of a process is left in its pipes: reading it when it ends wakes this process once."""
_CHUNK = 1 << 18
_CANCEL = b"x"


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
    """The action of the box: script, call, batch, serve, unit_tests, exec, or template, which prepares a program for its cases."""
    code: int
    """Descriptor of the source or binary. A case of a template needs none."""
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
    of_template: bool = False
    """True if it is a case of the program that a `template` has prepared in this box."""


@dataclass(slots=True)
class Outcome:
    """The result of a job."""

    execution: Execution
    result: bytes = b""
    """The text written to descriptor 3."""
    files: tuple[int, ...] = ()
    """Descriptors that came back: the file named by `Job.collect`."""
    is_known: bool = True
    """False if the template that should have run the case ended before, so that nothing is known about the case."""


class Ended(Exception):
    """The box hung up."""


class Exchange:
    """The descriptors and buffers of one job while it runs."""

    def __init__(self, job: Job, serial: int, out_of_memory: Callable[[], bool]) -> None:
        self.job = job
        self.serial = serial
        self.out_of_memory = out_of_memory
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
        """Ask the box for the process, and give it the descriptors of its streams."""
        job = self.job
        streams = [job.stdin, *(job.output_files or ()), *self._theirs]
        message: dict[str, Any] = {"entry": job.entry, "serial": self.serial, "wall_s": job.limits.deadline_s}
        if job.of_template:
            message["template"] = True
        else:
            message["streams"] = len(streams)
            message["limits"] = resource_limits(job.limits, address_space=job.address_space)
        if job.argv:
            message |= {
                "argv": job.argv,
                "file": job.file,
                "collect": job.collect,
                "environment": dict(job.environment),
            }
        connection.settimeout(GRACE_S)
        code = () if job.of_template else (job.code,)
        socket.send_fds(connection, [json.dumps(message).encode()], [*code, *streams, *job.extra])
        self._close_theirs()

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def cancel(self, connection: socket.socket) -> None:
        """Ask the box to end the process."""
        connection.send(_CANCEL + b"%d" % self.serial)

    def pump(self, connection: socket.socket) -> None:
        """Read until the fork server reports that every process has ended, and then the rest of the pipes."""
        deadline = time.monotonic() + self.job.limits.deadline_s + GRACE_S
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        # Most processes end soon, with less output than a pipe holds. It is then read at once.
        if not poll.poll(_SOON_MS):
            for descriptor in self._readers:
                poll.register(descriptor, select.POLLIN)
            self._read_while_it_runs(connection, poll, deadline)
        self._receive(connection)
        poll.unregister(connection)
        for descriptor in self._readers:
            poll.register(descriptor, select.POLLIN)
        while events := poll.poll(0):
            for descriptor, _ in events:
                if not self._read(descriptor):
                    poll.unregister(descriptor)

    def _read_while_it_runs(self, connection: socket.socket, poll: select.poll, deadline: float) -> None:
        """Read output until the fork server's answer is there."""
        cancelled = False
        reads = 0
        while True:
            reads += 1
            if reads > _BUSY_READS:
                time.sleep(_PAUSE_S)
            events = poll.poll(max(deadline - time.monotonic(), 0) * 1000)
            if not events:
                raise BoxDied("no answer after the deadline")
            ready = [descriptor for descriptor, _ in events]
            if connection.fileno() in ready:
                return
            for descriptor in ready:
                if not self._read(descriptor):
                    poll.unregister(descriptor)
                    del self._readers[descriptor]
                    os.close(descriptor)
            if self.exceeded and not cancelled:
                cancelled = True
                self.cancel(connection)

    def _receive(self, connection: socket.socket) -> None:
        packet, self.files, _, _ = socket.recv_fds(connection, 65536, 4)
        if not packet:
            raise Ended("it ended with a program inside")
        self.answer = json.loads(packet)

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
        if answer.get("lost"):
            return Outcome(Execution("not_run"), is_known=False)
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
        """Close all descriptors. Idempotent."""
        for descriptor in (*self._readers, *self._theirs, *self.files):
            os.close(descriptor)
        self._readers, self._theirs, self.files = {}, [], []


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
