"""No hostile program gets what it is after, and every honest one passes: attacks.json on each backend."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import sandbox_attacks as attacks
from sandbox_support import BACKENDS, data, opened

from rewardkit_sandbox import Limits, Program, Stdin


@pytest.fixture(scope="module")
def canaries():
    guarded = attacks.Canaries()
    yield guarded
    guarded.close()


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "way"), [("docker", "fresh"), ("bubblewrap", "unit_tests")])
def test_all_attacks_hold(backend, way, canaries):
    """Verdict, wall time, host and next program are as each attack says; a process per test, or test code for assertions."""
    file = json.loads(data("code/attacks.json").read_text())
    limits = attacks.limits_of(file)
    # Several workers of one box each, so that the next program is in the box of the attack.
    workers = 4
    boxes = [opened(backend, slots=1, limits=limits) for _ in range(workers)]
    try:
        with ThreadPoolExecutor(workers) as executor:
            jobs = [
                executor.submit(lambda share, box: {a["name"]: attacks.breaches(box, a, file["problems"], canaries, limits, way) for a in share},
                                file["attacks"][number::workers], box)
                for number, box in enumerate(boxes)
            ]  # fmt: skip
        wrong = {name: found for job in jobs for name, found in job.result().items() if found}
    finally:
        for box in boxes:
            box.close()
    assert not wrong


def test_forging_in_a_shared_process(canaries):
    """One process for all tests forges as little as a process for each; what prevents it is the same for every backend."""
    file = json.loads(data("code/attacks.json").read_text())
    limits = attacks.limits_of(file)
    with opened("auto", slots=1, limits=limits) as box:
        chosen = [
            a
            for a in file["attacks"]
            if a["category"] in ("forge", "honest", "persistence", "leak") and a["must"]["max_wall_s"] <= 8
        ]
        wrong = {
            a["name"]: found
            for a in chosen
            if (found := attacks.breaches(box, a, file["problems"], canaries, limits, "shared"))
        }
    assert not wrong


OWN = {
    "message queues": "import os\nos.open('/dev/mqueue/x', os.O_CREAT | os.O_RDWR)\nprint('IN')",
    "terminals": "import os\nos.openpty()\nprint('IN')",
    "message queue call": "import ctypes, os\nl = ctypes.CDLL(None)\nprint('IN' if l.syscall(240, b'x', os.O_CREAT | 2, 0o600, None) >= 0 else '')",
    "shared memory": "import ctypes\nl = ctypes.CDLL(None)\nprint('IN' if l.shmget(1, 4096, 0o1600) >= 0 else '')",
    "keys": "import ctypes\nl = ctypes.CDLL(None)\nprint('IN' if l.syscall(250, 0, -3, 1) >= 0 else '')",
    "limits of the server": "import ctypes\nl = ctypes.CDLL(None)\nb = (ctypes.c_uint64 * 2)(0, 0)\nprint('IN' if l.prlimit(1, 7, b, None) == 0 else '')",
    "the server's memory": "open('/proc/1/mem', 'rb')\nprint('IN')",
    "the server's descriptors": "import os\nos.listdir('/proc/1/fd')\nprint('IN')",
    "signals to the server": "import os, signal\nfor s in range(1, 65):\n  try: os.kill(1, s)\n  except OSError: pass",
    "io_uring": "import ctypes\nl = ctypes.CDLL(None)\nb = ctypes.create_string_buffer(256)\nprint('IN' if l.syscall(425, 4, b) >= 0 else '')",
    "attributes": "import os\nos.setxattr('/tmp', 'user.x', b'1')\nprint('IN')",
    "32-bit calls": "import ctypes\nl = ctypes.CDLL(None)\nprint('IN' if l.syscall(0x40000000 + 39) > 0 else '')",
    "descriptors": "import os\nn = [f for f in range(4, 1024) if not os.path.exists('/proc/self/fd/%d' % f)]\nprint('IN' if len(n) < 1018 else '')",
    "time stamps": "import os\nos.utime('/tmp', (7, 7)) if os.stat('/tmp').st_uid == os.getuid() else None\nopen('/tmp/x', 'w')",
    "deep folders": "import os\nfor i in range(3000):\n  os.mkdir('d' * 200); os.chdir('d' * 200)\n  if i % 50 == 0: os.mkfifo('p'); os.symlink('/', 's')\nos.chmod('.', 0)",
    "locked folders": "import os\nfor i in range(50):\n  os.makedirs(f'/tmp/a{i}/b'); open(f'/tmp/a{i}/b/x', 'w'); os.chmod(f'/tmp/a{i}/b', 0); os.chmod(f'/tmp/a{i}', 0)\nopen(b'/tmp/\\xff\\n', 'w')",
    "stopped daemons": "import os, signal\nfor _ in range(20):\n  if os.fork() == 0:\n    os.setsid(); os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_attacks(backend):
    """Each of these ways to reach the server, or to leave something for the next program, is closed."""
    look = "import os\ns = os.stat('/tmp')\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'), s.st_mtime, oct(s.st_mode), len(os.listdir('/proc/self/fd')))"
    with opened(backend, slots=1, limits=Limits(cpu_s=2, wall_s=4)) as box:
        before = box.run(Program(look), [Stdin("")]).runs[0].text
        wrong = {}
        for name, source in OWN.items():
            run = box.run(Program(source), [Stdin("")]).runs[0]
            after = box.run(Program(look), [Stdin("")]).runs[0].text
            if "IN" in run.text or after != before:
                wrong[name] = (run, after)
        assert not wrong
        assert box.pool.replaced <= 1
