"""The fork server: process 1 of the box. Puts up the confinement, runs one program at a time, and leaves nothing of it behind.

It never reads a submission: code, input and output are descriptors that it passes on, so its memory (which every child
inherits) holds nothing of another program. The host speaks to it over one SOCK_SEQPACKET socket, JSON with descriptors;
the end of that socket is the end of the box, and with it of every process inside.

Descriptors of the server: 3 to 5 placeholders, 6 the memory group's events (or a placeholder), 7 and 8 the pipe on which
a child reports that a wall could not be put up, 9 the control socket. Received ones are therefore 10 and up: first the
code, then what becomes 0, 1, 2 …
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
from typing import Any, NoReturn

from rewardkit_box import program_process, scratch_folders  # type: ignore[import-not-found]

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME, MS_BIND = 1, 2, 4, 8, 32, 1024, 4096
OOM, FAULT_READ, FAULT_WRITE, CONTROL, FIRST_RECEIVED = 6, 7, 8, 9, 10
MAX_DESCRIPTORS = 250
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

    def enter(self, uid: int, limits: list[tuple[int, int, int]]) -> None:
        """Isolate this child process. Afterwards it has no privilege and no way to regain one."""
        zero, one = self._zero, self._one
        os.setsid()
        _check(libc.prctl(PR_SET_DUMPABLE, one, zero, zero, zero), "PR_SET_DUMPABLE")
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
        os.close(score)
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            _check(libc.prctl(PR_SET_DUMPABLE, one, zero, zero, zero), "PR_SET_DUMPABLE")
        for which, soft, hard in limits:
            resource.setrlimit(which, (soft, hard))


def child(confinement: Confinement, uid: int, job: dict[str, Any], received: list[int]) -> NoReturn:
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
        confinement.enter(uid, job["limits"])
        program_process.after_fork()
    except BaseException as error:
        os.write(FAULT_WRITE, repr(error).encode()[:1000])
        os._exit(125)
    os.closerange(streams, FIRST_RECEIVED)
    try:
        if job["entry"] == "exec":
            program_process.execute(code, job)
        source = program_process.read_all(code)
        os.close(code)
        program_process.ENTRIES[job["entry"]](source, extra)
    except BaseException:
        pass
    os._exit(124)


def reap(usage: list[float]) -> None:
    """Kill all other processes and wait for their end. Forks can't outrun kill(-1)."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            _, _, used = os.wait4(-1, 0)
        except ChildProcessError:
            return
        usage[0] += used.ru_utime + used.ru_stime
        usage[1] = max(usage[1], used.ru_maxrss)


def run(control: socket.socket, confinement: Confinement, job: dict[str, Any], received: list[int]) -> dict[str, Any]:
    """Run one job in a process, remove everything it left, and return the answer for the host."""
    uid = confinement.next_uid()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(confinement, uid, job, received)
    for descriptor in received:
        os.close(descriptor)
    ended = "exited"
    watched = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(control, select.POLLIN)
    events = poll.poll(job["wall_s"] * 1000)
    if not events:
        ended = "deadline"
    elif all(descriptor != watched for descriptor, _ in events):
        ended = "cancelled"
        if not control.recv(64):
            os._exit(0)
    os.close(watched)
    if ended != "exited":
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - start
    usage = [used.ru_utime + used.ru_stime, used.ru_maxrss]
    reap(usage)
    try:
        fault = os.read(FAULT_READ, 2000).decode("utf-8", "replace")
    except BlockingIOError:
        fault = ""
    return {"ended": ended, "status": status, "wall_s": wall, "cpu_s": usage[0], "rss_kb": usage[1], "fault": fault}


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
    control.send(json.dumps({"python": list(sys.version_info[:3])}).encode())
    while True:
        packet, received, _, _ = socket.recv_fds(control, 65536, MAX_DESCRIPTORS)
        if not packet:
            os._exit(0)
        if packet == b"x":  # a cancellation that came after the end
            continue
        job = json.loads(packet)
        killed = _oom_kills()
        answer = run(control, confinement, job, received)
        if answer["status"] & 0x7F == signal.SIGKILL and answer["ended"] == "exited":
            answer["oom"] = None if killed is None else _oom_kills() != killed
        files = _collected(job["collect"]) if job.get("collect") and answer["status"] == 0 else []
        socket.send_fds(control, [json.dumps(answer).encode()], files)
        for descriptor in files:
            os.close(descriptor)
        folders.wipe()
