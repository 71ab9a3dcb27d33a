"""The last tier: sympy in worker processes, which are limited in CPU time and memory.

It works in any thread and, because each process has workers of its own, on both sides of a fork. No process is started before the first
question. Waiting for an answer blocks only the thread that asks.

The deadline is CPU time of the worker, so that a verdict does not depend on what else the machine does. Starting a worker does not
count. A bound on the wall time (`wall_bound`) ends the wait for a worker that gets no processor at all.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rewardkit_math.expr import Expr
from rewardkit_math.symbolic.worker import OUT_OF_MEMORY, OUT_OF_TIME, Question, SympyProgram
from rewardkit_math.work import spend

if TYPE_CHECKING:
    from rewardkit.process_pool import ProcessPool

MAX_WORKERS = 2
MAX_DEATHS = 3
MAX_QUESTION = 60_000
START_S = 120.0
"""Seconds that importing sympy may take."""


class WorkerTimeout(Exception):  # noqa: N818
    """The deadline passed without an answer."""


class WorkerDied(Exception):  # noqa: N818
    """The workers ended before they answered, or could not be started."""


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


class _Workers:
    """The worker processes of this process, started at the first question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None

    def pool(self) -> ProcessPool:
        """Return the pool, and start it if there is none."""
        from rewardkit.process_pool import ProcessPool

        with self._lock:
            if self._pool is None:
                self._pool = ProcessPool(SympyProgram(), MAX_WORKERS, START_S, tries=MAX_DEATHS)
            return self._pool

    def close(self, broken: ProcessPool | None = None) -> None:
        """End the workers, or only those of a pool that has failed; the next question starts others."""
        with self._lock:
            if self._pool is None or (broken is not None and self._pool is not broken):
                return
            closing, self._pool = self._pool, None
        closing.close()

    def abandon(self) -> None:
        """Forget the parent's workers, in a forked child."""
        self._lock = threading.Lock()
        inherited, self._pool = self._pool, None
        if inherited is not None:
            inherited.abandon()


_workers = _Workers()
os.register_at_fork(after_in_child=_workers.abandon)
atexit.register(_workers.close)


def available() -> bool:
    """Return whether sympy is installed, without importing it."""
    return importlib.util.find_spec("sympy") is not None


def same(a: Expr, b: Expr, log: str, deadline: Deadline, memory_bytes: int) -> bool | None:
    """Return whether two expressions are equal; None if sympy can't tell, or needs more memory than it may use.

    Args:
        a: One side.
        b: The other side.
        log: The base of a logarithm without one, "e" or "10".
        deadline: The CPU time that is left for the comparison; the time that this question uses is taken from it.
        memory_bytes: Memory that a worker may use beyond what it starts with.

    Raises:
        WorkerTimeout: The deadline passed. The worker that was computing has been killed.
        WorkerDied: Several workers in a row ended over this question without an answer, or none can be started.
        TooLarge: The expressions are too large to be sent.
    """
    from rewardkit.errors import WorkerError
    from rewardkit.process_pool import Answer

    if deadline.cpu_left <= 0:
        raise WorkerTimeout
    question = Question(_tree(a), _tree(b), log, deadline.cpu_left, memory_bytes)
    if len(repr(question)) > MAX_QUESTION:
        return None
    try:
        pool = _workers.pool()
    except WorkerError as error:
        raise WorkerDied(str(error)) from None
    try:
        [result] = pool.submit([question], timeout_s=wall_bound(deadline.cpu_left)).result()
    except WorkerError as error:
        _workers.close(pool)
        raise WorkerDied(str(error)) from None
    if isinstance(result, Answer):
        equal: bool | None
        equal, cpu_s = result.value
        deadline.cpu_left -= cpu_s
        return equal
    if result.kind == "timeout" or result.code == OUT_OF_TIME:
        raise WorkerTimeout
    if result.code == OUT_OF_MEMORY:
        return None
    raise WorkerDied(f"the worker that compared the answers ended: {result.message}")


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
