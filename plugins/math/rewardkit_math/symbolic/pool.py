"""The last tier: sympy in worker processes, which are limited in memory and killed at the deadline.

It works in any thread and, because workers belong to the process that started them, on both sides of a fork. No worker is started
before the first question. Waiting for an answer blocks only the thread that asks.

The deadline is CPU time of the worker, so that a verdict does not depend on what else the machine does. Starting a worker does not
count. Bounds on the wall time (`START_S`, `wall_bound`) end a wait for a worker that gets no processor at all.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from rewardkit_math.expr import Expr
from rewardkit_math.work import spend

MAX_WORKERS = 2
MAX_DEATHS = 3
MAX_QUESTION = 60_000
START_S = 120.0
"""Seconds to wait for a free worker and for its start."""
_PROGRAM = str(Path(__file__).with_name("worker.py"))


class WorkerTimeout(Exception):  # noqa: N818
    """The deadline passed without an answer."""


class WorkerDied(Exception):  # noqa: N818
    """The worker ended before it answered: out of memory, or killed from outside."""


class WorkerSpent(Exception):  # noqa: N818
    """The worker reached its memory limit."""


def wall_bound(cpu_s: float) -> float:
    """Return how many seconds of wall time a question with a deadline of `cpu_s` CPU seconds may take."""
    return 20.0 * cpu_s + 10.0


class Deadline:
    """The CPU time that the workers may still use for one comparison.

    Args:
        cpu_s: Seconds of CPU time, for all questions of the comparison together.
    """

    def __init__(self, cpu_s: float) -> None:
        self.cpu_left = cpu_s
        self.wall = time.monotonic() + wall_bound(cpu_s)

    def extend(self, seconds: float) -> None:
        """Move the bound on the wall time by the time that a start took."""
        self.wall += seconds


class _Worker:
    """One process. Used by one thread at a time."""

    def __init__(self, memory_bytes: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.buffer = b""
        self.ready = False
        self.usable = True
        self.count = 0
        self.memory_bytes = memory_bytes
        self._write(json.dumps(sys.path).encode() + b"\n" + str(memory_bytes).encode() + b"\n", time.monotonic() + 1)

    def cpu(self) -> float | None:
        """Return the CPU seconds that the process has used; None where the system does not tell."""
        try:
            return time.clock_gettime(
                ((~self.process.pid) << 3) | 2
            )  # the clock that pthread_getcpuclockid would return
        except (OSError, AttributeError):
            return None

    def _write(self, data: bytes, until: float) -> None:
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        descriptor = self.process.stdin.fileno()
        os.set_blocking(descriptor, False)
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                if not _wait(descriptor, select.POLLOUT, until - time.monotonic()):
                    raise WorkerTimeout from None
            except OSError:
                raise WorkerDied("the worker is gone") from None

    def _line(self, until: float, cpu_until: float | None = None) -> dict[str, Any]:
        """Return the next line, or raise at a time of the monotonic clock or of the worker's CPU clock."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        descriptor = self.process.stdout.fileno()
        pause = 0.005
        while b"\n" not in self.buffer:
            remaining = until - time.monotonic()
            if cpu_until is not None:
                used = self.cpu()
                remaining = min(remaining, cpu_until - (time.monotonic() if used is None else used))
            if remaining <= 0:
                raise WorkerTimeout
            if not _wait(descriptor, select.POLLIN, min(pause, remaining + 0.001)):
                pause = min(2 * pause, 0.1)
                continue
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise WorkerDied("the worker is gone")
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(self, until: float) -> None:
        """Wait until the worker has loaded what it needs."""
        if not self.ready:
            self.usable = bool(self._line(until)["ready"])
            self.ready = True

    def ask(self, question: dict[str, Any], deadline: Deadline) -> bool | None:
        """Send a question and return the answer; None where sympy can't tell.

        Raises:
            WorkerTimeout: The deadline passed. The worker still computes and has to be killed.
            WorkerDied: The worker ended.
            WorkerSpent: The worker reached its memory limit.
        """
        self.count += 1
        started = self.cpu()
        clock = time.monotonic() if started is None else started
        self._write(json.dumps({**question, "id": self.count}).encode() + b"\n", deadline.wall)
        while True:
            answer = self._line(deadline.wall, clock + deadline.cpu_left)
            if answer.get("id") == self.count:
                ended = self.cpu()
                deadline.cpu_left -= (time.monotonic() if ended is None else ended) - clock
                equal: bool | None = answer["equal"]
                if answer.get("spent"):
                    raise WorkerSpent
                return equal

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)

    def forget(self) -> None:
        """Let go of the process, in a forked child: it belongs to the parent."""
        self.process.returncode = 0
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _wait(descriptor: int, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return seconds > 0 and bool(poll.poll(seconds * 1000))


class _Pool:
    def __init__(self) -> None:
        self.free = threading.Condition(threading.Lock())
        self.idle: list[_Worker] = []
        self.running = 0
        self.all: set[_Worker] = set()

    def take(self, until: float, memory_bytes: int) -> _Worker:
        with self.free:
            while not self.idle and self.running >= MAX_WORKERS:
                remaining = until - time.monotonic()
                if remaining <= 0 or not self.free.wait(remaining):
                    raise WorkerTimeout
            fitting = [w for w in self.idle if w.memory_bytes == memory_bytes]
            if fitting:
                worker = max(fitting, key=lambda w: w.ready)
                self.idle.remove(worker)
                return worker
            if self.running >= MAX_WORKERS:  # one with another limit makes room
                other = self.idle.pop()
                self.all.discard(other)
                other.kill()
            else:
                self.running += 1
        try:
            worker = _Worker(memory_bytes)
        except BaseException:
            with self.free:
                self.running -= 1
                self.free.notify()
            raise
        self.all.add(worker)
        return worker

    def give(self, worker: _Worker) -> None:
        with self.free:
            self.idle.append(worker)
            self.free.notify()

    def drop(self, worker: _Worker) -> None:
        worker.kill()
        self.all.discard(worker)
        with self.free:
            self.running -= 1
            self.free.notify()

    def close(self) -> None:
        for worker in list(self.all):
            worker.kill()


_pool = _Pool()


def _after_fork() -> None:
    global _pool
    inherited, _pool = _pool.all, _Pool()
    for worker in inherited:
        worker.forget()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _pool.close())  # noqa: PLW0108 - the pool of then, which a fork may have changed


def available() -> bool:
    """Return whether sympy is installed, without importing it."""
    return importlib.util.find_spec("sympy") is not None


def same(a: Expr, b: Expr, log: str, deadline: Deadline, memory_bytes: int) -> bool | None:
    """Return whether two expressions are equal; None where sympy can't tell.

    Args:
        a: One side.
        b: The other side.
        log: The base of a logarithm without one, "e" or "10".
        deadline: The CPU time that is left for the comparison; what this question uses is taken from it.
        memory_bytes: Memory that a worker may use beyond what it starts with.

    Raises:
        WorkerTimeout: The deadline passed. The worker that was computing has been killed.
        WorkerDied: Several workers in a row ended over this question without an answer.
        TooLarge: The expressions are too large to be sent.
    """
    question = {"a": _tree(a), "b": _tree(b), "log": log}
    if len(repr(question)) > MAX_QUESTION:
        return None
    deaths = 0
    while True:
        began = time.monotonic()
        until = began + START_S
        worker = _pool.take(until, memory_bytes)
        computing = False
        try:
            worker.start(until)
            deadline.extend(time.monotonic() - began)
            computing = True
            answer = worker.ask(question, deadline) if worker.usable else None
        except WorkerTimeout:
            if computing:
                _pool.drop(worker)
            else:
                _pool.give(worker)  # it is still starting: the next question finds it ready
            raise
        except WorkerSpent:
            _pool.drop(worker)
            return None
        except (WorkerDied, ValueError, OSError):
            _pool.drop(worker)
            deaths += computing  # one that is killed while it starts says nothing about the question
            if deaths == MAX_DEATHS:
                raise WorkerDied(f"{MAX_DEATHS} workers in a row ended over this question") from None
        except BaseException:
            _pool.drop(worker)
            raise
        else:
            _pool.give(worker)
            return answer


def _tree(node: Any) -> Any:
    """Return an expression as nested lists, with numbers in hexadecimal, which has no limit of digits."""
    if isinstance(node, Expr):
        spend()
        return [node.head, *(_tree(a) for a in node.args)]
    if isinstance(node, tuple):
        return [_tree(a) for a in node]
    if isinstance(node, (int, Fraction)):
        return [hex(node.numerator), hex(node.denominator)]
    return node
