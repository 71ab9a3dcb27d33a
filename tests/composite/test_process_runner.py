"""Worker processes: whatever befalls them, every unit gets exactly one right answer and nothing is left behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from rewardkit import Rollout, Score, Unscored
from rewardkit.composite.reward_worker import ComponentSpec, WorkerSpec
from rewardkit.composite.runners import score_in_pool
from rewardkit.errors import WorkerError
from rewardkit.process_pool import ProcessPool
from rewardkit.process_pool import pool as pool_module
from rewardkit.process_pool.fork_client import ForkClient

LIMIT_S = 60
"""How long a test waits for what must happen; nothing asserts that it happens sooner."""

PLUGIN = '''
    """Rewards that misbehave on demand: the completion is the statement that they run."""

    import os, signal, socket, subprocess, sys, threading, time
    from pathlib import Path
    from rewardkit import Score, Unscored, reward


    @reward("run", executor="process")
    def run(rollout):
        scope = {"result": 1.0, "Score": Score, "fields": rollout.fields}
        exec(rollout.completion, globals(), scope)
        return scope["result"]


    @reward("double", executor="process")
    def double(rollout):
        return 2.0 * int(rollout.completion)


    @reward("double.slow", executor="process")
    def double_slow(rollout):
        sum(range(30_000))
        return 2.0 * int(rollout.completion)


    @reward("group.size", executor="process", scope="group")
    def size(rollouts):
        return [float(len(rollouts))] * len(rollouts)


    class Odd(Score):
        pass


    @reward("broken.build", executor="process")
    class Broken:
        def __init__(self, *, how: str = "raise ValueError('no model here')") -> None:
            exec(how)

        def __call__(self, rollouts):
            return [0.0] * len(rollouts)


    @reward("closes", executor="process")
    class Closes:
        def __init__(self, *, path: str) -> None:
            self.path = Path(path)

        def __call__(self, rollouts):
            return [0.0] * len(rollouts)

        def close(self):
            with self.path.open("a") as file:
                file.write("closed\\n")
'''


def rollouts(*completions: str, **fields: object) -> list[list[Rollout]]:
    """A unit for each completion."""
    return [[Rollout("p", completion, fields)] for completion in completions]


class Pool:
    """A process pool that scores the component ``c``."""

    def __init__(self, component: ComponentSpec, size: int, start_timeout_s: float) -> None:
        self.pool = ProcessPool(WorkerSpec({"c": component}), size, start_timeout_s)
        self.close = self.pool.close

    @property
    def server(self) -> ForkClient:
        """The fork server that runs now."""
        return self.pool._dispatcher.server

    def submit(self, units: list, timeout_s: float | None = None, name: str = "x") -> Future:
        """Score units of the component."""
        return score_in_pool(self.pool, "c", units, timeout_s, name)


def spec(use: str, **params: object) -> ComponentSpec:
    """Return the specification of one of the plugin's rewards."""
    return ComponentSpec(use=use, plugin="acme", origin="", params=params, who=f"{use} (acme 1.0)")


MakePool = Callable[..., Pool]


@pytest.fixture(scope="module", autouse=True)
def plugin(install_plugin_once) -> None:
    """The plugin that all pools of this module find."""
    install_plugin_once(PLUGIN)


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    """Pools of one's own, which are closed at the end of the test."""
    pools: list[Pool] = []

    def make(use: str = "run", size: int = 2, start_timeout_s: float = LIMIT_S, **params: object) -> Pool:
        pools.append(Pool(spec(use, **params), size, start_timeout_s))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture(scope="module")
def pool(plugin) -> Iterator[Pool]:
    """One pool of one worker, which has to stand all that the tests do to it."""
    shared = Pool(spec("run"), 1, LIMIT_S)
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def doubling(plugin) -> Iterator[Pool]:
    """One pool of three workers that double numbers."""
    shared = Pool(spec("double"), 3, LIMIT_S)
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def three(plugin) -> Iterator[Pool]:
    """One pool of three workers that run statements."""
    shared = Pool(spec("run"), 3, LIMIT_S)
    yield shared
    shared.close()


def answers(future: Future) -> list:
    """The answers to units of one rollout."""
    units, _ = future.result(LIMIT_S)
    assert all(len(unit) == 1 for unit in units)
    return [unit[0] for unit in units]


def submit(pool: Pool, *completions: str, timeout_s: float | None = LIMIT_S, **fields: object) -> list:
    """Score completions, and wait for it."""
    return answers(pool.submit(rollouts(*completions, **fields), timeout_s, "run (acme 1.0)"))


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must come true."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def workers_of(pool: Pool) -> list[psutil.Process]:
    """The worker processes that there are now."""
    try:
        return psutil.Process(pool.server.pid).children()
    except psutil.NoSuchProcess:
        return []


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_units_are_answered_in_order(doubling: Pool) -> None:
    """However the units are spread over workers, the answers come back in the order of the units."""
    assert submit(doubling, *map(str, range(300))) == [Score(2.0 * number) for number in range(300)]


def test_no_units_need_no_worker(pool: Pool) -> None:
    """An empty batch is answered at once."""
    assert pool.submit([], None).result(0) == ([], 0.0)


def test_a_group_is_one_unit(make_pool: MakePool) -> None:
    """A reward of scope group gets the whole unit."""
    pool = make_pool("group.size")
    unit = [Rollout("p", "a"), Rollout("p", "b"), Rollout("p", "c")]
    units, _ = pool.submit([unit, unit[:1]], None).result(LIMIT_S)
    assert units == [[Score(3.0)] * 3, [Score(1.0)]]


@pytest.mark.parametrize(
    ("statement", "how"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, perhaps out of memory"),
        ("os.abort()", "SIGABRT"),
        ("raise KeyboardInterrupt", "exit code 1"),
        ("os.closerange(3, 100); time.sleep(1000)", "SIGKILL"),
        ("os.closerange(3, 100)", ""),
        ("os.system('sleep 1000 & '); os._exit(4)", "exit code 4"),
        ("subprocess.Popen(['sleep', '20'], start_new_session=True, close_fds=False); os._exit(5)", "exit code 5"),
    ],
)
def test_death_costs_only_its_own_rollout(pool: Pool, statement: str, how: str) -> None:
    """A rollout that takes its worker down, in whatever way, is unscored with the reward's name and how; the others are scored."""
    before, died, after = submit(pool, "result = 0.25", statement, "result = 0.75", timeout_s=LIMIT_S)
    assert (before, after) == (Score(0.25), Score(0.75))
    assert isinstance(died, Unscored)
    assert died.kind == "plugin"
    assert died.message.startswith("run (acme 1.0): its worker process died on this rollout (")
    assert how in died.message


def test_garbage_on_the_wire_costs_only_its_own_rollout(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that writes into descriptors that aren't its own loses its worker; the pool does not wait for the rest of a message."""
    monkeypatch.setattr(pool_module, "STALL_S", 0.2)
    sockets = "[int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)]"
    garbage = f"[os.write(fd, b'xx') for fd in {sockets} if fd > 2 and os.readlink(f'/proc/self/fd/{{fd}}').startswith('socket')]"
    before, odd, after = submit(pool, "result = 0.25", garbage, "result = 0.75")
    assert (before, after) == (Score(0.25), Score(0.75))
    assert odd.kind == "plugin"


def test_a_hang_costs_only_its_own_rollout(pool: Pool) -> None:
    """A rollout that outlasts its deadline is unscored as a timeout; those before and after it in the same chunk are scored."""
    statements = ["result = 0.25", "time.sleep(1000)", "result = 0.5", "while True: pass", "result = 0.75"]
    first, slow, second, busy, third = submit(pool, *statements, timeout_s=0.3)
    assert [first, second, third] == [Score(0.25), Score(0.5), Score(0.75)]
    assert slow == busy == Unscored("timeout", "run (acme 1.0) took longer than 0.3 s")


def test_each_rollout_has_a_deadline_of_its_own(pool: Pool) -> None:
    """Rollouts handed over together, which take longer than the timeout in all but not each, are scored."""
    assert submit(pool, *["time.sleep(0.3)"] * 5, timeout_s=1.0) == [Score(1.0)] * 5


def test_a_hang_that_holds_off_signals_is_killed(pool: Pool) -> None:
    """Neither ignored signals nor a stopped process keep a worker alive beyond its deadline."""
    ignoring = "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGINT)]; time.sleep(1000)"
    stopped = "os.kill(os.getpid(), signal.SIGSTOP)"
    assert [item.kind for item in submit(pool, ignoring, stopped, timeout_s=0.3)] == ["timeout", "timeout"]
    assert submit(pool, "pass") == [Score(1.0)]


def test_a_group_has_the_time_of_its_rollouts(pool: Pool) -> None:
    """The deadline of a group is the timeout times its rollouts, and its end is told for each of them."""
    unit = [Rollout("p", "time.sleep(1000)")] * 2
    units, _ = pool.submit([unit], 0.1).result(LIMIT_S)
    assert units == [[Unscored("timeout", "x took longer than 0.2 s")] * 2]


def test_a_worker_killed_from_outside_is_forgiven_once(pool: Pool, tmp_path: Path) -> None:
    """A unit whose worker somebody else kills (as the kernel does when memory runs out) is tried again."""
    started = tmp_path / "started"
    statement = (
        "p = Path(fields['path']); n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1))\n"
        "if n == 0: time.sleep(1000)\n"
        "result = 0.5"
    )
    future = pool.submit(rollouts(statement, path=str(started)), LIMIT_S)
    until(lambda: started.exists() and started.read_text())
    for worker in workers_of(pool):
        worker.kill()
    assert answers(future) == [Score(0.5)]
    assert started.read_text() == "xx"


def test_an_idle_worker_that_dies_costs_nothing(three: Pool) -> None:
    """Workers that are killed while they wait for work are replaced without a word, however often."""
    for number in range(8):
        for worker in workers_of(three):
            worker.kill()
        assert submit(three, f"result = {number}", f"result = {number}") == [Score(float(number))] * 2


def test_the_pool_outlives_its_fork_server(doubling: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process that forks the workers is killed another is started, and what was under way is scored."""
    monkeypatch.setattr(pool_module, "MAX_STARTS", 2)
    submit(doubling, "1")
    for _ in range(3):  # more often than MAX_STARTS in all: only what happens with no answer in between counts
        future = doubling.submit(rollouts(*map(str, range(200))), None)
        with contextlib.suppress(ProcessLookupError):  # the one that was killed before
            os.kill(doubling.server.pid, signal.SIGKILL)
        assert answers(future) == [Score(2.0 * number) for number in range(200)]


def test_a_reward_that_kills_the_fork_server_ends_with_an_error(pool: Pool) -> None:
    """A plugin that kills the parent of its worker each time costs its own rollout, and can't keep the pool busy for ever."""
    (died,) = submit(pool, "os.kill(os.getppid(), 9); time.sleep(1000)")
    assert died.kind == "plugin"
    assert submit(pool, "result = 0.5") == [Score(0.5)]


def test_random_kills_under_load(make_pool: MakePool) -> None:
    """Hundreds of units under a hail of kills, of workers and now and then the fork server: each gets exactly one answer, the right one.

    Only a unit that was hit twice may be unscored, and then it says by what.
    """
    pool = make_pool("double.slow", size=4)
    generator = random.Random(1)  # noqa: S311
    count, kills, unscored = 250, 0, 0
    for _ in range(100):  # until there were enough kills, however fast the machine is
        future = pool.submit(rollouts(*map(str, range(count))), None)
        while not future.done():
            victims = workers_of(pool)
            if victims and generator.random() < 0.5:
                try:
                    generator.choice(victims).kill()
                    kills += 1
                except psutil.NoSuchProcess:
                    pass
            server = pool.server.pid
            if kills % 12 == 11 and pool.server.is_loaded:  # if one can't even be built, that is an error
                os.kill(server, signal.SIGKILL)
                kills += 1
            time.sleep(0.005)
        results = answers(future)
        assert len(results) == count
        wrong = [
            (number, result)
            for number, result in enumerate(results)
            if result != Score(2.0 * number) and not (isinstance(result, Unscored) and "SIGKILL" in result.message)
        ]
        assert wrong == []
        unscored += sum(isinstance(result, Unscored) for result in results)
        if kills > 20:
            break
    assert kills > 20
    assert unscored <= kills // 2
    assert len(workers_of(pool)) <= 4


def test_many_deaths_in_a_row(three: Pool) -> None:
    """Ninety rollouts of which every third kills its worker: those are unscored, all others are right."""
    results = submit(three, *("os._exit(1)" if number % 3 == 0 else f"result = {number}" for number in range(90)))
    assert all(
        result.kind == "plugin" if number % 3 == 0 else result == Score(float(number))
        for number, result in enumerate(results)
    )


def test_many_threads_share_a_pool(doubling: Pool) -> None:
    """Batches of many threads at once each get their own answers."""
    wrong: list[object] = []

    def work(start: int) -> None:
        found = submit(doubling, *map(str, range(start, start + 30)))
        wrong.extend(result for number, result in enumerate(found, start) if result != Score(2.0 * number))

    threads = [threading.Thread(target=work, args=(number * 100,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert wrong == []


def test_a_forked_child_does_not_answer(pool: Pool) -> None:
    """A plugin that forks and lets the child run on gets one answer for its rollout, and the next ones theirs."""
    statements = ["result = 0.0 if os.fork() == 0 else 0.25", *(f"result = {number}" for number in range(2, 30))]
    assert submit(pool, *statements) == [Score(0.25), *(Score(float(number)) for number in range(2, 30))]


def test_a_row_that_cannot_be_pickled(pool: Pool) -> None:
    """A row that can't be handed to another process is unscored as input, and its neighbours are scored."""
    units = [*rollouts("result = 0.25"), *rollouts("pass", lock=threading.Lock()), *rollouts("result = 0.75")]
    units *= 3
    results = answers(pool.submit(units, None))
    assert results[0::3] == [Score(0.25)] * 3
    assert results[2::3] == [Score(0.75)] * 3
    assert {result.kind for result in results[1::3]} == {"input"}
    assert "can't be handed to a worker process" in results[1].message


def test_a_large_row_goes_through(pool: Pool) -> None:
    """A completion of many megabytes reaches its worker, and its reason comes back."""
    (result,) = submit(pool, "result = Score(1.0, fields['text'])", text="x" * 5_000_000)
    assert len(result.reason) == 5_000_000


def test_hostile_text_goes_through(pool: Pool) -> None:
    """NUL and lone surrogates survive the way to the worker and back."""
    assert submit(pool, "result = Score(1.0, fields['text'])", text="\0\ud800") == [Score(1.0, "\0\ud800")]


def test_what_comes_back_is_of_plain_types(pool: Pool) -> None:
    """A plugin's own subclass of Score, which this process may not be able to import, arrives as a Score."""
    (result,) = submit(pool, "result = Odd(0.5, 'because')")
    assert type(result) is Score
    assert result == Score(0.5, "because")


def test_prints_go_to_stderr(make_pool: MakePool, capfd: pytest.CaptureFixture) -> None:
    """What a plugin prints in a worker never reaches stdout, and isn't lost with a worker that is killed."""
    pool = make_pool(size=1)
    submit(pool, "print('said'); os.system('echo echoed')", "print('last words'); os._exit(1)")
    pool.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert ("said" in err, "echoed" in err, "last words" in err) == (True, True, True)


def test_workers_read_nothing_from_stdin(pool: Pool) -> None:
    """A plugin that asks for input doesn't hang or take the program's stdin: it finds the end of the file."""
    (result,) = submit(pool, "input()", timeout_s=LIMIT_S)
    assert "EOFError" in result.message


@pytest.mark.parametrize(("end", "close_fds"), [("time.sleep(1000)", False), ("os._exit(1)", True), ("pass", False)])
def test_what_a_plugin_starts_dies_with_its_worker(
    make_pool: MakePool, tmp_path: Path, end: str, close_fds: bool
) -> None:
    """A subprocess of a plugin ends with its worker: when that is killed, when it dies, and when the pool is closed."""
    pool = make_pool(size=1)
    told = tmp_path / "pid"
    start = f"child = subprocess.Popen(['sleep', '1000'], close_fds={close_fds}); Path(fields['told']).write_text(str(child.pid))"
    submit(pool, f"{start}; {end}", told=str(told), timeout_s=1.0)
    if end == "pass":
        assert not gone(int(told.read_text()))
        pool.close()
    until(lambda: gone(int(told.read_text())))


def test_closing_leaves_nothing(make_pool: MakePool) -> None:
    """After ``close``, also of a busy pool that has had deaths and timeouts, there are no processes, threads or descriptors left."""
    make_pool().close()  # what is made once and for all, is made
    process = psutil.Process()
    before = process.num_fds(), threading.active_count(), set(process.children(recursive=True))
    pool = make_pool(size=3)
    submit(pool, "os._exit(1)", "time.sleep(1000)", "pass", "os.kill(os.getppid(), 9)", timeout_s=0.3)
    future = pool.submit(rollouts(*["time.sleep(1000)"] * 20), None)
    until(lambda: len(workers_of(pool)) == 3)
    pids = [worker.pid for worker in workers_of(pool)]
    pool.close()
    with pytest.raises(WorkerError, match="have been closed"):
        future.result(0)
    assert [pid for pid in pids if not gone(pid)] == []
    assert (process.num_fds(), threading.active_count(), set(process.children(recursive=True))) == before


def test_a_closed_pool_says_so(make_pool: MakePool) -> None:
    """Work for a closed pool fails with a WorkerError, and closing twice is harmless."""
    pool = make_pool()
    pool.close()
    pool.close()
    with pytest.raises(WorkerError, match="have been closed"):
        submit(pool, "pass")


def test_closing_does_not_wait_for_slow_imports(make_pool: MakePool) -> None:
    """A pool that is closed while its plugins are still being built is gone, with what it was waiting for."""
    pool = make_pool("broken.build", how="import time; time.sleep(1000)")
    future = pool.submit(rollouts("a"), None)
    pool.close()
    assert pool.server.returncode == -signal.SIGKILL
    with pytest.raises(WorkerError):
        future.result(0)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raise RuntimeError('文' * 9000)", "RuntimeError: 文文"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
    ],
)
def test_a_reward_that_cannot_be_built(make_pool: MakePool, how: str, told: str) -> None:
    """A reward that fails to be built in the worker process is a WorkerError that says how, for all that wait."""
    pool = make_pool("broken.build", how=how)
    with pytest.raises(WorkerError) as caught:
        submit(pool, "pass")
    assert told in str(caught.value)


def test_building_has_a_deadline(make_pool: MakePool) -> None:
    """Plugins that take too long to be built are given up."""
    pool = make_pool("broken.build", how="import time; time.sleep(1000)", start_timeout_s=0.2)
    with pytest.raises(WorkerError, match=r"not imported and built within 0\.2 s"):
        submit(pool, "pass")


def test_rewards_are_closed_once(make_pool: MakePool, tmp_path: Path) -> None:
    """A reward's ``close`` is called once, where it was built, and not in every worker."""
    path = tmp_path / "closed"
    pool = make_pool("closes", size=2, path=str(path))
    submit(pool, "a", "b", "c")
    pool.close()
    assert path.read_text() == "closed\n"


def test_workers_die_with_the_program(tmp_path: Path) -> None:
    """When the program is killed by SIGKILL its fork_server and busy workers end, and what they had started."""
    told = tmp_path / "pids"
    program = f"""
        import os, sys
        sys.path[:] = {sys.path!r}
        from rewardkit import Rollout
        from rewardkit.composite.reward_worker import ComponentSpec, WorkerSpec
        from rewardkit.process_pool import ProcessPool

        pool = ProcessPool(WorkerSpec({{"c": ComponentSpec("run", "acme", "", {{}}, "x")}}), 1)
        statement = (
            "child = subprocess.Popen(['sleep', '1000']); Path({str(told)!r} + '~').write_text("
            "f'{{os.getppid()}} {{os.getpid()}} {{child.pid}}'); os.rename({str(told)!r} + '~', {str(told)!r}); time.sleep(1000)"
        )
        pool.submit([("c", [Rollout("p", statement)])]).result()
    """
    running = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    until(told.exists)
    running.kill()
    running.wait()
    for pid in map(int, told.read_text().split()):
        until(lambda pid=pid: gone(pid))
