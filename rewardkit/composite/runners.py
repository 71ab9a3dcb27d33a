"""The executors of rewards. Each scores units (one rollout, or one group) and returns a future of their outcomes.

Async rewards have a module of their own, ``async_runner``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

from rewardkit.composite.event_loop import DaemonExecutor
from rewardkit.composite.plugin_calls import call_group, call_reward, close_reward
from rewardkit.config.spec import Component
from rewardkit.process_pool import Answer, Failure, ProcessPool, Result
from rewardkit.services.limits import MAX_PAUSE_S
from rewardkit.types import CallLimits, Outcome, RewardFunction, Rollout, Unscored

logger = logging.getLogger(__name__)

MAX_CHUNK = 256
"""The most rollouts of a coroutine function that one worker process holds at the same time."""
GRACE_S = 5.0
"""How long a worker may take beyond the deadlines of its calls before it is killed."""
CLOSE_TIMEOUT_S = 10.0
"""How long a reward on the device may take to end what it does when it is closed."""

Units: TypeAlias = Sequence[Sequence[Rollout]]
Outcomes: TypeAlias = tuple[list[list[Outcome]], float]
"""The outcomes of each unit, and the seconds spent on them."""


def who(component: Component) -> str:
    """Return the name of a component's reward and its distribution, for messages."""
    return f"{component.offer.type.name} ({component.offer.provenance})"


class Runner(Protocol):
    """Runs one component."""

    def submit(self, units: Units) -> Future[Outcomes]:
        """Start scoring. Inline runners have finished when this returns."""
        ...

    def close(self) -> None:
        """Close the reward and end what runs it."""
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
    """Runs a reward in the calling thread."""

    def __init__(self, component: Component, function: RewardFunction) -> None:
        self._component = component
        self._function = function

    def score(self, rollouts: Sequence[Rollout]) -> tuple[list[Outcome], float]:
        """Score rollouts as one batch; returns their outcomes and the seconds spent."""
        start = time.perf_counter()
        outcomes = call_reward(self._function, rollouts, who(self._component))
        return outcomes, time.perf_counter() - start

    def submit(self, units: Units) -> Future[Outcomes]:
        """Score now; the future is done."""
        future: Future[Outcomes] = Future()
        future.set_result(run_here(self._function, units, self._component))
        return future

    def close(self) -> None:
        """Close the reward."""
        close_reward(self._function, who(self._component))


class DeviceRunner:
    """Runs a reward in the one thread that owns the accelerator. Batches of all components take turns."""

    def __init__(self, component: Component, function: RewardFunction, thread: DaemonExecutor) -> None:
        self._component = component
        self._function = function
        self._thread = thread

    def submit(self, units: Units) -> Future[Outcomes]:
        """Put the units in the device's queue."""
        return self._thread.submit(run_here, self._function, units, self._component)

    def close(self) -> None:
        """Close the reward in the thread that ran it. If the thread is busy for too long, the reward is not closed."""
        closing = self._thread.submit(close_reward, self._function, who(self._component))
        try:
            closing.result(CLOSE_TIMEOUT_S)
        except TimeoutError:
            logger.warning("%s still runs and was not closed", who(self._component))


class ProcessRunner:
    """Runs a reward in worker processes, which can be killed."""

    def __init__(self, component: Component, pool: ProcessPool, key: str, workers: int) -> None:
        self._component = component
        self._workers = workers
        self._pool = pool
        self._key = key

    def submit(self, units: Units) -> Future[Outcomes]:
        """Hand the units to the pool. A coroutine function gets many rollouts at a time, and waits for them side by side."""
        limits = self._component.limits
        if limits is not None and self._component.offer.type.scope == "rollout":
            return self._side_by_side(units, limits)
        return score_in_pool(self._pool, self._key, units, self._component.timeout_s, who(self._component))

    def _side_by_side(self, units: Units, limits: CallLimits) -> Future[Outcomes]:
        """Score chunks of rollouts, each in one worker. If a worker dies or is killed, its rollouts are scored again one by one."""
        at_once = share_of(limits, self._workers).concurrency
        size = min(MAX_CHUNK, max(at_once, math.ceil(len(units) / self._workers)))
        chunks = [[unit[0] for unit in units[first : first + size]] for first in range(0, len(units), size)]
        name, timeout_s = who(self._component), self._component.timeout_s
        rounds = [math.ceil(len(chunk) / at_once) * limits.tries for chunk in chunks]
        pauses = 0.0 if limits.tries == 1 else MAX_PAUSE_S * (limits.tries - 1)
        times = [None if timeout_s is None else count * (timeout_s + GRACE_S) + pauses for count in rounds]
        done: Future[Outcomes] = Future()

        def finish(future: Future[list[Result]]) -> None:
            results = future.result()
            found: list[list[Outcome] | None] = []
            for result, chunk, limit in zip(results, chunks, times, strict=True):
                if isinstance(result, Answer):
                    found.append(list(result.value))
                else:
                    found.append([_unscored(result, name, limit)] if len(chunk) == 1 else None)
            seconds = sum(result.seconds for result in results if isinstance(result, Answer))
            lost = [[rollout] for chunk, part in zip(chunks, found, strict=True) if part is None for rollout in chunk]

            def complete(again: Future[Outcomes]) -> None:
                outcomes, more = again.result()
                singles = iter(outcomes)
                whole = [
                    [outcome for _ in chunk for outcome in next(singles)] if part is None else part
                    for chunk, part in zip(chunks, found, strict=True)
                ]
                done.set_result(([[outcome] for part in whole for outcome in part], seconds + more))

            if lost:
                again = score_in_pool(self._pool, self._key, lost, timeout_s, name)
                again.add_done_callback(passing_errors(done, complete))
            else:
                done.set_result(([[outcome] for part in found for outcome in part or ()], seconds))

        tasks = [(self._key, chunk) for chunk in chunks]
        self._pool.submit(tasks, times).add_done_callback(passing_errors(done, finish))
        return done

    def close(self) -> None:
        """Do nothing: the owner of the pool closes it."""


def share_of(limits: CallLimits, workers: int) -> CallLimits:
    """Return the limits of each of several worker processes, which can't count each other's calls."""
    return replace(limits, concurrency=max(1, limits.concurrency // workers))


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
        results = future.result()
        outcomes: list[list[Outcome]] = [
            result.value if isinstance(result, Answer) else [_unscored(result, name, limit)] * len(unit)
            for result, unit, limit in zip(results, units, limits, strict=True)
        ]
        done.set_result((outcomes, sum(result.seconds for result in results if isinstance(result, Answer))))

    pool.submit([(key, unit) for unit in units], limits).add_done_callback(passing_errors(done, finish))
    return done


def passing_errors(done: Future[Any], callback: Callable[[Future[Any]], None]) -> Callable[[Future[Any]], None]:
    """Return a callback that passes what it raises on to a future: it would only be logged, and who waits would wait for ever.

    Args:
        done: The future that somebody waits for.
        callback: Called with the future that is done.
    """

    def call(future: Future[Any]) -> None:
        try:
            callback(future)
        except BaseException as error:  # noqa: BLE001
            done.set_exception(error)

    return call


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
