"""Kernel resources that are counted for the machine or for a user: one program can't exhaust them for others."""

from pathlib import Path

import pytest

from rewardkit_sandbox import Limits, Program, Stdin

CALL = "import ctypes, os\nl = ctypes.CDLL(None)\nn = 0\ndef call(*a):\n  return l.syscall(*a)\n"
REFUSED = {
    "asynchronous I/O": "c = ctypes.c_ulong(0)\nfor n in (2000, 100, 1):\n  if call(206, n, ctypes.byref(c)) >= 0: print('IN')",
    "keys": "for i in range(300):\n  if call(248, b'user', b'k%d' % i, b'x' * 9, 9, -3) >= 0: print('IN')",
    "key rings": "if call(250, 1, b'mine') >= 0 or call(249, b'user', b'k', None, -3) >= 0: print('IN')",
    "inotify": "for n in (253, 294):\n  if call(n, 0) >= 0: print('IN')",
    "fanotify": "if call(300, 0, 0) >= 0: print('IN')",
    "userfaultfd": "if call(323, 0) >= 0 or call(323, 1) >= 0: print('IN')",
    "perf": "b = ctypes.create_string_buffer(128)\nb[4] = 128\nif call(298, b, 0, -1, -1, 0) >= 0: print('IN')",
    "bpf": "b = ctypes.create_string_buffer(128)\nif call(321, 0, b, 128) >= 0: print('IN')",
    "io_uring": "b = ctypes.create_string_buffer(256)\nif call(425, 4, b) >= 0: print('IN')",
    "message queues": "if call(240, b'x', os.O_CREAT | 2, 0o600, None) >= 0 or call(68, 1, 0o1600) >= 0: print('IN')",
    "semaphores": "if call(64, 1, 250, 0o1600) >= 0: print('IN')",
    "System V memory": "if call(29, 1, 4096, 0o1600) >= 0: print('IN')",
    "huge pages": "import mmap\ntry: mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000); print('IN')\nexcept OSError: pass\nif call(319, b'x', 4) >= 0: print('IN')",
    "pipe buffers": "import fcntl\nr, w = os.pipe()\ntry: fcntl.fcntl(w, 1031, 1 << 20); print('IN')\nexcept OSError: pass",
    "leases": "import fcntl\nf = open('/tmp/x', 'w')\ntry: fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('IN')\nexcept OSError: pass",
    "notifications": "import fcntl\nf = os.open('/tmp', os.O_RDONLY)\ntry: fcntl.fcntl(f, fcntl.F_NOTIFY, 1); print('IN')\nexcept OSError: pass",
    "locked memory": "if l.mlockall(3) == 0: print('IN')\nb = ctypes.create_string_buffer(1 << 20)\nif l.mlock(b, 1 << 20) == 0: print('IN')",
    "terminals": "try: os.openpty(); print('IN')\nexcept OSError: pass",
    "namespaces": "for f in (0x10000000, 0x20000, 0x40000000, 0x20000000):\n  if l.unshare(f) == 0: print('IN')",
    "swap": "if l.swapon(b'/tmp/x', 0) == 0: print('IN')",
}
COUNTED = {
    "processes": "try:\n  while n < 5000:\n    if os.fork() == 0: import time; time.sleep(9); os._exit(0)\n    n += 1\nexcept OSError: pass\nprint(n)",
    "descriptors": "try:\n  while n < 5000: os.dup(0); n += 1\nexcept OSError: pass\nprint(n)",
    "timers": "t = ctypes.c_void_p()\nwhile n < 5000 and l.timer_create(1, None, ctypes.byref(t)) == 0: n += 1\nprint(n)",
    "queued signals": "import signal\nsignal.pthread_sigmask(0, {34})\nwhile n < 5000 and l.sigqueue(os.getpid(), 34, None) == 0: n += 1\nprint(n)",
}
"""Programs that take as much as they get of what is needed by honest ones, and print how much that was."""


@pytest.mark.parametrize("name", REFUSED)
def test_refused(sandbox, name):
    """No program gets any of it."""
    done = sandbox.run(Program(CALL + REFUSED[name]), [Stdin("")]).runs[0]
    assert (done.status, done.text) == ("ok", ""), done


@pytest.mark.parametrize("name", COUNTED)
def test_counted(sandbox, name):
    """A program gets no more than its own limit, which is far below what the machine has."""
    limits = Limits(processes=32, open_files=64)
    done = sandbox.run(Program(CALL + COUNTED[name]), [Stdin("")], limits).runs[0]
    most = {"processes": 32, "descriptors": 64}.get(name, 1024)
    assert 0 < int(done.text) <= most


def test_the_machine_counts_nothing_more(sandbox):
    """While and after a program takes what it can, the machine's own counters stay as they were."""
    counter = Path("/proc/sys/fs/aio-nr")
    before = counter.read_text()
    seen = []
    attack = CALL + REFUSED["asynchronous I/O"]
    sandbox.run(Program(attack), [Stdin("")] * 2, stop=lambda *_: bool(seen.append(counter.read_text())))
    assert set(seen) == {before}


def test_writing_out_all_file_systems(sandbox):
    """`sync` succeeds and does nothing, however often it is called."""
    done = sandbox.run(Program("import os\nfor _ in range(100000): os.sync()\nprint('done')"), [Stdin("")]).runs[0]
    assert done.text == "done\n"
    assert done.wall_s < 5
