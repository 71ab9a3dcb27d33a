"""The last tier: a symbolic algebra system in worker processes that are watched, limited, and killed at the deadline.

Works in any thread and, because workers belong to the process that started them, on both sides of a fork. Nothing is started before
the first question; waiting for an answer blocks only the thread that asks, and lets all others run.
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

MAX_WORKERS = 2
MAX_DEATHS = 3
MAX_QUESTION = 200_000
_PROGRAM = str(Path(__file__).with_name("worker.py"))


class WorkerTimeout(Exception):  # noqa: N818
    """No answer before the deadline.

    Args:
        computing: Whether the worker had the question, so that it is the question that takes long.
    """

    def __init__(self, *, computing: bool) -> None:
        super().__init__("the deadline passed")
        self.computing = computing


class WorkerDied(Exception):  # noqa: N818
    """The worker ended before it answered: out of memory, or killed from outside."""


class WorkerSpent(Exception):  # noqa: N818
    """The worker ran into its memory limit."""


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

    def _write(self, data: bytes, deadline: float) -> None:
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        descriptor = self.process.stdin.fileno()
        os.set_blocking(descriptor, False)
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                if not _wait(descriptor, select.POLLOUT, deadline):
                    raise WorkerTimeout(computing=self.ready) from None
            except OSError:
                raise WorkerDied("the worker is gone") from None

    def _line(self, deadline: float, *, computing: bool) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            if not _wait(descriptor, select.POLLIN, deadline):
                raise WorkerTimeout(computing=computing)
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise WorkerDied("the worker is gone")
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(self, deadline: float) -> None:
        """Wait until it has loaded what it needs."""
        if not self.ready:
            self.usable = bool(self._line(deadline, computing=False)["ready"])
            self.ready = True

    def ask(self, question: dict[str, Any], deadline: float) -> bool | None:
        self.count += 1
        self._write(json.dumps({**question, "id": self.count}).encode() + b"\n", deadline)
        while True:
            answer = self._line(deadline, computing=True)
            if answer.get("id") == self.count:
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
        """In a forked child: let go of a process that belongs to the parent."""
        self.process.returncode = 0
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _wait(descriptor: int, event: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    remaining = deadline - time.monotonic()
    return remaining > 0 and bool(poll.poll(remaining * 1000))


class _Pool:
    def __init__(self) -> None:
        self.free = threading.Condition(threading.Lock())
        self.idle: list[_Worker] = []
        self.running = 0
        self.all: set[_Worker] = set()

    def take(self, deadline: float, memory_bytes: int) -> _Worker:
        with self.free:
            while not self.idle and self.running >= MAX_WORKERS:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self.free.wait(remaining):
                    raise WorkerTimeout(computing=False)
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
    """Whether sympy is installed (looked up, not imported)."""
    return importlib.util.find_spec("sympy") is not None


def same(a: Expr, b: Expr, log: str, deadline: float, memory_bytes: int) -> bool | None:
    """Whether two expressions are equal; None where the symbolic algebra system can't tell either.

    Args:
        a: One side.
        b: The other side.
        log: The base of a logarithm without one, "e" or "10".
        deadline: As of `time.monotonic`.
        memory_bytes: What a worker may use beyond what it starts with.

    Raises:
        WorkerTimeout: The deadline passed. A worker that was computing has been killed.
        WorkerDied: Several workers in a row ended over this question without an answer.
    """
    question = {"a": _tree(a), "b": _tree(b), "log": log}
    if len(repr(question)) > MAX_QUESTION:
        return None
    deaths = 0
    while True:
        worker = _pool.take(deadline, memory_bytes)
        computing = False
        try:
            worker.start(deadline)
            computing = True
            answer = worker.ask(question, deadline) if worker.usable else None
        except WorkerTimeout as error:
            if error.computing:
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
    """An expression as nested lists; numbers as hexadecimal, which has no limit of digits."""
    if isinstance(node, Expr):
        return [node.head, *(_tree(a) for a in node.args)]
    if isinstance(node, tuple):
        return [_tree(a) for a in node]
    if isinstance(node, (int, Fraction)):
        return [hex(node.numerator), hex(node.denominator)]
    return node
