"""The verifier inside other programs: threads, event loops, forks, alarms, workers that die."""

# ruff: noqa: E501, S311 - tables of cases are read across

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rewardkit_math import verify, verify_async
from rewardkit_math.symbolic.pool import _workers

SYMBOLIC = (r"\int_0^1 x^2\,dx", "1/3")
ENDLESS = (r"\int_0^1 x^{100000}\,dx", "1/100001")
PATIENT = {"deadline_s": 60.0}


def worker_pids():
    """Return the process ids of this process's workers."""
    server = _workers.pool()._dispatcher.server.pid
    return set(map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split()))


def test_importing_loads_nothing_heavy():
    """`import rewardkit_math` loads neither sympy nor rewardkit nor asyncio's subprocesses."""
    program = "import sys, rewardkit_math; print([m for m in ('sympy', 'mpmath', 'rewardkit', 'numpy', 'click') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_threads():
    """Many threads at once all get their verdicts."""
    verdicts = []

    def work():
        verdicts.extend(verify(a, b, **PATIENT).correct for a, b in [SYMBOLIC, (r"\frac12", "0.5"), SYMBOLIC])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 18


def test_the_event_loop_runs_on():
    """While a worker computes, other coroutines run: no gap in their ticking comes near the deadline."""

    async def main():
        task = asyncio.create_task(verify_async(*ENDLESS, deadline_s=0.4))
        ticks = 0
        while not task.done():
            ticks += 1
            await asyncio.sleep(0)
        return ticks, await task

    ticks, verdict = asyncio.run(main())
    assert ticks > 100
    assert verdict.correct is not True


def test_the_main_thread_runs_on():
    """While another thread waits for a worker that computes, the main thread is not held up: it has thousands of turns."""
    verify(*SYMBOLIC, **PATIENT)
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(verify(*ENDLESS, deadline_s=0.4)))
    turns = 0
    thread.start()
    while thread.is_alive():
        turns += 1
        time.sleep(0)  # gives the interpreter away, as any blocking call does
    thread.join()
    assert turns > 1000
    assert verdicts[0].correct is not True


@pytest.mark.parametrize("arithmetic", ["python", "gmpy"])
def test_with_and_without_gmpy2(arithmetic):
    """The symbolic tier works on either of sympy's arithmetics; neither sympy nor gmpy2 is loaded into this process."""
    if arithmetic == "gmpy":
        pytest.importorskip("gmpy2", reason="gmpy2 is not installed")
    program = f"import sys, rewardkit_math as m; v = m.verify(*{SYMBOLIC!r}, deadline_s=60); print(v.correct, v.tier, bool({{'sympy', 'gmpy2'}} & {{*sys.modules}}))"
    environment = {**os.environ, "SYMPY_GROUND_TYPES": arithmetic}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "symbolic", "False"]


def _forked(queue):
    queue.put(verify(*SYMBOLIC, **PATIENT).correct)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes(method):
    """A forked or spawned process has workers of its own, and leaves the parent's alone."""
    assert verify(*SYMBOLIC, **PATIENT).correct is True
    before = worker_pids()
    assert before
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_forked, args=(queue,))
    child.start()
    assert queue.get(timeout=60) is True
    child.join()
    assert worker_pids() == before
    assert verify(*SYMBOLIC, **PATIENT).correct is True


def test_the_caller_s_alarm_is_untouched():
    """No signal handler is set, and a pending alarm stays pending."""
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        verify(*SYMBOLIC, **PATIENT)
        verify("1", "10^{10^{10}}")
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
        assert signal.getsignal(signal.SIGALRM) is not handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_the_deadline_holds():
    """A question without an answer is given up after two attempts, and the next one is answered."""
    verify(*SYMBOLIC, **PATIENT)
    before = worker_pids()
    verdict = verify(*ENDLESS, deadline_s=0.5)
    assert (verdict.correct, verdict.failure) == (None, "timeout")
    assert not before & worker_pids()  # the workers that computed were killed
    assert verify(*SYMBOLIC, **PATIENT).correct is True


@pytest.mark.parametrize(
    "hostile",
    [
        r"\binom per 1,234" * 2000,
        r"\binom{9000}{4500}" * 200,
        "1000!" * 500,
        "2000!!" * 200,
        r"\binom{1.5}{3000}" * 100,
        r"\prod_{k=1}^{3000}\binom{x}{k}",
        r"\sum_{k=1}^{5000}\sin k^k",
        "e^{e^{e^{2.1}}} + 1",
        r"(\sqrt2+\sqrt3+\sqrt5+\sqrt7)^{39}",
        r"\tan(" * 80 + "1" + ")" * 80,
        r"x\loge" * 2000,
        r"\pm9 square feet" * 600,
    ],
)
def test_hostile_work_is_refused(hostile):
    """The tiers in this process give up on what would cost them long, well before the deadline."""
    started = time.process_time()
    verdict = verify(hostile, "9", symbolic=False)
    assert verdict.correct is False
    assert verify("9", hostile, symbolic=False).correct is not True
    assert time.process_time() - started < 4.0  # two deadlines; it takes a tenth of one


def test_killed_workers_are_replaced():
    """Workers killed at random moments are replaced; at worst there is no verdict, never a wrong one."""
    stop = threading.Event()
    chance = random.Random(7)

    def killer():
        while not stop.wait(chance.uniform(0.2, 1.0)):
            for pid in list(worker_pids())[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        verdicts = [verify(*SYMBOLIC, **PATIENT) for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    assert all(v.correct is True or v.failure == "infra" for v in verdicts)
    assert any(v.correct for v in verdicts)


def test_a_hungry_question_is_no_verdict_of_ours():
    """A worker that runs into its memory limit answers nothing, and the next question is answered."""
    verdict = verify(r"\sum_{k=1}^{\infty} \frac{\sin(k^3)}{k!}", "1", memory_bytes=1 << 20, deadline_s=10)
    assert verdict.correct is not True
    assert verify(*SYMBOLIC, **PATIENT).correct is True


def test_deep_recursion_of_the_caller_is_survived():
    """Called near the end of the stack, it gives a verdict rather than a RecursionError."""

    def dive(depth):
        return (
            verify(r"\frac{1}{1+\frac{1}{1+x}}", r"\frac{x+1}{x+2}", symbolic=False) if not depth else dive(depth - 1)
        )

    limit = sys.getrecursionlimit()
    room = limit - len(__import__("inspect").stack())
    for spare in (40, 80, 150):
        assert dive(room - spare).correct in (True, False, None)
