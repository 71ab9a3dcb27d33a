"""The executors: where a component's work runs. Each takes units (one rollout, or one group) and gives a future of their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

from rewardkit.composite.plugin_calls import call_async, call_group, call_reward, close_reward
from rewardkit.config.spec import Component
from rewardkit.process_pool import Answer, Failure, ProcessPool, Result
from rewardkit.types import Outcome, RewardFunction, Rollout, Unscored

logger = logging.getLogger(__name__)

ASYNC_CONCURRENCY = 64
"""Calls of one async component that wait at the same time."""
CLOSE_TIMEOUT_S = 10

Units: TypeAlias = Sequence[Sequence[Rollout]]
Outcomes: TypeAlias = tuple[list[list[Outcome]], float]
"""The outcomes of each unit, and the seconds spent on them."""


def who(component: Component) -> str:
    """How messages call a component's reward."""
    return f"{component.offer.type.name} ({component.offer.provenance})"


class Runner(Protocol):
    """Runs one component."""

    def submit(self, units: Units) -> Future[Outcomes]:
        """Start scoring. Inline runners have finished when this returns."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


def run_here(function: RewardFunction, units: Units, component: Component) -> Outcomes:
    """Score in the calling thread; rollouts go to the reward as one batch, groups one by one."""
    start = time.perf_counter()
    name = who(component)
    if component.offer.type.scope == "group":
        outcomes = [call_group(function, unit, name) for unit in units]
    else:
        outcomes = [[outcome] for outcome in call_reward(function, [unit[0] for unit in units], name)]
    return outcomes, time.perf_counter() - start


class InlineRunner:
    """In the calling thread."""

    def __init__(self, component: Component, function: RewardFunction) -> None:
        self._component = component
        self._function = function

    def submit(self, units: Units) -> Future[Outcomes]:
        """Score now; the future is done."""
        future: Future[Outcomes] = Future()
        future.set_result(run_here(self._function, units, self._component))
        return future

    def close(self) -> None:
        """Close the reward."""
        close_reward(self._function, who(self._component))


class DeviceRunner:
    """In the one thread that owns the accelerator: batches of all components take turns."""

    def __init__(self, component: Component, function: RewardFunction, thread: ThreadPoolExecutor) -> None:
        self._component = component
        self._function = function
        self._thread = thread

    def submit(self, units: Units) -> Future[Outcomes]:
        """Put the units in the device's queue."""
        return self._thread.submit(run_here, self._function, units, self._component)

    def close(self) -> None:
        """Close the reward, in the thread that ran it."""
        self._thread.submit(close_reward, self._function, who(self._component)).result()


class ProcessRunner:
    """In worker processes that can be killed."""

    def __init__(self, component: Component, pool: ProcessPool, key: str) -> None:
        self._component = component
        self._pool = pool
        self._key = key

    def submit(self, units: Units) -> Future[Outcomes]:
        """Hand the units to the pool."""
        return score_in_pool(self._pool, self._key, units, self._component.timeout_s, who(self._component))

    def close(self) -> None:
        """The pool is closed by who made it."""


def score_in_pool(pool: ProcessPool, key: str, units: Units, timeout_s: float | None, name: str) -> Future[Outcomes]:
    """Score units in worker processes.

    Args:
        pool: A pool that runs a `WorkerSpec`.
        key: The component's name in that specification.
        units: What to score.
        timeout_s: Seconds that one rollout may take; a group may take that long for each of its rollouts.
        name: The reward and its distribution, for messages.
    """
    limits = [None if timeout_s is None else timeout_s * len(unit) for unit in units]
    done: Future[Outcomes] = Future()

    def finish(future: Future[list[Result]]) -> None:
        try:
            results = future.result()
            outcomes: list[list[Outcome]] = [
                result.value if isinstance(result, Answer) else [_unscored(result, name, limit)] * len(unit)
                for result, unit, limit in zip(results, units, limits, strict=True)
            ]
        # An exception in a callback is only logged, and whoever waits for the future would wait for ever.
        except BaseException as error:  # noqa: BLE001
            done.set_exception(error)
            return
        done.set_result((outcomes, sum(result.seconds for result in results if isinstance(result, Answer))))

    pool.submit([(key, unit) for unit in units], limits).add_done_callback(finish)
    return done


def _unscored(failure: Failure, name: str, limit_s: float | None) -> Unscored:
    """Return why a unit has no score, from why its task has no answer."""
    match failure.kind:
        case "timeout":
            return Unscored("timeout", f"{name} took longer than {limit_s:g} s")
        case "unpicklable":
            return Unscored("input", f"the row can't be handed to a worker process: {failure.message}")
        case "died":
            return Unscored("plugin", f"{name}: its worker process died on this rollout ({failure.message})")
        case "raised":
            return Unscored("plugin", f"{name}: its worker process failed: {failure.message}")


class EventLoop:
    """An asyncio loop in a thread of its own, so that async rewards work whatever the caller does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewardkit-async", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine there. Raises RuntimeError if the loop is closed."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()  # it will never run, and must not be reported as forgotten
            raise

    def close(self) -> None:
        """Cancel what still waits and end the thread."""
        with contextlib.suppress(TimeoutError):
            self.submit(self._cancel_all()).result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.run_until_complete(self._cancel_all())  # what was submitted while the loop stopped
            self._loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()


class AsyncRunner:
    """On an event loop, many rollouts at once, each with its deadline."""

    def __init__(self, component: Component, function: RewardFunction, loop: EventLoop) -> None:
        self._component = component
        self._function = function
        self._loop = loop
        self._limit = asyncio.Semaphore(ASYNC_CONCURRENCY)
        self._told_until = 0.0
        """Up to when the time has been told: calls that wait side by side take their time once."""

    def submit(self, units: Units) -> Future[Outcomes]:
        """Start a task for each unit."""
        return self._loop.submit(self._run(units))

    async def _run(self, units: Units) -> Outcomes:
        start = time.perf_counter()
        outcomes = await asyncio.gather(*(self._one(unit) for unit in units))
        now = time.perf_counter()
        start, self._told_until = max(start, self._told_until), now
        return list(outcomes), now - start

    async def _one(self, unit: Sequence[Rollout]) -> list[Outcome]:
        name = who(self._component)
        limit = self._component.timeout_s
        seconds = None if limit is None else limit * len(unit)
        async with self._limit:
            try:
                async with asyncio.timeout(seconds):
                    return await call_async(self._function, unit, name)
            except TimeoutError:
                return [Unscored("timeout", f"{name} took longer than {seconds:g} s")] * len(unit)

    def close(self) -> None:
        """Close the reward, on the loop if it asks for that."""
        close = getattr(self._function, "close", None)
        if not inspect.iscoroutinefunction(close):
            close_reward(self._function, who(self._component))
            return
        try:
            self._loop.submit(close()).result(CLOSE_TIMEOUT_S)
        # The boundary: that a plugin fails to close, or doesn't come to an end with it, is only told.
        except Exception:
            logger.exception("%s could not be closed", who(self._component))
