"""Scores the rollouts of many requests at the same time: admission and batching. Knows nothing of HTTP.

Rewards that run in the calling thread get the rollouts of all waiting requests as one batch, since that costs less per rollout. Requests
are never merged where a reward compares the rollouts of a group (two requests may use one group name), nor where components wait for
workers or services (they run side by side anyway).
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from rewardkit.composite import CompositeReward
from rewardkit.errors import RewardkitError
from rewardkit.types import RETRYABLE, Rollout, ScoredRollout

T = TypeVar("T")

MAX_BATCH = 512
"""Rollouts that are scored in one call; a batch ends with the request that reaches it."""
MAX_PAUSE_S = 10.0


class BusyError(RewardkitError):
    """Too many rollouts are in flight; ``retry_after_s`` says when to come back."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


@dataclasses.dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    rollouts: Sequence[Rollout]
    step: int
    finish: Callable[[list[ScoredRollout]], T]
    future: asyncio.Future[T]


class Batcher:
    """Scores rollouts for an event loop. ``start`` it in the loop that uses it.

    Args:
        reward: The reward. Its policy must not be ``fail``, which would let one request fail others.
        limit: Rollouts in flight: those being scored and those waiting.
        on_batch: Called with the number of rollouts of each batch and the seconds that it took.
    """

    def __init__(
        self, reward: CompositeReward, limit: int, on_batch: Callable[[int, float], None] = lambda _n, _s: None
    ) -> None:
        self.reward = reward
        self.limit = limit
        self.in_flight = 0
        self.merges = reward.is_inline and not reward.config.needs_groups
        self._on_batch = on_batch
        self._waiting: deque[_Job[Any]] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._rate = 0.0
        """Rollouts a second, a running mean: what Retry-After is estimated from."""

    def start(self) -> None:
        """Start to take jobs."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rewardkit-score")
        if self.merges:
            self._task = asyncio.get_running_loop().create_task(self._merge())

    async def close(self) -> None:
        """Stop taking jobs. The reward stays open."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def score(self, rollouts: Sequence[Rollout], step: int, finish: Callable[[list[ScoredRollout]], T]) -> T:
        """Score rollouts.

        Args:
            rollouts: The rollouts of one request.
            step: The training step for weight schedules.
            finish: Called with the scored rollouts, off the event loop; its result is returned.

        Raises:
            BusyError: Too many rollouts are in flight.
        """
        if self.in_flight + len(rollouts) > self.limit:
            seconds = self.in_flight / self._rate if self._rate else 1.0
            raise BusyError(
                f"{self.in_flight} rollouts are in flight and at most {self.limit} may be", min(60, 1 + int(seconds))
            )
        self.in_flight += len(rollouts)
        try:
            if not rollouts:
                return finish([])
            if not self.merges:
                begin = time.perf_counter()
                scored = await self.reward.ascore(rollouts, step=step)
                self._scored(len(rollouts), time.perf_counter() - begin)
                return await asyncio.to_thread(finish, scored)
            job = _Job(rollouts, step, finish, asyncio.get_running_loop().create_future())
            self._waiting.append(job)
            self._arrived.set()
            result: T = await job.future
            return result
        finally:
            self.in_flight -= len(rollouts)

    async def score_until(
        self, rollouts: Sequence[Rollout], deadline_s: float, finish: Callable[[list[ScoredRollout]], T]
    ) -> T:
        """Score rollouts, and score those again that a failing service or a time-out left unscored, until a deadline.

        Args:
            rollouts: The rollouts of one request.
            deadline_s: The seconds after which no further try begins.
            finish: Called with the scored rollouts; its result is returned.

        Raises:
            BusyError: Too many rollouts are in flight.
        """
        end, pause_s = time.monotonic() + deadline_s, 0.5
        scored = await self.score(rollouts, 0, list)
        while again := [
            index for index, item in enumerate(scored) if item.unscored and item.unscored.kind in RETRYABLE
        ]:
            if time.monotonic() + pause_s > end:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            fresh = await self.score([rollouts[index] for index in again], 0, list)
            for index, item in zip(again, fresh, strict=True):
                scored[index] = item
        return finish(scored)

    async def _merge(self) -> None:
        """Score what waits, all of it at once, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                jobs: list[_Job[Any]] = []
                rows = 0
                while self._waiting and rows < MAX_BATCH and (not jobs or self._waiting[0].step == jobs[0].step):
                    jobs.append(self._waiting.popleft())
                    rows += len(jobs[-1].rollouts)
                results = await asyncio.wrap_future(self._thread.submit(self._score_batch, jobs))
                for job, (result, error) in zip(jobs, results, strict=True):
                    if job.future.done():  # its request was cancelled
                        continue
                    if error is None:
                        job.future.set_result(result)
                    else:
                        job.future.set_exception(error)

    def _score_batch(self, jobs: Sequence[_Job[Any]]) -> list[tuple[Any, BaseException | None]]:
        """Score several jobs in one call; if that raises, one by one, so that only the culprit fails."""
        rows = [rollout for job in jobs for rollout in job.rollouts]
        try:
            scored = self._score(rows, jobs[0].step)
        # The boundary between requests: whatever one brings about must not fail its neighbours.
        except BaseException as error:  # noqa: BLE001
            if len(jobs) == 1:
                return [(None, error)]
            return [result for job in jobs for result in self._score_batch([job])]
        results: list[tuple[Any, BaseException | None]] = []
        first = 0
        for job in jobs:
            results.append(_finished(job, scored[first : first + len(job.rollouts)]))
            first += len(job.rollouts)
        return results

    def _score(self, rollouts: Sequence[Rollout], step: int) -> list[ScoredRollout]:
        begin = time.perf_counter()
        scored = self.reward.score(rollouts, step=step)
        self._scored(len(rollouts), time.perf_counter() - begin)
        return scored

    def _scored(self, count: int, seconds: float) -> None:
        self._rate = 0.9 * self._rate + 0.1 * count / max(seconds, 1e-6)
        self._on_batch(count, seconds)


def _finished(job: _Job[Any], scored: list[ScoredRollout]) -> tuple[Any, BaseException | None]:
    try:
        return job.finish(scored), None
    # As above: an answer that can't be written fails its own request only.
    except BaseException as error:  # noqa: BLE001
        return None, error
