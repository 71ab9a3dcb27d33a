"""Runs calls in a separate thread, each under a deadline, so that a call that hangs becomes an error.

A thread can't be ended from outside. A thread that has missed its deadline is abandoned: every further call fails at once, and the
thread does not keep the process from exiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rewardkit.errors import EngineError

T = TypeVar("T")
CHECK_S = 0.5
"""Longest time between two checks while waiting for a call."""
END_S = 10.0
"""How long a cancelled call may take to end."""


@dataclass
class _Alive:
    """The call makes progress."""


@dataclass
class _Done:
    """The call has ended."""

    error: BaseException | None = None


@dataclass
class _Job(Generic[T]):
    start: Callable[[], Iterator[T | None]]
    out: queue.SimpleQueue[T | _Alive | _Done] = field(default_factory=queue.SimpleQueue)
    cancelled: threading.Event = field(default_factory=threading.Event)


class DeadlineThread:
    """One thread that runs calls one after the other."""

    def __init__(self, name: str, check: Callable[[], None] = lambda: None) -> None:
        """Start the thread.

        Args:
            name: The name in messages.
            check: Called regularly while a call is waited for. An exception that it raises ends the waiting.
        """
        self.name = name
        self.check = check
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._lost = ""
        """The call that missed its deadline."""
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, what: str, timeout_s: float, function: Callable[[], T]) -> T:
        """Run a function in the thread, and wait for it.

        Args:
            what: What the function does, for messages.
            timeout_s: The deadline, in seconds.
            function: The function. An exception that it raises is raised here.

        Returns:
            The function's result.

        Raises:
            EngineError: The function did not end in time.
        """
        result: list[T] = []

        def start() -> Iterator[None]:
            result.append(function())
            yield None

        for _ in self.stream(what, timeout_s, start):
            pass
        return result[0]

    def stream(self, what: str, timeout_s: float, start: Callable[[], Iterator[T | None]]) -> Iterator[T]:
        """Run a generator in the thread, and yield its values as they come.

        Args:
            what: What the generator does, for messages.
            timeout_s: Longest time between two values, in seconds.
            start: Makes the generator. A value of None only says that it makes progress. It is closed if this is closed.

        Yields:
            The generator's values.

        Raises:
            EngineError: The generator yielded nothing for too long.
        """
        if self._lost:
            raise EngineError(f"{self.name} was abandoned: {self._lost} never ended; start the run again")
        job: _Job[T] = _Job(start)
        self._jobs.put(job)  # type: ignore[arg-type]
        ended = False
        try:
            while True:
                match self._next(job, what, timeout_s):
                    case _Done(error):
                        ended = True
                        if error is not None:
                            raise error
                        return
                    case _Alive():
                        continue
                    case value:
                        yield value
        finally:
            if not ended and not self._lost:
                self._cancel(job, what)

    def _next(self, job: _Job[T], what: str, timeout_s: float) -> T | _Alive | _Done:
        end = time.monotonic() + timeout_s
        while True:
            left = end - time.monotonic()
            try:
                return job.out.get(timeout=max(min(left, CHECK_S), 0))
            except queue.Empty:
                self.check()
                if left <= CHECK_S:
                    self._lost = what
                    raise EngineError(f"{self.name}: {what} made no progress for {timeout_s:g} s") from None

    def _cancel(self, job: _Job[T], what: str) -> None:
        """Cancel a call, and wait until it has ended, so that the thread is free for the next."""
        job.cancelled.set()
        try:
            while not isinstance(job.out.get(timeout=END_S), _Done):
                pass
        except queue.Empty:
            self._lost = what

    def close(self) -> None:
        """End the thread, unless it was abandoned."""
        self._jobs.put(None)
        self._thread.join(0 if self._lost else END_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                values = job.start()
                try:
                    for value in values:
                        if job.cancelled.is_set():
                            break
                        job.out.put(_Alive() if value is None else value)
                finally:
                    if (end := getattr(values, "close", None)) is not None:
                        end()
            # The exception is raised again where the call is waited for.
            except BaseException as error:  # noqa: BLE001
                job.out.put(_Done(error))
            else:
                job.out.put(_Done())
