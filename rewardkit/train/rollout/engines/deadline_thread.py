"""Calls in a thread of its own, each under a deadline: what hangs there becomes an error here, not a hang.

A thread can't be ended from outside. One that has missed its deadline is given up: every further call fails at once, and it
does not keep the process from ending.
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
"""Longest time from one check to the next while a call is waited for."""
END_S = 10.0
"""How long a call that nobody waits for any more may take to end."""


@dataclass
class _Alive:
    """The call is getting on."""


@dataclass
class _Done:
    """The call is over."""

    error: BaseException | None = None


@dataclass
class _Job(Generic[T]):
    start: Callable[[], Iterator[T | None]]
    out: queue.SimpleQueue[T | _Alive | _Done] = field(default_factory=queue.SimpleQueue)
    cancelled: threading.Event = field(default_factory=threading.Event)


class DeadlineThread:
    """One thread that does what it is given, one thing after the other."""

    def __init__(self, name: str, check: Callable[[], None] = lambda: None) -> None:
        """Start the thread.

        Args:
            name: For messages.
            check: Called now and then while somebody waits for a call; what it raises ends the waiting.
        """
        self.name = name
        self.check = check
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._lost = ""
        """What it was doing when it missed its deadline."""
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, what: str, timeout_s: float, function: Callable[[], T]) -> T:
        """Do something there and wait for it.

        Args:
            what: For the message: ``what`` did not end within …
            timeout_s: The deadline.
            function: Its result is returned; what it raises is raised here.

        Raises:
            EngineError: It did not end in time.
        """
        result: list[T] = []

        def start() -> Iterator[None]:
            result.append(function())
            yield None

        for _ in self.stream(what, timeout_s, start):
            pass
        return result[0]

    def stream(self, what: str, timeout_s: float, start: Callable[[], Iterator[T | None]]) -> Iterator[T]:
        """Run a generator there, and hand its values out here as they come.

        Args:
            what: For the message.
            timeout_s: Most time from one value to the next.
            start: Makes the generator. A value of None only says that it is alive. Where nobody wants more of it, it is closed.

        Raises:
            EngineError: Nothing came from it for too long.
        """
        if self._lost:
            raise EngineError(f"{self.name} is lost: {self._lost} never ended; start the run again")
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
                    raise EngineError(f"{self.name}: {what} got nowhere for {timeout_s:g} s") from None

    def _cancel(self, job: _Job[T], what: str) -> None:
        """Wait until a call that nobody wants any more is over, so that the next finds the thread free."""
        job.cancelled.set()
        try:
            while not isinstance(job.out.get(timeout=END_S), _Done):
                pass
        except queue.Empty:
            self._lost = what

    def close(self) -> None:
        """End the thread, if it still answers."""
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
            # Whatever was raised is raised again where it is waited for.
            except BaseException as error:  # noqa: BLE001
                job.out.put(_Done(error))
            else:
                job.out.put(_Done())
