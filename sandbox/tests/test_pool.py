"""What the pool does when boxes, engines and owners die."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from sandbox_support import BACKENDS, REPOSITORY, opened

from rewardkit_sandbox import Closed, Limits, Program, SandboxError, Stdin
from rewardkit_sandbox.backends import cgroups
from rewardkit_sandbox.pool import Pool

ADD = Program("a, b = map(int, input().split())\nprint(a + b)\n")


def agents():
    """Fork servers of boxes on this machine, as host pids with the pid of the process that they came from."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if arguments[0] == b"/usr/bin/python3" and any(
                b"The first thing that runs in the box" in a for a in arguments
            ):
                found.append(int(folder.name))
    return found


def wait_for(condition, timeout_s):
    """Whether a condition became true in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def identities(box):
    """What ends one of a sandbox's boxes from outside: a container's id, or a bubblewrap pid."""
    return [slot.name.split()[1] for slot in list(box.pool._slots)]


def end(backend, identity):
    """Ends a box as if it had crashed."""
    if backend == "docker":
        subprocess.run(["docker", "kill", identity], capture_output=True, check=False)
    else:
        try:
            os.killpg(int(identity), signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_boxes_killed_under_load(backend):
    """Every program has exactly one result, and the right one, while boxes are killed at random."""
    count, workers = (2500, 4)
    results, errors = {}, []
    lock = threading.Lock()
    with opened(backend, slots=4, limits=Limits(cpu_s=10, wall_s=60)) as box:
        numbers = iter(range(count))
        done = threading.Event()

        def work():
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    run = box.run(ADD, [Stdin(f"{number} 1\n")]).runs[0]
                except SandboxError as error:
                    errors.append(error)
                    continue
                with lock:
                    results.setdefault(number, []).append(run.text)

        def chaos():
            chance = random.Random(7)
            while not done.wait(chance.uniform(0.2, 0.8)):
                names = identities(box)
                if names:
                    end(backend, chance.choice(names))

        threads = [threading.Thread(target=work) for _ in range(workers)]
        killer = threading.Thread(target=chaos)
        for thread in (*threads, killer):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        killer.join()
        replaced = box.pool.replaced
    assert not errors
    assert results == {number: [f"{number + 1}\n"] for number in range(count)}
    assert replaced >= 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("busy", [False, True])
def test_an_owner_that_is_killed_takes_its_boxes_along(backend, busy, tmp_path):
    """After SIGKILL of the owner, idle or with a program inside, no box is left within seconds."""
    opened(backend, slots=1).close()
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent(f"""
        from rewardkit_sandbox import open_sandbox, Program, Stdin, Limits
        box = open_sandbox({backend!r}, slots=2, limits=Limits(wall_s=60))
        print("ready", *[slot.name.split()[1] for slot in box.pool._slots], flush=True)
        {"box.run(Program('import time; time.sleep(50)'), [Stdin('')])" if busy else "input()"}
        """)
    )
    before = set(agents())
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout.readline().startswith("ready")
        assert len(set(agents()) - before) >= 2
        owner.kill()
        owner.wait()
        assert wait_for(lambda: not set(agents()) - before, 30)


def test_leftovers_of_dead_owners_are_swept():
    """Control groups whose owner is gone are removed by the next sandbox."""
    group = cgroups.make(memory_mb=64, processes=4, cpus=1)
    if group is None:
        pytest.skip("this user may not make control groups")
    renamed = []
    for folder in group.folders:
        label, _, token = folder.name.rpartition("-")
        parts = label.split(".")
        parts[-1] = "1"  # a start time that is not this process's
        (folder.parent / (".".join(parts) + "-" + token)).mkdir()
        renamed.append(folder.parent / (".".join(parts) + "-" + token))
    group.remove()
    assert cgroups.sweep() >= len(renamed)
    assert not any(folder.exists() for folder in renamed)


def test_waiting_callers_are_told_when_it_closes(sandbox):
    """A caller that waits for a box gets `Closed`, not silence."""
    pool = Pool(sandbox.pool.backend, 1)
    pool._slots.add(object())
    told = []

    def wait():
        try:
            pool.acquire()
        except Closed as error:
            told.append(error)

    pool._slots.clear()
    thread = threading.Thread(target=wait)
    thread.start()
    assert wait_for(lambda: len(pool._waiting) == 1, 5)
    pool._stop.set()
    pool.backend = type("Nothing", (), {"close": lambda self: None})()
    pool.close()
    thread.join(5)
    assert told


def test_closing_waits_for_boxes_that_are_being_started():
    """A box whose start is under way is ended before the backend gives back what the box still uses."""
    starting, go_on, events = threading.Event(), threading.Event(), []

    class Box:
        name, broken = "box", False

        def __init__(self, serial):
            self.serial = serial

        def alive(self):
            return True

        def close(self):
            events.append(f"box {self.serial} ended")

    class Backend:
        name = "slow"

        def open(self):
            pass

        def start(self, serial):
            if serial > 1:
                starting.set()
                assert go_on.wait(30)
            return Box(serial)

        def close(self):
            events.append("backend closed")

    pool = Pool(Backend(), 1)
    pool.open()
    slot = pool.acquire()
    slot.broken = True
    pool.release(slot)
    assert starting.wait(30)
    closing = threading.Thread(target=pool.close)
    closing.start()
    assert wait_for(lambda: pool._closed, 30)
    go_on.set()
    closing.join(30)
    assert events == ["box 1 ended", "box 2 ended", "backend closed"]


def test_boxes_are_handed_out_in_the_order_of_asking(sandbox):
    """Nobody overtakes: those who wait longest are served first."""
    slots = [sandbox.pool.acquire() for _ in range(sandbox.pool.size)]
    order, threads = [], []
    for number in range(6):

        def work(number=number):
            slot = sandbox.pool.acquire()
            order.append(number)
            sandbox.pool.release(slot)

        thread = threading.Thread(target=work)
        thread.start()
        threads.append(thread)
        assert wait_for(lambda number=number: len(sandbox.pool._waiting) == number + 1, 5)
    sandbox.pool.release(slots.pop())
    for thread in threads:
        thread.join(10)
    for slot in slots:
        sandbox.pool.release(slot)
    assert order == list(range(6))


def test_a_forked_child_leaves_the_boxes_alone(sandbox):
    """A process that was forked from the owner neither ends nor uses the owner's boxes."""
    pid = os.fork()
    if pid == 0:
        sandbox.pool.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert sandbox.run(ADD, [Stdin("1 2\n")]).runs[0].text == "3\n"


@pytest.mark.slow
@pytest.mark.skipif(
    "REWARDKIT_RESTART_ENGINE" not in os.environ,
    reason="stops the machine's Docker engine: set REWARDKIT_RESTART_ENGINE=1",
)
def test_an_engine_that_restarts():
    """A run goes on when the engine is stopped and started again, and every program has its one right result."""
    results, errors = {}, []
    with opened("docker", slots=2, limits=Limits(cpu_s=10, wall_s=60)) as box:

        def work(numbers):
            for number in numbers:
                try:
                    results.setdefault(number, []).append(box.run(ADD, [Stdin(f"{number} 1\n")]).runs[0].text)
                except SandboxError as error:
                    errors.append(error)

        threads = [threading.Thread(target=work, args=(range(start, 1000, 2),)) for start in range(2)]
        for thread in threads:
            thread.start()
        assert wait_for(lambda: len(results) > 50, 30)
        engine = int(Path("/var/run/docker.pid").read_text())
        os.kill(engine, signal.SIGTERM)
        assert wait_for(lambda: not Path("/var/run/docker.pid").exists(), 60)
        subprocess.run([REPOSITORY / ".ci/start-docker", "--no-build"], check=True, capture_output=True)
        for thread in threads:
            thread.join(120)
    assert not errors
    assert results == {number: [f"{number + 1}\n"] for number in range(1000)}
