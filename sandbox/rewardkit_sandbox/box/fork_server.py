"""The fork server: process 1 of the box. Puts up the confinement, runs one program at a time, and leaves nothing of it behind.

It never reads a submission: code, input and output are descriptors that it passes on, so its memory (which every child
inherits) holds nothing of another program. The host speaks to it over one SOCK_SEQPACKET socket, JSON with descriptors;
the end of that socket is the end of the box, and with it of every process inside.

Descriptors of the server: 3 and 4 placeholders, 5 the list of its children, 6 the memory group's events (both may be
placeholders), 7 and 8 the pipe on which a child reports that a wall could not be put up, 9 the control socket. Received ones
are therefore 10 and up: first the code, then what becomes 0, 1, 2 …
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, NoReturn

from rewardkit_box import program_process, scratch_folders, template  # type: ignore[import-not-found]

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME, MS_BIND = 1, 2, 4, 8, 32, 1024, 4096
CANCEL = b"x"
CHILDREN, OOM, FAULT_READ, FAULT_WRITE, CONTROL, FIRST_RECEIVED = 5, 6, 7, 8, 9, 10
MAX_DESCRIPTORS = 250
_START_S = 3.0
"""The time in which a template must become a case. One that a case of its program has stopped does not."""
_LIST_OF_CHILDREN = "/proc/self/task/1/children"
"""Not every kernel has it. Without it no template can be used."""
libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Confinement:
    """The isolation that a child takes on before it sees the program.

    The server sets once, for itself too, what children inherit (no_new_privs, the empty bounding set, the system call filter): a
    filter for each process would be compiled for each process.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.uid_base, self.uid_count, self.serial = config["uid_base"], config["uid_count"], 0
        self._zero, self._one = ctypes.c_ulong(0), ctypes.c_ulong(1)

    def next_uid(self) -> int:
        self.serial += 1
        return self.uid_base + self.serial % self.uid_count if self.uid_base else 0

    def enter(self, uid: int, limits: list[tuple[int, int, int]], own_uid: int = 0) -> None:
        """Isolate this child process. Afterwards it has no privilege and no way to regain one.

        With `own_uid` that is its real and its saved user. Processes of `uid` then can't send it signals, and it can take on `uid`.
        """
        zero, one = self._zero, self._one
        _check(libc.prctl(PR_SET_DUMPABLE, one, zero, zero, zero), "PR_SET_DUMPABLE")
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
        os.close(score)
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(own_uid or uid, uid, own_uid or uid)
            _check(libc.prctl(PR_SET_DUMPABLE, one, zero, zero, zero), "PR_SET_DUMPABLE")
        for which, soft, hard in limits:
            resource.setrlimit(which, (soft, hard))


def child(confinement: Confinement, uid: int, job: dict[str, Any], received: list[int], own_uid: int = 0) -> NoReturn:
    """Isolate this child, run its job, and end it."""
    streams, extra = job["streams"], received[1 + job["streams"] :]
    try:
        code = received[0]
        for target in range(streams):
            os.dup2(received[1 + target], target)
        os.closerange(received[streams] + 1 if not extra else received[-1] + 1, MAX_DESCRIPTORS + FIRST_RECEIVED + 8)
        for descriptor in received[1 : 1 + streams]:
            os.close(descriptor)
        os.chdir("/tmp")
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        if job["entry"] != "template":  # whose cases do it
            os.setsid()
            program_process.after_fork()
        confinement.enter(uid, job["limits"], own_uid)
    except BaseException as error:
        os.write(FAULT_WRITE, repr(error).encode()[:1000])
        os._exit(125)
    os.closerange(streams, FIRST_RECEIVED)
    try:
        if job["entry"] == "exec":
            program_process.execute(code, job)
        source = program_process.read_all(code)
        os.close(code)
        if job["entry"] == "template":
            template.run(source, extra[0], uid if own_uid else 0)
        program_process.ENTRIES[job["entry"]](source, extra)
    except BaseException:
        pass
    os._exit(124)


def reap(usage: list[float], own: int = 0) -> None:
    """Kill all other processes and wait for their end. Forks can't outrun kill(-1). What the process `own` used is not counted."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            pid, _, used = os.wait4(-1, 0)
        except ChildProcessError:
            return
        if pid == own:
            continue
        usage[0] += used.ru_utime + used.ru_stime
        usage[1] = max(usage[1], used.ru_maxrss)


def _fault() -> str:
    """Return the message of a child that could not be isolated; empty if there is none."""
    try:
        return os.read(FAULT_READ, 2000).decode("utf-8", "replace")
    except BlockingIOError:
        return ""


class Requests:
    """The requests of the host in their order. It may send the next one while a process runs, or a cancellation of that process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._waiting: deque[tuple[bytes, list[int]]] = deque()

    def _receive(self) -> tuple[bytes, list[int]]:
        packet, received, _, _ = socket.recv_fds(self._control, 65536, MAX_DESCRIPTORS)
        if not packet:
            os._exit(0)
        return packet, received

    def next(self) -> tuple[dict[str, Any], list[int]]:
        """Return the next request with its descriptors. A cancellation that comes here came after the end."""
        while True:
            packet, received = self._waiting.popleft() if self._waiting else self._receive()
            if not packet.startswith(CANCEL):
                return json.loads(packet), received

    def wait_for(self, descriptor: int, serial: int, seconds: float) -> str:
        """Wait until a descriptor is readable; return `exited` then, else `deadline`, or `cancelled` if the host wants the end."""
        cancellation = CANCEL + b"%d" % serial
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        deadline = time.monotonic() + seconds
        while events := poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            if any(ready == descriptor for ready, _ in events):
                return "exited"
            request = self._receive()
            if request[0] == cancellation:
                return "cancelled"
            self._waiting.append(request)
        return "deadline"


def run(requests: Requests, confinement: Confinement, job: dict[str, Any], received: list[int]) -> dict[str, Any]:
    """Run one job in a process, remove everything it left, and return the answer for the host."""
    uid = confinement.next_uid()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(confinement, uid, job, received)
    for descriptor in received:
        os.close(descriptor)
    watched = os.pidfd_open(pid)
    ended = requests.wait_for(watched, job["serial"], job["wall_s"])
    os.close(watched)
    if ended != "exited":
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - start
    usage = [used.ru_utime + used.ru_stime, used.ru_maxrss]
    reap(usage)
    return {"ended": ended, "status": status, "wall_s": wall, "cpu_s": usage[0], "rss_kb": usage[1], "fault": _fault()}


@dataclass(frozen=True)
class Template:
    """The process that becomes the next case of a program."""

    pid: int
    connection: socket.socket

    def is_alone(self) -> bool:
        """Return whether it is the only child of this process, living or dead."""
        return os.pread(CHILDREN, 4096, 0) == b"%d " % self.pid

    def end(self, usage: list[float]) -> None:
        """End it and every other process in the box."""
        self.connection.close()
        reap(usage, self.pid)


def start_template(
    requests: Requests, confinement: Confinement, job: dict[str, Any], received: list[int]
) -> tuple[Template | None, dict[str, Any]]:
    """Return a template that has compiled its program, or None if it ended without; and the answer for the host."""
    uid, own_uid = confinement.next_uid(), confinement.next_uid()
    start = time.monotonic()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    job["streams"] = 0
    if not uid:  # the template counts as a process of the same user as the case
        which = resource.RLIMIT_NPROC
        job["limits"] = [(name, soft + (name == which), hard + (name == which)) for name, soft, hard in job["limits"]]
    pid = os.fork()
    if pid == 0:
        ours.close()
        child(confinement, uid, job, [received[0], theirs.detach()], own_uid)
    theirs.close()
    for descriptor in received:
        os.close(descriptor)
    usage, made = [0.0, 0.0], Template(pid, ours)
    ended = requests.wait_for(ours.fileno(), job["serial"], job["wall_s"])
    ready = ended == "exited" and ours.recv(64) == template.READY and made.is_alone()
    if not ready:
        made.end(usage)
    answer = {"ended": ended, "status": 0 if ready else 256, "wall_s": time.monotonic() - start}
    answer |= {"cpu_s": usage[0], "rss_kb": usage[1], "fault": _fault()}
    return made if ready else None, answer


def run_case(
    requests: Requests, made: Template, job: dict[str, Any], received: list[int]
) -> tuple[Template | None, dict[str, Any]]:
    """Run one case of a template's program; return the template of the next case, or None, and the answer for the host.

    What a case leaves behind becomes a child of this process, as the first of the box, and no child of this process goes unless
    it is waited for. So nothing is left of the case if the next template is the only child. Otherwise everything is ended.
    """
    message, usage = b"", [0.0, 0.0]
    watched = os.pidfd_open(made.pid)
    try:
        socket.send_fds(made.connection, [job["entry"].encode()], received)
        if requests.wait_for(made.connection.fileno(), job["serial"], _START_S) == "exited":
            message = made.connection.recv(2048)
    except OSError:
        pass
    finally:
        for descriptor in received:
            os.close(descriptor)
    if not message.startswith(template.NEXT):
        os.close(watched)
        made.end(usage)
        if message.startswith(template.FAULT):
            return None, {"fault": message[len(template.FAULT) :].decode("utf-8", "replace")}
        return None, {"lost": True}
    following, start = Template(int(message[len(template.NEXT) :]), made.connection), time.monotonic()
    ended = requests.wait_for(watched, job["serial"], job["wall_s"])
    os.close(watched)
    if ended != "exited":
        os.kill(made.pid, signal.SIGKILL)
    _, status, used = os.wait4(made.pid, 0)
    wall = time.monotonic() - start
    usage = [used.ru_utime + used.ru_stime, used.ru_maxrss]
    kept: Template | None = following
    if not following.is_alone():
        following.end(usage)
        kept = None
    return kept, {"ended": ended, "status": status, "wall_s": wall, "cpu_s": usage[0], "rss_kb": usage[1], "fault": ""}


def _collected(name: str) -> list[int]:
    """Return a descriptor of the file that a compiler left; nothing if it can't be opened."""
    try:
        descriptor = os.open("/tmp/" + name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    return [descriptor]


def _mount(source: bytes | None, target: str, kind: bytes | None, flags: int, options: str) -> None:
    _check(libc.mount(source, target.encode(), kind, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def _drop_capabilities() -> None:
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    header = struct.pack("Ii", 0x20080522, 0)
    _check(libc.capset(header, bytes(24)), "capset")


def _set_up(config: dict[str, Any]) -> None:
    """Do what the backend leaves to be done from inside, and protect the server itself."""
    if os.getpid() != 1:
        raise SystemExit("the agent must be process 1 of a pid namespace: it ends programs with kill(-1)")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for target, options in config["mount_tmpfs"].items():
        _mount(b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME, options)
    for target in config["read_only"]:
        if os.path.exists(target):
            flags = MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC
            _mount(target.encode(), target, None, flags, "")
            _mount(None, target, None, flags | MS_REMOUNT | MS_RDONLY, "")
    if config["hide_processes"]:
        _mount(None, "/proc", None, MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")
    if config["drop_capabilities"]:
        _drop_capabilities()
    for capability in config["bounding"]:
        _check(libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0), "PR_CAPBSET_DROP")
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _check(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE")


def _filter_system_calls(code: bytes) -> None:
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(instructions)))
    mode, pointer = ctypes.c_ulong(2), ctypes.c_void_p(ctypes.addressof(program))
    _check(libc.prctl(PR_SET_SECCOMP, mode, pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)), "PR_SET_SECCOMP")


def _arrange_descriptors(connection: socket.socket) -> socket.socket:
    read, write = os.pipe2(os.O_NONBLOCK)
    sources = {CONTROL: connection.detach(), FAULT_READ: read, FAULT_WRITE: write, 0: os.open("/dev/null", os.O_RDWR)}
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        if os.access(path, os.R_OK):
            sources[OOM] = os.open(path, os.O_RDONLY)
    high = {target: os.dup2(source, 200 + target) for target, source in sources.items()}
    for descriptor in (0, 1, *range(3, CONTROL + 1)):
        os.dup2(high.get(descriptor, high[0]), descriptor, inheritable=False)
    os.closerange(FIRST_RECEIVED, 1024)
    return socket.socket(fileno=CONTROL)


def _oom_kills() -> int | None:
    """Return how often the kernel killed in the box's memory group; None if it can't be read from inside."""
    for line in os.pread(OOM, 4096, 0).splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return None


def _prepare(config: dict[str, Any]) -> tuple[Confinement, scratch_folders.ScratchFolders]:
    os.environ.clear()
    os.environ.update(config["environment"])
    _set_up(config)
    confinement, folders = Confinement(config), scratch_folders.ScratchFolders(config["scratch"])
    program_process.prepare(config["preimport"])
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # each fork copies the table of all pages
    if os.access(_LIST_OF_CHILDREN, os.R_OK):
        os.dup2(os.open(_LIST_OF_CHILDREN, os.O_RDONLY), CHILDREN, inheritable=False)
        os.closerange(FIRST_RECEIVED, 1024)
    _filter_system_calls(bytes.fromhex(config["seccomp"]))
    return confinement, folders


def main(connection: socket.socket, config: dict[str, Any]) -> NoReturn:
    """Serve until the host closes the connection."""
    control = _arrange_descriptors(connection)
    try:
        confinement, folders = _prepare(config)
    except Exception as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        raise
    ready = {"python": list(sys.version_info[:3]), "templates": os.access(_LIST_OF_CHILDREN, os.R_OK)}
    control.send(json.dumps(ready).encode())
    requests = Requests(control)
    made: Template | None = None
    while True:
        job, received = requests.next()
        if made is not None and not job.get("template"):
            made.end([0.0, 0.0])
            made = None
        if job["entry"] == "end":
            continue
        killed = _oom_kills()
        if job["entry"] == "template":
            made, answer = start_template(requests, confinement, job, received)
        elif not job.get("template"):
            answer = run(requests, confinement, job, received)
        elif made is not None:
            made, answer = run_case(requests, made, job, received)
        else:  # the case before it ended the template
            answer = {"lost": True}
            for descriptor in received:
                os.close(descriptor)
        if answer.get("status", 0) & 0x7F == signal.SIGKILL and answer["ended"] == "exited":
            answer["oom"] = None if killed is None else _oom_kills() != killed
        answer["template"] = made is not None
        files = _collected(job["collect"]) if job.get("collect") and answer["status"] == 0 else []
        socket.send_fds(control, [json.dumps(answer).encode()], files)
        for descriptor in files:
            os.close(descriptor)
        folders.wipe()
