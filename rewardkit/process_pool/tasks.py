"""Tasks of a process pool, and their results."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from rewardkit.process_pool.fork_server import Answer


@dataclass(frozen=True, slots=True)
class Failure:
    """A task without an answer, and the reason."""

    kind: Literal["died", "timeout", "unpicklable", "raised"]
    message: str
    """The way in which the worker died, the reason why the task can't be pickled, or the exception's text; empty for a time-out."""
    error: Exception | None = None
    """The exception that the handler raised."""
    code: int | None = None
    """The exit code of a worker that died; negative for the number of a signal."""


Result: TypeAlias = Answer | Failure


class Batch:
    """Tasks that were submitted together.

    Args:
        size: How many there are.
    """

    def __init__(self, size: int) -> None:
        self.future: Future[list[Result]] = Future()
        self._results: list[Result | None] = [None] * size
        self._missing = size

    def finish(self, index: int, result: Result) -> None:
        """Set the result of one task; the last one completes the future."""
        self._results[index] = result
        self._missing -= 1
        if self._missing == 0 and not self.future.done():
            self.future.set_result(cast("list[Result]", self._results))


@dataclass(slots=True, eq=False)
class Task:
    """One pickled task."""

    number: int
    payload: bytes
    timeout_s: float | None
    batch: Batch
    index: int
    """The index in the batch."""
    tries: int = 0
