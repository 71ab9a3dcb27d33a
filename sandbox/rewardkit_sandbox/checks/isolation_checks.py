"""Checks of a sandbox's isolation: for each property, a program in a box tries to violate it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from rewardkit_sandbox.errors import SandboxError
from rewardkit_sandbox.opening import open_sandbox
from rewardkit_sandbox.protocol import Sandbox
from rewardkit_sandbox.types import Execution, Limits, Program, Property, Stdin

_LOOK = """
import json, os, socket, sys
def attempt(work):
    try: work(); return True
    except Exception: return False
status = dict(l.split(":\\t", 1) for l in open("/proc/self/status").read().splitlines() if ":\\t" in l)
writable = []
for d, ds, fs in os.walk("/"):
    if d.split("/")[1] in ("proc", "sys", "tmp") or d.startswith("/dev/shm"): ds.clear(); continue
    if os.access(d, os.W_OK): writable.append(d)
import ctypes
c = ctypes.CDLL(None)
print(json.dumps({
    "python": "%d.%d.%d" % sys.version_info[:3],
    "capabilities": [status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"], "seccomp": status["Seccomp"], "uid": os.getuid(),
    "sockets": [f for f in (2, 10, 16, 17, 38, 40, 44) if attempt(lambda: socket.socket(f, 3 if f in (16, 17) else 1))],
    "interfaces": [l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]],
    "writable": [d for d in writable if d not in ("/dev/shm",)],
    "processes": [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())],
    "server": attempt(lambda: os.listdir("/proc/1/fd")) or attempt(lambda: open("/proc/1/mem", "rb")),
    "namespaces": c.unshare(0x10000000) == 0, "mount": c.mount(b"x", b"/tmp", b"tmpfs", 0, None) == 0,
    "environment": sorted(os.environ), "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
}))
"""
_DISK = """
import os
n = 0
try:
    with open("/tmp/fill", "wb") as f:
        for _ in range(512): f.write(b"x" * (1 << 20)); f.flush(); n += 1
except OSError: pass
os.path.exists("/tmp/fill") and os.unlink("/tmp/fill")
m = 0
try:
    for m in range(100000): open("/tmp/%d" % m, "w").close()
except OSError: pass
print(n, m)
"""
_PROCESSES = """
import os, time
n = 0
try:
    while n < 5000:
        if os.fork() == 0: time.sleep(30); os._exit(0)
        n += 1
except OSError: pass
print(n)
"""
_MEMORY = """
import os, time
children = []
for _ in range(8):
    told, tell = os.pipe()
    children.append(os.fork())
    if not children[-1]:
        x = bytearray(200 << 20)
        os.write(tell, b"x")
        time.sleep(60)
    os.close(tell)
    os.read(told, 1)
print(sum(os.waitpid(child, os.WNOHANG)[0] == 0 for child in children))
"""
_LEFT = """
import os
others = [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 1 and int(p) != os.getpid()]
print(os.listdir("/tmp"), os.listdir("/dev/shm"), others)
"""


def check_isolation(backend: str = "auto", image: str = "python") -> tuple[str, list[Property]]:
    """Open a sandbox, check its isolation, and return its description and the properties.

    Raises:
        SandboxError: none can be opened; the message says why.
    """
    limits = Limits(cpu_s=20, wall_s=120, memory_mb=512, file_mb=256)  # wide, so that a busy machine fails no check
    with open_sandbox(backend, slots=1, image=image, limits=limits) as sandbox:
        return sandbox.description, list(_properties(sandbox, limits))


def _run(sandbox: Sandbox, source: str, limits: Limits) -> Execution:
    return sandbox.run(Program(source), [Stdin("")], limits).runs[0]


def _properties(sandbox: Sandbox, limits: Limits) -> Iterator[Property]:
    looked = _run(sandbox, _LOOK, limits)
    if not looked.ok:
        raise SandboxError(
            f"the program that inspects the sandbox failed: {looked.note} {looked.stderr.decode('utf-8', 'replace')[-500:]}"
        )
    saw = json.loads(looked.text)
    yield Property(
        "no network",
        not saw["sockets"] and set(saw["interfaces"]) <= {"lo"},
        f"socket families {saw['sockets'] or 'none'}, interfaces {saw['interfaces']}",
    )
    yield Property(
        "read-only root", not saw["writable"], f"writable besides /tmp and /dev/shm: {saw['writable'] or 'nothing'}"
    )
    yield Property(
        "no capabilities",
        not any(int(text, 16) for text in saw["capabilities"]),
        " ".join(sorted(set(saw["capabilities"]))),
    )
    yield Property("no new privileges", saw["no_new_privs"] == "1", f"NoNewPrivs {saw['no_new_privs']}")
    yield Property(
        "system call filter",
        saw["seccomp"] == "2" and not saw["namespaces"] and not saw["mount"],
        "unshare and mount are refused",
    )
    yield Property("unprivileged user", saw["uid"] > 0, f"uid {saw['uid']}")
    yield Property("no other processes", not saw["processes"], f"besides its own: {saw['processes'] or 'none'}")
    yield Property("server out of reach", not saw["server"], "/proc/1/fd and /proc/1/mem are closed")
    yield Property("no inherited descriptors", saw["descriptors"] == [0, 1, 2], f"{saw['descriptors']}")
    allowed = {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_CTYPE",
        "PYTHONHASHSEED",
        "PYTHONDONTWRITEBYTECODE",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
    }
    yield Property("environment of its own", set(saw["environment"]) <= allowed, ", ".join(saw["environment"]))
    size, files = map(int, (_run(sandbox, _DISK, limits).text or "512 99999").split())
    yield Property("disk bounded", size <= limits.scratch_mb, f"{size} MiB and {files} files fitted into /tmp")
    yield Property("inodes bounded", files <= limits.scratch_files, f"{files} files")
    forked = _run(sandbox, _PROCESSES, limits)
    count = int(forked.text or 0)
    yield Property("processes bounded", 0 < count < limits.processes, f"{count} forks")
    memory = _run(sandbox, _MEMORY, limits)
    fitted = int(memory.text or 0)
    yield Property(
        "memory of all processes bounded",
        memory.ok and fitted < 8,
        f"{200 * fitted} MiB of 1600 fitted ({memory.status})",
        "use Docker, or let this user make control groups: as root, or systemd-run --user --scope -p Delegate=yes",
    )
    yield Property(
        "CPU bounded",
        _run(sandbox, "while True: pass", replace(limits, cpu_s=1)).status == "time_limit",
        "an endless loop was ended",
    )
    left = _run(sandbox, _LEFT, limits)
    yield Property("nothing left behind", left.text == "[] [] []\n", left.text.strip())
