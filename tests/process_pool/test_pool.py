"""The pool with a program of the standard library's types alone; tests/composite/test_process_runner.py attacks it with rewards."""

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rewardkit.errors import WorkerError
from rewardkit.process_pool import Answer, Failure, ProcessPool, Result, default_workers

LIMIT_S = 60
PROGRAM = '''
import os
import time
from pathlib import Path


class Handler:
    """Runs the statement that it is given, which may set `result`."""

    def __init__(self, closed):
        self.closed = closed

    def start(self):
        self.began_in = os.getpid()

    def __call__(self, statement):
        scope = {"result": None, "os": os, "time": time, "Path": Path, "self": self}
        exec(statement, scope)
        return scope["result"]

    def close(self):
        if self.closed:
            Path(self.closed).write_text("closed")


class Program:
    def __init__(self, closed="", loading="pass"):
        self.closed, self.loading = closed, loading

    def load(self):
        exec(self.loading, globals())
        return Handler(self.closed)
'''
MakePool = Callable[..., ProcessPool]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., object]]:
    """The class of a program, in a module that the fork server can import."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "program_of_a_pool.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(folder))
        yield importlib.import_module("program_of_a_pool").Program
        del sys.modules["program_of_a_pool"]


@pytest.fixture
def make_pool(program: Callable[..., object]) -> Iterator[MakePool]:
    """Pools that are closed at the end of the test."""
    pools: list[ProcessPool] = []

    def make(size: int = 1, closed: str = "", loading: str = "pass", **options: object) -> ProcessPool:
        pools.append(ProcessPool(program(closed, loading), size, LIMIT_S, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def run(pool: ProcessPool, *statements: object, timeout_s: float | list[float | None] | None = LIMIT_S) -> list[Result]:
    """Do tasks and wait for their results."""
    return pool.submit(statements, timeout_s).result(LIMIT_S)


def values(results: list[Result]) -> list[object]:
    """What each answer holds; for a failure its kind."""
    return [result.value if isinstance(result, Answer) else result.kind for result in results]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must come true."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def counting(path: Path, failing: str) -> str:
    """A task that counts its attempts in a file, and fails at the first one."""
    return f"path = Path({str(path)!r}); path.open('a').write('x')\nif len(path.read_text()) < 2: {failing}\nresult = 'done'"


def test_results_are_in_the_order_of_the_tasks(make_pool: MakePool) -> None:
    """However tasks are spread over workers, and however long each takes."""
    statements = [f"time.sleep({0.02 * (number % 3 == 0)}); result = {number}" for number in range(40)]
    assert values(run(make_pool(3), *statements)) == list(range(40))


def test_no_tasks_are_done_at_once(make_pool: MakePool) -> None:
    """An empty batch needs no worker."""
    assert make_pool().submit([]).result(0) == []


def test_an_exception_is_a_failure_of_its_task(make_pool: MakePool) -> None:
    """It arrives with the exception, and the same worker does the next task."""
    pid, raised, same = run(
        make_pool(), "result = os.getpid()", "raise KeyError('no such row')", "result = os.getpid()"
    )
    assert isinstance(raised, Failure)
    assert (raised.kind, raised.message) == ("raised", "'no such row'")
    assert isinstance(raised.error, KeyError)
    assert pid.value == same.value


def test_a_task_that_cannot_be_pickled_fails_alone(make_pool: MakePool) -> None:
    """It never leaves this process; the others are done."""
    first, odd, last = run(make_pool(), "result = 1", lambda: None, "result = 3")
    assert (first.value, last.value) == (1, 3)
    assert odd.kind == "unpicklable"
    assert "lambda" in odd.message


def test_each_task_may_have_a_limit_of_its_own(make_pool: MakePool) -> None:
    """A task that outlasts its limit is a timeout; one without a limit takes its time."""
    results = run(
        make_pool(), "time.sleep(60)", "time.sleep(0.3); result = 2", "result = 3", timeout_s=[0.1, None, LIMIT_S]
    )
    assert values(results) == ["timeout", 2, 3]


def test_as_many_limits_as_tasks(make_pool: MakePool) -> None:
    """A list of limits of another length is refused before anything is done."""
    with pytest.raises(ValueError, match="zip"):
        make_pool().submit(["pass", "pass"], [1.0])


def test_a_crash_costs_its_own_task(make_pool: MakePool) -> None:
    """The task that the worker was busy with fails, with how the worker ended; those behind it in its queue are done."""
    first, died, last = run(make_pool(prefetch=3), "result = 1", "os._exit(7)", "result = 3")
    assert (died.kind, died.message) == ("died", "exit code 7")
    assert (first.value, last.value) == (1, 3)


@pytest.mark.parametrize(
    ("failing", "retry_crashes", "tries", "expected", "attempts"),
    [
        ("os._exit(7)", False, 2, "died", 1),
        ("os._exit(7)", True, 2, "done", 2),
        ("os._exit(7)", True, 1, "died", 1),
        ("os.kill(os.getpid(), 9)", False, 2, "done", 2),
        ("os.kill(os.getpid(), 15)", False, 2, "done", 2),
        ("os.kill(os.getpid(), 9)", False, 1, "died", 1),
        ("os.abort()", False, 2, "died", 1),
    ],
)
def test_tasks_are_tried_again(
    make_pool: MakePool, tmp_path: Path, failing: str, retry_crashes: bool, tries: int, expected: str, attempts: int
) -> None:
    """A kill from outside is forgiven up to `tries` workers; a crash only with `retry_crashes`."""
    pool = make_pool(retry_crashes=retry_crashes, tries=tries)
    assert values(run(pool, counting(tmp_path / "attempts", failing))) == [expected]
    assert (tmp_path / "attempts").read_text() == "x" * attempts


@pytest.mark.parametrize(("prefetch", "given"), [(1, 1), (3, 3)])
def test_a_busy_worker_is_given_tasks_ahead_of_time(
    make_pool: MakePool, tmp_path: Path, prefetch: int, given: int
) -> None:
    """With `prefetch` a busy worker holds that many tasks; without, the others wait in the pool."""
    pool = make_pool(prefetch=prefetch)
    release = tmp_path / "release"
    busy = pool.submit([f"while not Path({str(release)!r}).exists(): time.sleep(0.01)"])
    dispatcher = pool._dispatcher
    until(lambda: any(worker.tasks for worker in dispatcher._workers.values()))
    later = [pool.submit([f"result = {number}"]) for number in range(4)]
    until(lambda: sum(len(worker.tasks) for worker in dispatcher._workers.values()) + len(dispatcher._waiting) == 5)
    [worker] = dispatcher._workers.values()
    until(lambda: len(worker.tasks) >= given)
    assert len(worker.tasks) == given
    release.touch()
    assert [values(future.result(LIMIT_S)) for future in [busy, *later]] == [[None], [0], [1], [2], [3]]


def test_workers_are_started_as_they_are_needed(make_pool: MakePool) -> None:
    """One task starts one worker, whatever the size of the pool; each worker is set up after its fork."""
    pool = make_pool(4)
    [same] = run(pool, "result = self.began_in == os.getpid()")
    assert same.value is True
    assert len(pool._dispatcher._workers) == 1


def test_threads_share_a_pool(make_pool: MakePool) -> None:
    """Every thread gets the results of its own tasks."""
    pool = make_pool(2)
    results: dict[int, list[object]] = {}

    def work(thread: int) -> None:
        results[thread] = values(run(pool, *(f"result = {thread} * 100 + {number}" for number in range(25))))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert results == {thread: [thread * 100 + number for number in range(25)] for thread in range(6)}


def test_the_program_is_closed_with_the_pool(make_pool: MakePool, tmp_path: Path) -> None:
    """`close` runs once, in the fork server, and no process is left."""
    pool = make_pool(2, closed=str(tmp_path / "closed"))
    pids = [answer.value for answer in run(pool, *["time.sleep(0.05); result = os.getpid()"] * 4)]
    pool.close()
    pool.close()
    assert (tmp_path / "closed").read_text() == "closed"
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)  # noqa: PTH110


def test_a_closed_pool_refuses_tasks(make_pool: MakePool) -> None:
    """What is unfinished at the end fails, and so does what comes later; neither waits for ever."""
    pool = make_pool()
    unfinished = pool.submit(["time.sleep(60)"])
    pool.close()
    for future in (unfinished, pool.submit(["pass"])):
        with pytest.raises(WorkerError, match="the worker processes have been closed"):
            future.result(LIMIT_S)


@pytest.mark.parametrize(
    ("loading", "message"),
    [
        ("raise RuntimeError('no model')", "a worker process can't be set up: RuntimeError: no model"),
        ("raise SystemExit(4)", "a worker process can't be set up: SystemExit: 4"),
        ("os._exit(5)", "the worker processes can't be started: exit code 5"),
    ],
)
def test_a_program_that_cannot_be_loaded(make_pool: MakePool, loading: str, message: str) -> None:
    """Whoever waits is told why, and the pool does not try again for ever."""
    pool = make_pool(loading=loading)
    for _ in range(2):
        with pytest.raises(WorkerError, match=message):
            run(pool, "pass")


def test_the_default_size_is_the_number_of_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores that the process may not use don't count."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert default_workers() == 3
