"""The pool replaces boxes that die, and ends when its engine or owner does."""

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import shutil
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sandbox_support import BACKENDS, REPOSITORY, opened

from rewardkit_sandbox import Call, Closed, Limits, Program, SandboxError, Stdin, Tests, open_sandbox
from rewardkit_sandbox.host import box_ownership
from rewardkit_sandbox.backends import cgroups
from rewardkit_sandbox.host.pool import Pool

PROGRAMS = {"docker": 100, "bubblewrap": 200}
"""The number of programs that run while boxes are killed; REWARDKIT_KILL_PROGRAMS changes it, as in REWARDKIT_KILL_PROGRAMS=2000."""
ADD = Program("a, b = map(int, input().split())\nprint(a + b)\n")


def servers(backend, names):
    """The host's pids of the fork servers in boxes of these names (see `identities`)."""
    if backend == "docker":
        inspected = ["docker", "inspect", "-f", "{{.State.Pid}}", *names]
        return set(subprocess.run(inspected, capture_output=True, text=True, check=True).stdout.split())
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent in names:
            found.add(folder.name)
    return found


def wait_for(condition, timeout_s):
    """Wait until a condition is true. Return False after a time-out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def identities(box):
    """Return a handle to kill one of a sandbox's boxes from outside: a container's id, or a bubblewrap pid."""
    return [box.name.split()[1] for box in list(box.pool._boxes)]


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
    count, workers = int(os.environ.get("REWARDKIT_KILL_PROGRAMS", PROGRAMS[backend])), 4
    results, errors, ended = {}, [], set()
    lock = threading.Lock()
    with opened(backend, slots=4, limits=Limits(cpu_s=10, wall_s=60)) as box:
        numbers = iter(range(100 * count))
        done = threading.Event()

        def work():
            while True:
                with lock:
                    number = next(numbers)
                if number >= count and (
                    len(ended) > 5 or number >= 99 * count
                ):  # enough kills, however fast the machine is
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
            due = 5
            while not done.wait(0.01):
                if len(results) < due:
                    continue
                due = len(results) + chance.randrange(3, 15)
                if names := set(identities(box)) - ended:
                    name = chance.choice(sorted(names))
                    end(backend, name)
                    ended.add(name)

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
    assert len(results) >= count
    assert all(found == [f"{number + 1}\n"] for number, found in results.items())
    assert len(ended) > 5
    assert replaced >= len(ended) - 4  # the last may have been ended when nobody asked for them any more


@pytest.mark.parametrize(("backend", "busy"), [("docker", True), ("bubblewrap", False), ("bubblewrap", True)])
def test_an_owner_that_is_killed_takes_its_boxes_along(backend, busy, tmp_path):
    """After SIGKILL of the owner, idle or with a program inside, no box is left within seconds."""
    opened(backend, slots=1).close()
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent(f"""
        from rewardkit_sandbox import open_sandbox, Program, Stdin, Limits
        box = open_sandbox({backend!r}, slots=2, limits=Limits(wall_s=60))
        print("ready", *[box.name.split()[1] for box in box.pool._boxes], flush=True)
        {"box.run(Program('import time; time.sleep(50)'), [Stdin('')])" if busy else "input()"}
        """)
    )
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    with owner:
        ready, *names = owner.stdout.readline().split()
        assert ready == "ready"
        pids = servers(backend, names)
        assert len(pids) == 2
        owner.kill()
        owner.wait()
        assert wait_for(lambda: not any(Path("/proc", pid).exists() for pid in pids), 30)


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
    pool._boxes.add(object())
    told = []

    def wait():
        try:
            pool.acquire()
        except Closed as error:
            told.append(error)

    pool._boxes.clear()
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

        def prepare(self):
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
    box = pool.acquire()
    box.broken = True
    pool.release(box)
    assert starting.wait(30)
    closing = threading.Thread(target=pool.close)
    closing.start()
    assert wait_for(lambda: pool._closed, 30)
    go_on.set()
    closing.join(30)
    assert events == ["box 1 ended", "box 2 ended", "backend closed"]


class Failing:
    """A backend that some failures of this machine stand before: a number of starts raise, then it works."""

    def __init__(self, backend, errors):
        self.backend, self.name, self.errors = backend, backend.name, errors

    def start(self, serial):
        if self.errors:
            raise self.errors.pop()
        return self.backend.start(serial)

    def open(self):
        self.backend.open()

    def close(self):
        self.backend.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_box_is_lost_when_starting_one_fails(backend):
    """If starting a box raises an exception, whatever it is, it is tried again, and the pool has all its boxes in the end."""
    errors = [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        ValueError("a bug in a backend"),
    ]
    with opened(backend, slots=2) as box:
        box.pool.backend = Failing(box.pool.backend, errors)
        for identity in identities(box):
            end(backend, identity)
        for number in range(4):
            assert box.run(ADD, [Stdin(f"{number} 1\n")]).runs[0].text == f"{number + 1}\n"
        assert not box.pool.backend.errors
        assert wait_for(lambda: len(box.pool._boxes) == 2, 30)


@pytest.mark.parametrize("backend", BACKENDS)
def test_boxes_that_never_come_up_are_told(backend):
    """A disk that stays full ends in an error for those who wait, which says why; and once there is room, it goes on."""
    with opened(backend, slots=1) as box:
        box.pool._patience_s = 0.3
        real = box.pool.backend
        box.pool.backend = Failing(real, [OSError(errno.ENOSPC, "No space left on device")] * 100_000)
        for identity in identities(box):
            end(backend, identity)
        with pytest.raises(SandboxError, match="No space left on device"):
            box.run(ADD, [Stdin("1 2\n")])
        box.pool.backend.errors.clear()
        assert wait_for(lambda: len(box.pool._boxes) == 1, 30)
        assert box.run(ADD, [Stdin("1 2\n")]).runs[0].text == "3\n"


def test_a_thread_that_can_not_be_started(sandbox, monkeypatch):
    """A process that may have no more threads replaces a box in the caller's thread."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    box = sandbox.pool.acquire()
    box.broken = True
    monkeypatch.setattr(threading.Thread, "start", refuse)
    sandbox.pool.release(box)
    monkeypatch.undo()
    assert len(sandbox.pool._boxes) == sandbox.pool.size


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_without_descriptors(backend, tmp_path):
    """With no descriptor left a run is a failure of ours, never the program's; with some again, it goes on."""
    opened(backend, slots=1).close()
    script = tmp_path / "short.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, resource
        from rewardkit_sandbox import Program, SandboxError, Stdin, Tests, open_sandbox
        with open_sandbox({backend!r}, slots=1) as box:
            program, tests = Program("def f(): return 1"), Tests("assert f() == 1")
            assert box.run_tests(program, tests).passed
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            used = max(map(int, os.listdir("/proc/self/fd")))
            for limit in range(3, used + 12):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
                for work in (lambda: box.run(program, [Stdin("")]).runs[0].ok, lambda: box.run_tests(program, tests).passed):
                    try:
                        assert work(), limit
                    except SandboxError as error:
                        print("ours")
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            assert box.run_tests(program, tests).passed
            print(len(os.listdir("/proc/self/fd")) <= used + 4)
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "ours" in done.stdout
    assert done.stdout.endswith("True\n")


@pytest.mark.parametrize("backend", BACKENDS)
def test_unit_tests_take_one_box_of_the_pool(backend):
    """A program that hangs under test code leaves the pool's other boxes to others; a sandbox of one box can run unit tests."""
    hangs = Program("import time\ndef f(): time.sleep(60)")
    told = []

    def hang():
        try:
            box.run_tests(hangs, Tests("f()"), Limits(cpu_s=1, wall_s=60))
        except SandboxError as error:
            told.append(error)

    with opened(backend, slots=2, limits=Limits(cpu_s=5, wall_s=60)) as box:
        thread = threading.Thread(target=hang)
        thread.start()
        assert wait_for(lambda: len(box.pool._free) == 1, 30)
        assert box.run_tests(Program("def f(): return 1"), Tests("assert f() == 1")).passed
        assert thread.is_alive()
        assert len(box.pool._boxes) == 2
    thread.join(30)
    assert isinstance(told[0], SandboxError)


@pytest.mark.parametrize(
    ("backend", "pause_s"), [("docker", 0.1), ("bubblewrap", 0), ("bubblewrap", 0.01), ("bubblewrap", 0.3)]
)
def test_closing_ends_every_call(backend, pause_s):
    """Calls that run a program, run unit tests, start boxes or wait for one end with `Closed` within 2 s of the closing."""
    hangs = Program("import time\ndef f(): time.sleep(60)\nif __name__ == '__main__': f()")
    calls = [
        lambda: box.run(hangs, [Stdin("")]),
        lambda: box.run(Program("def f(): pass"), [Call("f")] * 3, isolation="shared"),
        lambda: box.run_tests(hangs, Tests("f()")),
        lambda: box.run_tests(Program("def f(): pass"), Tests("f()")),
    ]
    box = opened(backend, slots=2, limits=Limits(cpu_s=5, wall_s=60))
    stopped = threading.Event()

    def repeat(call):
        while not stopped.is_set():
            call()

    with ThreadPoolExecutor(len(calls)) as executor:
        running = [executor.submit(repeat, call) for call in calls]
        threading.Event().wait(pause_s)  # how far each call has come is what varies
        closing = threading.Thread(target=box.close)
        closing.start()
        done, waiting = wait(running, timeout=2)
        stopped.set()
        closing.join()
    assert not waiting
    assert {type(each.exception()) for each in done} == {Closed}


def test_closing_ends_async_calls():
    """Async calls that run and those that have not begun get `Closed`, not a cancellation."""
    sleeps = Program("import time\ntime.sleep(60)")

    async def main():
        box = opened("bubblewrap", slots=1, limits=Limits(wall_s=60))
        calls = [asyncio.create_task(box.arun(sleeps, [Stdin("")])) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(box.close)
        return await asyncio.wait_for(asyncio.gather(*calls, box.arun(sleeps, [Stdin("")]), return_exceptions=True), 10)

    assert [type(result) for result in asyncio.run(main())] == [Closed] * 4


def test_a_descriptor_beyond_1023(sandbox):
    """A process with many open files uses its boxes like any other."""
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with opened("bubblewrap", slots=1) as box:
            assert box.run(ADD, [Stdin("1 2\n")]).runs[0].text == "3\n"
            assert box.pool.replaced == 0
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_folders_of_dead_owners_are_swept(monkeypatch, request):
    """The folder of sockets that a killed owner left is removed by the next sandbox; a living owner's stays."""
    opened("docker", slots=1).close()
    tmp_path = Path(tempfile.mkdtemp(prefix="rk"))  # short: the path of a socket has 107 characters at most
    request.addfinalizer(lambda: shutil.rmtree(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive, other = (tmp_path / f"rewardkit-sandbox-{name}" for name in ("dead", "alive", "other"))
    for folder in (dead, alive, other):
        folder.mkdir()
    label = box_ownership.label()
    (dead / "owner").write_text(label.rpartition(".")[0] + ".1")
    (alive / "owner").write_text(label)
    with open_sandbox("docker", slots=1):
        assert not dead.exists()
        assert alive.exists() and other.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, other.name]


def test_boxes_are_handed_out_in_the_order_of_asking(sandbox):
    """Callers get boxes in the order in which they asked."""
    boxes = [sandbox.pool.acquire() for _ in range(sandbox.pool.size)]
    order, threads = [], []
    for number in range(6):

        def work(number=number):
            box = sandbox.pool.acquire()
            order.append(number)
            sandbox.pool.release(box)

        thread = threading.Thread(target=work)
        thread.start()
        threads.append(thread)
        assert wait_for(lambda number=number: len(sandbox.pool._waiting) == number + 1, 5)
    sandbox.pool.release(boxes.pop())
    for thread in threads:
        thread.join(10)
    for box in boxes:
        sandbox.pool.release(box)
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
