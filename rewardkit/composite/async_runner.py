"""The executor of async rewards: many rollouts at once, each with a deadline that holds even if the reward blocks its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from rewardkit.composite.event_loop import EventLoop
from rewardkit.composite.plugin_calls import call_async, close_reward, ending_forked_children
from rewardkit.composite.runners import Outcomes, Units, who
from rewardkit.config.spec import Component
from rewardkit.errors import UsageError
from rewardkit.types import Outcome, RewardFunction, Rollout, Unscored

logger = logging.getLogger(__name__)

ASYNC_CONCURRENCY = 64
"""The most calls of one async component that wait at the same time."""
CLOSE_TIMEOUT_S = 10.0
GRACE_S = 1.0
"""How far beyond its deadline a call may be before it is given up from outside, and how long a loop may take to answer."""
MAX_BLOCKED_THREADS = 16
"""If so many threads are blocked by calls that never return, the component is not called again."""


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
    """One call of the reward, for one rollout or one group."""

    unit: Sequence[Rollout]
    batch: _Batch
    outcomes: list[Outcome] | None = None
    worker: _Worker | None = None
    """The worker that the call was handed to last."""
    overdue_at: float | None = None
    """The time (``time.monotonic``) at which the call is given up; None before it starts and without a deadline."""
    has_slot: bool = False


class _Worker:
    """A built reward with its event loop. Both are replaced if the reward blocks the loop."""

    def __init__(self, function: RewardFunction, name: str) -> None:
        self.function = function
        self.loop = EventLoop(name)
        self.slots = asyncio.Semaphore(ASYNC_CONCURRENCY)
        self.tasks: dict[asyncio.Task[None], _Call] = {}
        self.given_up = 0
        """Calls that went on after they were cancelled."""

    def release(self, call: _Call) -> None:
        """Give back a call's slot, once. Runs in the loop."""
        if call.has_slot:
            call.has_slot = False
            self.slots.release()


class AsyncRunner:
    """Runs an async reward on an event loop of its own, many rollouts at once.

    Deadlines are watched from another thread. A call that ignores its cancellation is given up. If a call blocks the loop, the reward
    is built again on a new loop, where the other calls start again.
    """

    def __init__(self, component: Component, function: RewardFunction) -> None:
        self._component = component
        self._name = who(component)
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
        return f"rewardkit-async-{self._component.name}"

    def submit(self, units: Units) -> Future[Outcomes]:
        """Start a task for each unit."""
        batch = _Batch(Future())
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
                if self._component.timeout_s is not None and self._watcher is None:
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
            worker.loop.abandon()
        else:
            worker.loop.close(CLOSE_TIMEOUT_S)

    def _start(self, calls: Sequence[_Call]) -> None:
        """Hand calls to the present worker. The lock is held."""
        worker = self._worker
        for call in calls:
            call.worker, call.overdue_at, call.has_slot = worker, None, False
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
        """Score one unit, in the worker's loop."""
        await worker.slots.acquire()
        call.has_slot = True
        try:
            seconds = self._seconds(call)
            with self._lock:
                if call.worker is not worker or call.outcomes is not None:
                    return
                if seconds is not None:
                    call.overdue_at = time.monotonic() + seconds + GRACE_S
                    self._changed.notify_all()
            try:
                async with asyncio.timeout(seconds):
                    outcomes = await call_async(worker.function, call.unit, self._name)
            except TimeoutError:
                outcomes = [self._timed_out(call)] * len(call.unit)
            except asyncio.CancelledError:  # by the reward itself: closing the runner has settled all calls before
                outcomes = [Unscored("plugin", f"{self._name} cancelled the task that it runs in")] * len(call.unit)
            self._settle(call, outcomes, worker)
        finally:
            worker.release(call)

    def _seconds(self, call: _Call) -> float | None:
        """The time limit of a call: that of one rollout, for each of its rollouts."""
        limit = self._component.timeout_s
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
        batch.done.set_result(([call.outcomes or [] for call in batch.calls], now - start))

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
            with contextlib.suppress(RuntimeError):  # it is being closed
                worker.loop.call(worker.release, call)
            self._settle(call, [self._timed_out(call, " and ignored its cancellation")] * len(call.unit))
        if worker.given_up >= ASYNC_CONCURRENCY:
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
                function = self._component.offer.type.build(self._component.params)
        # The boundary: building runs the plugin's own code.
        except Exception as error:  # noqa: BLE001
            return None, Unscored("plugin", f"{self._name} can't be built again: {type(error).__name__}: {error}")
        return _Worker(function, self._thread_name), None
