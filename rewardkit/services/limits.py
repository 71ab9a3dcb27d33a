"""Limits of calls to services: how many at once, tries with growing pauses, and a pause for an endpoint that is down.

All components that name one endpoint share its state, whichever event loop they run on. Event loops of rewards differ, so the state is
guarded by a lock and waiting calls are woken in their own loops.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import email.utils
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rewardkit.types import CallLimits

T = TypeVar("T")

MAX_PAUSE_S = 60.0
"""The longest pause before another try, also where a service asks for a longer one."""
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP status codes after which another try may succeed."""


class TryAgainError(Exception):
    """An attempt failed, and another may succeed.

    Args:
        message: What happened.
        after_s: The seconds after which the service wants to be called again.
    """

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        self.after_s = after_s
        super().__init__(message)


class GaveUpError(Exception):
    """A call failed after all tries, or was not made because its endpoint is down. The message says why."""


@dataclass(eq=False, frozen=True, slots=True)
class _Turn:
    """The turn of a call that waits."""

    most: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class Limiter:
    """Counts calls at once, across event loops. Waiting calls get their turns in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._waiting: collections.deque[_Turn] = collections.deque()
        self._given: set[_Turn] = set()
        """Turns that have been given and not been taken yet."""

    async def acquire(self, most: int) -> None:
        """Wait until fewer than ``most`` calls are under way, and count one more.

        Args:
            most: The limit of the caller; callers may have different ones.

        Raises:
            CancelledError: The task was cancelled, or its loop was forgotten.
        """
        with self._lock:
            if self._busy < most and not self._waiting:
                self._busy += 1
                return
            loop = asyncio.get_running_loop()
            turn = _Turn(most, loop, loop.create_future())
            self._waiting.append(turn)
        self._wake()
        try:
            await turn.future
        except asyncio.CancelledError:
            with self._lock:
                was_given = turn in self._given
                self._given.discard(turn)
                if turn in self._waiting:
                    self._waiting.remove(turn)
            if was_given:  # and nobody uses it
                self.release()
            raise
        with self._lock:
            if turn not in self._given:
                raise asyncio.CancelledError("the event loop was given up")
            self._given.discard(turn)

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the turns of a blocked event loop to others.

        Args:
            loop: The loop, which has been given up.
        """
        with self._lock:
            self._waiting = collections.deque(turn for turn in self._waiting if turn.loop is not loop)
            lost = {turn for turn in self._given if turn.loop is loop}
            self._given -= lost
            self._busy -= len(lost)
        self._wake()

    def release(self) -> None:
        """Count one call less. Any thread may call this."""
        with self._lock:
            self._busy -= 1
        self._wake()

    def _wake(self) -> None:
        """Give turns to those that wait, as many as their limits allow."""
        while True:
            with self._lock:
                if not self._waiting or self._busy >= self._waiting[0].most:
                    return
                turn = self._waiting.popleft()
                self._given.add(turn)
                self._busy += 1
            try:
                turn.loop.call_soon_threadsafe(_give, turn.future)
            except RuntimeError:  # that loop has been closed; the next one gets the turn
                with self._lock:
                    self._given.discard(turn)
                    self._busy -= 1

    @contextlib.asynccontextmanager
    async def slot(self, most: int) -> AsyncIterator[None]:
        """Hold one call's place inside the block.

        Args:
            most: The limit of the caller.
        """
        await self.acquire(most)
        try:
            yield
        finally:
            self.release()


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


@dataclass(slots=True)
class Endpoint:
    """What all components of this process that call one endpoint share."""

    limiter: Limiter = field(default_factory=Limiter)
    failures: int = 0
    """Calls in a row that failed for good."""
    down_until: float = 0.0
    """The time (``time.monotonic``) up to which the endpoint is not called."""
    last_error: str = ""

    def down(self) -> str:
        """Return why the endpoint must not be called now; empty if it may."""
        rest = self.down_until - time.monotonic()
        return f"is down ({self.last_error}); it is tried again in {rest:.0f} s" if rest > 0 else ""

    def succeeded(self) -> None:
        """Note that a call succeeded."""
        self.failures = 0

    def failed(self, problem: str, limits: CallLimits) -> None:
        """Note that a call failed for good. After too many in a row the endpoint counts as down.

        Args:
            problem: What happened.
            limits: The limits of the caller.
        """
        self.failures += 1
        self.last_error = problem
        if limits.down_after and self.failures >= limits.down_after:
            self.down_until, self.failures = time.monotonic() + limits.down_for, 0


_endpoints: dict[str, Endpoint] = {}
_lock = threading.Lock()


def _forget() -> None:
    """Forget calls that are under way in the parent of a forked process."""
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it
    _lock = threading.Lock()
    _endpoints.clear()


os.register_at_fork(after_in_child=_forget)


def endpoint_of(limits: CallLimits) -> Endpoint:
    """Return the state of the endpoint that limits name, which all of this process share; a new one if they name none."""
    if not limits.endpoint:
        return Endpoint()
    with _lock:
        return _endpoints.setdefault(limits.endpoint.rstrip("/"), Endpoint())


def pause_s(limits: CallLimits, tried: int, after_s: float = 0.0) -> float:
    """Return the seconds to wait before another try.

    Args:
        limits: The limits of the call.
        tried: The number of tries so far, from 1 on.
        after_s: The seconds that the service asked for.
    """
    growing = limits.pause * 2.0 ** (tried - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads tries
    return min(MAX_PAUSE_S, max(growing, after_s))


async def call(limits: CallLimits, endpoint: Endpoint, attempt: Callable[[], Awaitable[T]]) -> T:
    """Make a call within limits.

    Args:
        limits: How many at once, how many tries.
        endpoint: The state of the endpoint.
        attempt: Makes one attempt. It raises `TryAgainError` if another may succeed; any other exception ends the call.

    Raises:
        GaveUpError: All tries failed, or the endpoint is down.
    """
    problem, pause = "", 0.0
    for tried in range(1, limits.tries + 1):
        if pause:
            await asyncio.sleep(pause)
        async with endpoint.limiter.slot(limits.concurrency):
            if down := endpoint.down():
                raise GaveUpError(down)
            try:
                result = await attempt()
            except TryAgainError as error:
                problem, pause = str(error), pause_s(limits, tried, error.after_s)
                continue
        endpoint.succeeded()
        return result
    endpoint.failed(problem, limits)
    raise GaveUpError(f"{problem}, after {limits.tries} {'attempt' if limits.tries == 1 else 'attempts'}")


def retry_after_s(headers: Mapping[str, str] | Any) -> float:
    """Return the seconds that a header ``Retry-After`` asks for, as a number or a date; 0 if there is none.

    Args:
        headers: The headers of a response.
    """
    text = ""
    with contextlib.suppress(AttributeError, TypeError):
        text = str(headers.get("retry-after") or headers.get("Retry-After") or "")
    with contextlib.suppress(ValueError):
        return min(MAX_PAUSE_S, max(0.0, float(text)))
    try:
        return min(MAX_PAUSE_S, max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()))
    except (ValueError, TypeError, IndexError):
        return 0.0
