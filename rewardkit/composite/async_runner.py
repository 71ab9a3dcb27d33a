"""The executor of async rewards: many calls at once, within limits, with a deadline that holds even if the reward blocks its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from rewardkit.authoring import AsyncRowwise
from rewardkit.composite.event_loop import EventLoop
from rewardkit.composite.failures import asked_pause_s
from rewardkit.composite.plugin_calls import call_async, close_reward, ending_forked_children
from rewardkit.composite.runners import Outcomes, Units
from rewardkit.errors import UsageError
from rewardkit.services.limits import Endpoint, endpoint_of, pause_s
from rewardkit.types import RETRYABLE, CallLimits, Outcome, RewardFunction, Rollout, Scope, Unscored

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 10.0
GRACE_S = 1.0
"""How far beyond its deadline a call may be before it is given up from outside, and how long a loop may take to answer."""
MAX_BLOCKED_THREADS = 16
"""If so many threads are blocked by calls that never return, the component is not called again."""
MAX_GIVEN_UP = 64
"""If so many calls of one event loop go on although they were cancelled, the reward is built again on another."""


@dataclass(frozen=True, slots=True)
class AsyncReward:
    """An async reward, and how it is called."""

    name: str
    """The name of the component."""
    who: str
    """The reward and its distribution, for messages."""
    build: Callable[[], RewardFunction]
    """Builds the reward again."""
    limits: CallLimits
    timeout_s: float | None = None
    """The time limit of one rollout, from the moment at which the call starts."""
    scope: Scope = "rollout"


@dataclass(eq=False, slots=True)
class _Batch:
    """Units that are scored together."""

    done: Future[Outcomes]
    calls: list[_Call] = field(default_factory=list)
    left: int = 0
    """The number of calls that are not done."""
    started: float = field(default_factory=time.perf_counter)


@dataclass(eq=False, slots=True)
class _Call:
    """One call of the reward, for some rollouts or one group."""

    unit: Sequence[Rollout]
    """The rollouts of the call."""
    batch: _Batch
    outcomes: list[Outcome] | None = None
    worker: _Worker | None = None
    """The worker that the call was handed to last."""
    overdue_at: float | None = None
    """The time (``time.monotonic``) at which the call is given up; None before it starts, between tries, and without a deadline."""
    has_slot: bool = False
    retry_after_s: float = 0.0
    """What the service asked for in its last answer."""


class _Worker:
    """A built reward with its event loop. Both are replaced if the reward blocks the loop."""

    def __init__(self, function: RewardFunction, name: str) -> None:
        self.function = function
        self.loop = EventLoop(name)
        self.tasks: dict[asyncio.Task[None], _Call] = {}
        self.given_up = 0
        """Calls that went on after they were cancelled."""


class AsyncRunner:
    """Runs an async reward on an event loop of its own, as many calls at once as its limits allow.

    Deadlines are watched from another thread. A call that ignores its cancellation is given up. If a call blocks the loop, the reward
    is built again on a new loop, where the other calls start again.
    """

    def __init__(self, reward: AsyncReward, function: RewardFunction) -> None:
        self._reward = reward
        self._name = reward.who
        self._limits = reward.limits
        self._endpoint: Endpoint = endpoint_of(reward.limits)
        is_batched = reward.scope == "rollout" and not isinstance(function, AsyncRowwise)
        self._rows_per_call = reward.limits.batch if is_batched else 1
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: dict[_Call, None] = {}
        """The calls without outcomes, in the order in which they came."""
        self._worker = _Worker(function, self._thread_name)
        self._abandoned: list[_Worker] = []
        self._watcher: threading.Thread | None = None
        self._refused: Unscored | None = None
        """Why the reward is not called again."""
        self._closed = False
        self._told_until = 0.0
        """The time up to which seconds have been reported: calls that wait side by side count once."""

    @property
    def _thread_name(self) -> str:
        return f"rewardkit-async-{self._reward.name}"

    @property
    def functions(self) -> tuple[RewardFunction, ...]:
        """Every reward that was built, those that were given up included: each knows what its own calls have cost."""
        with self._lock:
            workers = dict.fromkeys([*self._abandoned, self._worker])
        return tuple(worker.function for worker in workers)

    def submit(self, units: Units) -> Future[Outcomes]:
        """Start a task for each call."""
        batch = _Batch(Future())
        rows = self._rows_per_call
        if rows > 1:
            calls = [[unit[0] for unit in units[first : first + rows]] for first in range(0, len(units), rows)]
            batch.calls = [_Call(call, batch) for call in calls]
        else:
            batch.calls = [_Call(unit, batch) for unit in units]
        batch.left = len(batch.calls)
        if not batch.calls:
            batch.done.set_result(([], 0.0))
            return batch.done
        with self._lock:
            if self._closed:
                raise UsageError("this reward has been closed; load it again to score more")
            self._open.update(dict.fromkeys(batch.calls))
            refused = self._refused
            if refused is None:
                self._start(batch.calls)
                if self._reward.timeout_s is not None and self._watcher is None:
                    self._watcher = threading.Thread(target=self._watch, name=f"{self._thread_name}-watch", daemon=True)
                    self._watcher.start()
        if refused is not None:
            self._settle_all([(call, refused) for call in batch.calls])
        return batch.done

    def close(self) -> None:
        """Close the reward, on its loop if ``close`` is a coroutine function. What is not scored fails with UsageError."""
        with self._lock:
            self._closed = True
            batches = {call.batch for call in self._open}
            for call in self._open:
                self._release(call)
            self._open.clear()
            self._changed.notify_all()
        for batch in batches:
            batch.done.set_exception(UsageError("the reward was closed while it scored"))
        self._close_worker(self._worker)
        for worker in self._abandoned:
            if not inspect.iscoroutinefunction(getattr(worker.function, "close", None)):
                close_reward(worker.function, self._name)
        if self._watcher is not None:
            self._watcher.join(CLOSE_TIMEOUT_S)

    def _close_worker(self, worker: _Worker) -> None:
        close = getattr(worker.function, "close", None)
        is_blocked = not worker.loop.answers(GRACE_S)
        if not inspect.iscoroutinefunction(close):
            close_reward(worker.function, self._name)
        elif not is_blocked:
            try:
                worker.loop.submit(close()).result(CLOSE_TIMEOUT_S)
            # The boundary: a plugin that fails to close, or takes too long, is only logged.
            except Exception:
                logger.exception("%s could not be closed", self._name)
        if is_blocked:
            self._endpoint.limiter.forget(worker.loop.asyncio_loop)
            worker.loop.abandon()
        else:
            worker.loop.close(CLOSE_TIMEOUT_S)

    def _start(self, calls: Sequence[_Call]) -> None:
        """Hand calls to the present worker. The lock is held."""
        worker = self._worker
        for call in calls:
            call.worker, call.overdue_at = worker, None
        with contextlib.suppress(
            RuntimeError
        ):  # the loop has been given up, and `_replace` will start these calls again
            worker.loop.call(self._create_tasks, worker, calls)

    def _create_tasks(self, worker: _Worker, calls: Sequence[_Call]) -> None:
        for call in calls:
            task = asyncio.get_running_loop().create_task(self._run(worker, call))
            worker.tasks[task] = call
            task.add_done_callback(worker.tasks.pop)

    async def _run(self, worker: _Worker, call: _Call) -> None:
        """Score the rollouts of one call, in the worker's loop, in as many tries as the limits allow."""
        outcomes: list[Outcome] = []
        found: list[Outcome]
        left = list(range(len(call.unit)))
        down = ""
        for tried in range(1, self._limits.tries + 1):
            try:
                await self._endpoint.limiter.acquire(self._limits.concurrency)
                if not self._begin(worker, call):
                    return
                if down := self._endpoint.down():
                    found = [Unscored("infra", f"{self._name}: its service {down}")] * len(left)
                else:
                    found = await self._attempt(worker, call, [call.unit[index] for index in left])
            except asyncio.CancelledError:  # by the reward itself: closing the runner has settled all calls before
                found = [Unscored("plugin", f"{self._name} cancelled the task that it runs in")] * len(left)
            finally:
                self._end(worker, call)
            outcomes = found if len(left) == len(call.unit) else outcomes
            for index, outcome in zip(left, found, strict=True):
                outcomes[index] = outcome
            failed = [index for index in left if _may_be_tried_again(outcomes[index])]
            if len(failed) < len(left):
                self._endpoint.succeeded()
            if down or not failed or tried == self._limits.tries:
                break
            left = failed if self._reward.scope == "rollout" else left
            await asyncio.sleep(pause_s(self._limits, tried, call.retry_after_s))
        if not down and outcomes and all(map(_may_be_tried_again, outcomes)):
            last = outcomes[-1]
            self._endpoint.failed(last.message if isinstance(last, Unscored) else "", self._limits)
        self._settle(call, outcomes, worker)

    def _begin(self, worker: _Worker, call: _Call) -> bool:
        """Start the deadline of a call that has got its turn. Returns False if the call has been settled or started elsewhere."""
        with self._lock:
            if call.worker is not worker or call.outcomes is not None or self._closed:
                self._endpoint.limiter.release()
                return False
            call.has_slot, call.retry_after_s = True, 0.0
            if (seconds := self._seconds(call)) is not None:
                call.overdue_at = time.monotonic() + seconds + GRACE_S
                self._changed.notify_all()
            return True

    def _end(self, worker: _Worker, call: _Call) -> None:
        """End the deadline of a call and give its turn to another, unless it has been started again by another worker."""
        with self._lock:
            if call.worker is worker:
                call.overdue_at = None
                self._release(call)

    def _release(self, call: _Call) -> None:
        """Give a call's turn to another, once. The lock is held."""
        if call.has_slot:
            call.has_slot = False
            self._endpoint.limiter.release()

    async def _attempt(self, worker: _Worker, call: _Call, rollouts: Sequence[Rollout]) -> list[Outcome]:
        """Call the reward once."""

        def raised(error: BaseException) -> None:
            call.retry_after_s = max(call.retry_after_s, asked_pause_s(error))

        try:
            async with asyncio.timeout(self._seconds(call)):
                found = await call_async(worker.function, rollouts, self._name, raised)
                if len(rollouts) > 1 and self._reward.scope == "rollout" and _is_plugin_fault(found):
                    # Only the culprit of a batch is unscored.
                    alone = [await call_async(worker.function, [rollout], self._name, raised) for rollout in rollouts]
                    found = [outcome for outcomes in alone for outcome in outcomes]
                return found
        except TimeoutError:
            return [self._timed_out(call)] * len(rollouts)

    def _seconds(self, call: _Call) -> float | None:
        """The time limit of a call: that of one rollout, for each of its rollouts."""
        limit = self._reward.timeout_s
        return None if limit is None else limit * len(call.unit)

    def _timed_out(self, call: _Call, how: str = "") -> Unscored:
        return Unscored("timeout", f"{self._name} took longer than {self._seconds(call):g} s{how}")

    def _settle_all(self, settled: Sequence[tuple[_Call, Unscored]]) -> None:
        for call, outcome in settled:
            self._settle(call, [outcome] * len(call.unit))

    def _settle(self, call: _Call, outcomes: list[Outcome], worker: _Worker | None = None) -> None:
        """Take the outcomes of a call, unless it has some, or they come from a worker that has been replaced."""
        batch = call.batch
        with self._lock:
            if call not in self._open or (worker is not None and call.worker is not worker):
                return
            del self._open[call]
            call.outcomes = outcomes
            batch.left -= 1
            if batch.left:
                return
            now = time.perf_counter()
            start, self._told_until = max(batch.started, self._told_until), now
        found = [call.outcomes or [] for call in batch.calls]
        if self._rows_per_call > 1:
            found = [[outcome] for outcomes in found for outcome in outcomes]
        batch.done.set_result((found, now - start))

    def _watch(self) -> None:
        """Give up calls that are beyond their deadlines although their tasks have been cancelled. Runs in a thread of its own."""
        while True:
            with self._lock:
                if self._closed:
                    return
                due = min((call.overdue_at for call in self._open if call.overdue_at is not None), default=None)
                if due is None or due > time.monotonic():
                    self._changed.wait(None if due is None else due - time.monotonic())
                    continue
                worker = self._worker
            answers = worker.loop.answers(GRACE_S)
            now = time.monotonic()
            with self._lock:
                overdue = [call for call in self._open if call.overdue_at is not None and call.overdue_at <= now]
            if answers:
                self._give_up(worker, overdue)
            elif overdue:
                self._replace(worker, overdue)

    def _give_up(self, worker: _Worker, overdue: Sequence[_Call]) -> None:
        """Settle calls that go on although they have been cancelled."""
        for call in overdue:
            worker.given_up += 1
            with self._lock:
                self._release(call)
            self._settle(call, [self._timed_out(call, " and ignored its cancellation")] * len(call.unit))
        if worker.given_up >= MAX_GIVEN_UP:
            self._replace(worker, [])

    def _replace(self, worker: _Worker, overdue: Sequence[_Call]) -> None:
        """Build the reward again on a new loop, because one of its calls blocks the present one."""
        task = worker.loop.current_task()
        blocking = worker.tasks.get(task) if task is not None else None
        if blocking is not None and blocking in self._open and blocking not in overdue:
            time.sleep(GRACE_S / 10)  # it may block the loop until its own deadline
            return
        with self._lock:  # what the old loop says from now on does not count
            for call in self._open:
                call.worker = None
                self._release(call)
        self._endpoint.limiter.forget(worker.loop.asyncio_loop)
        how = "; it blocks its event loop: it must await what takes time, or call it with asyncio.to_thread"
        worker.loop.abandon()
        self._abandoned.append(worker)
        fresh, refused = self._build_again()
        settled: list[tuple[_Call, Unscored]] = []
        with self._lock:
            if fresh is not None:
                self._worker = fresh
            self._refused = refused
            again = []
            for call in self._open:
                if call is blocking or (blocking is None and call in overdue):
                    settled.append((call, self._timed_out(call, how)))
                elif refused is not None:
                    settled.append((call, refused))
                else:
                    again.append(call)
            if fresh is not None and not self._closed:
                self._start(again)
        self._settle_all(settled)

    def _build_again(self) -> tuple[_Worker | None, Unscored | None]:
        """Return a new worker, or why there is none."""
        blocked = sum(worker.loop.is_alive for worker in self._abandoned)
        if blocked >= MAX_BLOCKED_THREADS:
            message = f"{self._name} is not called again: {blocked} of its calls block their threads"
            return None, Unscored("plugin", message)
        try:
            with ending_forked_children():
                function = self._reward.build()
        # The boundary: building runs the plugin's own code.
        except Exception as error:  # noqa: BLE001
            return None, Unscored("plugin", f"{self._name} can't be built again: {type(error).__name__}: {error}")
        return _Worker(function, self._thread_name), None


def _may_be_tried_again(outcome: Outcome) -> bool:
    return isinstance(outcome, Unscored) and outcome.kind in RETRYABLE


def _is_plugin_fault(outcomes: Sequence[Outcome]) -> bool:
    """Return True if a call raised an error of the reward's own, which leaves all its rollouts unscored."""
    first = outcomes[0]
    return (
        isinstance(first, Unscored)
        and first.kind == "plugin"
        and first.traceback is not None
        and all(outcome is first for outcome in outcomes)
    )
