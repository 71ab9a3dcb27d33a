"""The dispatcher: one thread that hands tasks to workers, keeps their deadlines, and replaces the workers that end."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import pickle
import selectors
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rewardkit.errors import WorkerError
from rewardkit.process_pool.fork_client import ForkClient, describe_exit
from rewardkit.process_pool.fork_server import FAILED, FIRST_TASK, READY, Answer, Program
from rewardkit.process_pool.tasks import Batch, Failure, Result, Task
from rewardkit.process_pool.worker import ConnectionLostError, Worker

logger = logging.getLogger(__name__)

MAX_QUEUE = 32
"""Tasks that are handed to a worker ahead of time."""
MAX_STARTS = 5
"""The most starts of the fork server, and the most workers that die before they are ready, without an answer in between."""
STALL_S = 30.0
"""Seconds that a worker may leave a task half read, or an answer half written, before it counts as lost."""


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of a pool, which `ProcessPool` describes."""

    program: Program
    size: int
    start_timeout_s: float
    tries: int
    retry_crashes: bool
    prefetch: int


class ProcessPool:
    """Does tasks in worker processes. Safe to use from several threads.

    Args:
        program: What the workers run.
        size: The largest number of workers; they are started when they are needed.
        start_timeout_s: Seconds that loading the program may take.
        tries: How many workers a task may cost that somebody else kills, as the kernel does when memory runs out.
        retry_crashes: Whether this also holds for workers that crash or exit by themselves. Otherwise the first one counts.
        prefetch: How many tasks a worker is given at least, so that it has the next at hand when one is done.

    Raises:
        WorkerError: The fork server can't be started.
    """

    def __init__(
        self,
        program: Program,
        size: int,
        start_timeout_s: float = 300.0,
        *,
        tries: int = 2,
        retry_crashes: bool = False,
        prefetch: int = 1,
    ) -> None:
        self._numbers = itertools.count(FIRST_TASK)
        options = _Options(program, size, start_timeout_s, tries, retry_crashes, prefetch)
        server = ForkClient(program)
        self._inbox = _Inbox()
        self._dispatcher = _Dispatcher(options, server, self._inbox)
        self._thread = threading.Thread(target=self._dispatcher.run, name="rewardkit-process-pool", daemon=True)
        self._thread.start()

    def submit(
        self, tasks: Sequence[Any], timeout_s: float | Sequence[float | None] | None = None
    ) -> Future[list[Result]]:
        """Do tasks in the workers.

        Args:
            tasks: What the handler is called with, one at a time.
            timeout_s: Seconds that each task may take, or one number of seconds for each; None for no limit.

        Returns:
            A future of one result for each task, in their order. It raises WorkerError if no worker can be started, or if the
            pool is closed before all is done.
        """
        limits = timeout_s if isinstance(timeout_s, Sequence) else itertools.repeat(timeout_s, len(tasks))
        batch = Batch(len(tasks))
        if not tasks:
            batch.future.set_result([])
            return batch.future
        ready = []
        for index, (task, limit) in enumerate(zip(tasks, limits, strict=True)):
            try:
                payload = pickle.dumps(task, protocol=5)
            # A task may hold anything, and pickling it may raise anything.
            except Exception as error:  # noqa: BLE001
                batch.finish(index, Failure("unpicklable", str(error)))
                continue
            ready.append(Task(next(self._numbers), payload, limit, batch, index))
        if ready:
            try:
                self._inbox.put(ready)
            except WorkerError as error:
                batch.future.set_exception(error)
        return batch.future

    def close(self) -> None:
        """End all workers, busy ones too. What is not finished fails. Closing again does nothing."""
        if self._inbox.close():
            self._thread.join()
            self._inbox.release()

    def abandon(self) -> None:
        """Release a pool that a forked child has inherited. The parent's workers are left alone, and the pool can't be used."""
        self._dispatcher.abandon()
        self._inbox.release()


class _Inbox:
    """Messages of other threads to the dispatcher: new tasks, and the request to close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: collections.deque[Task] = collections.deque()
        self._failure: WorkerError | None = None
        self.is_closing = False
        self.wake_read, self._wake_write = os.pipe()
        """Readable when there is news."""
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self._wake_write, False)

    def put(self, tasks: Sequence[Task]) -> None:
        """Add tasks. Raises WorkerError if the pool is closed or has failed."""
        with self._lock:
            if self.is_closing or self._failure:
                raise self._failure or WorkerError("the worker processes have been closed")
            self._tasks.extend(tasks)
            self._wake()

    def take(self) -> list[Task]:
        """Return the tasks that have been added since the last call."""
        with self._lock:
            taken = list(self._tasks)
            self._tasks.clear()
        return taken

    def drain(self) -> None:
        """Make `wake_read` unreadable until there is news again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)

    def fail(self, error: WorkerError) -> list[Task]:
        """Refuse all further tasks and return those that nobody has taken."""
        with self._lock:
            self._failure = error
        return self.take()

    def close(self) -> bool:
        """Tell the dispatcher to end; returns whether this is the first call."""
        with self._lock:
            if self.is_closing:
                return False
            self.is_closing = True
            self._wake()
        return True

    def release(self) -> None:
        """Close the pipe, once the dispatcher has ended."""
        with self._lock:
            os.close(self.wake_read)
            os.close(self._wake_write)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")


class _Dispatcher:
    """Runs in one thread and owns the fork server and the workers."""

    def __init__(self, options: _Options, server: ForkClient, inbox: _Inbox) -> None:
        self._options = options
        self._inbox = inbox
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._waiting: collections.deque[Task] = collections.deque()
        self._workers: dict[int, Worker] = {}
        self._numbers = itertools.count()
        self._starts = 1
        """Starts of the fork server since the last answer."""
        self._early_deaths = 0
        """Workers that died before they were ready, since the last one that was."""

    @property
    def server(self) -> ForkClient:
        """The fork server that runs now."""
        return self._server

    def abandon(self) -> None:
        """Close this process's copies of the connections, in a forked child."""
        for worker in self._workers.values():
            worker.connection.close()
        self._selector.close()
        self._server.abandon()

    def run(self) -> None:
        """Do tasks until the pool is closed or no worker can be started."""
        failure = WorkerError("the worker processes have been closed")
        try:
            self._selector.register(self._inbox.wake_read, selectors.EVENT_READ)
            self._load()
            while not self._inbox.is_closing:
                self._waiting.extend(self._inbox.take())
                self._assign()
                self._wait()
        except WorkerError as error:
            failure = error
        # A fault of this module: whoever waits for an answer must be told.
        except Exception as error:
            logger.exception("the dispatcher of the worker processes failed")
            failure = WorkerError(f"the dispatcher of the worker processes failed: {error!r}")
        finally:
            unfinished = [*self._inbox.fail(failure), *self._waiting]
            for worker in self._workers.values():
                unfinished += worker.tasks
                worker.connection.close()
            self._selector.close()
            self._server.close()
            for batch in {id(task.batch): task.batch for task in unfinished}.values():
                if not batch.future.done():
                    batch.future.set_exception(failure)

    def _load(self) -> None:
        """Have the fork server load the program."""
        if self._server.load(
            self._options.start_timeout_s, self._inbox.wake_read, lambda: self._inbox.is_closing, self._inbox.drain
        ):
            self._selector.register(self._server.control, selectors.EVENT_READ)

    def _assign(self) -> None:
        """Hand out the waiting tasks, and ask for more workers if there are more tasks than idle ones."""
        open_workers = [worker for worker in self._workers.values() if worker.is_ready and worker.is_open]
        idle = sum(not worker.tasks for worker in open_workers)
        starting = sum(not worker.is_ready for worker in self._workers.values())
        for _ in range(min(self._options.size - len(self._workers), len(self._waiting) - idle - starting)):
            self._start_worker()
        # Small shares, so that the last ones end at about the same time on all workers.
        share = max(1, min(MAX_QUEUE, len(self._waiting) // (2 * self._options.size)))
        for worker in open_workers:
            if not worker.tasks:
                self._hand_out(worker, share)
        for worker in open_workers:
            if worker.is_open and len(worker.tasks) < self._options.prefetch:
                self._hand_out(worker, self._options.prefetch)

    def _hand_out(self, worker: Worker, count: int) -> None:
        """Fill a worker's queue up to `count` tasks."""
        was_idle = not worker.tasks
        while self._waiting and len(worker.tasks) < count:
            worker.give(self._waiting.popleft())
        if was_idle:
            self._set_deadline(worker)
        self._write(worker)

    def _start_worker(self) -> None:
        number = next(self._numbers)
        connection = self._server.fork(number)
        connection.setblocking(False)
        worker = self._workers[number] = Worker(number, connection)
        self._selector.register(connection, selectors.EVENT_READ, worker)

    @staticmethod
    def _set_deadline(worker: Worker) -> None:
        limit = worker.tasks[0].timeout_s if worker.tasks else None
        worker.deadline = None if limit is None else time.monotonic() + limit

    def _wait(self) -> None:
        """Wait for news of any kind, or for the next deadline, and act on it."""
        deadlines = [
            moment
            for worker in self._workers.values()
            for moment in (worker.deadline, worker.stalled_at)
            if moment is not None
        ]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        has_exits = False
        for key, events in self._selector.select(timeout):
            if isinstance(key.data, Worker):
                if events & selectors.EVENT_READ:
                    self._read(key.data)
                if events & selectors.EVENT_WRITE and key.data.is_open:
                    self._write(key.data)
            elif key.fileobj is self._server.control:
                has_exits = True
            else:
                self._inbox.drain()
        if has_exits:
            self._hear_exit()
        now = time.monotonic()
        for worker in list(self._workers.values()):
            # An answer that arrived in time may still have to be read.
            if worker.deadline is not None and worker.deadline <= now and not self._read(worker):
                self._time_out(worker)
            elif worker.stalled_at is not None and worker.stalled_at <= now:
                self._drop(worker)

    def _write(self, worker: Worker) -> None:
        try:
            progress = worker.write()
        except ConnectionLostError:
            # Answers that it sent before its end. Without them, a task that is done would be blamed for the end.
            while worker.is_open and self._read(worker):
                pass
            self._drop(worker)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.wants_to_write else 0)
        if self._selector.get_key(worker.connection).events != events:
            self._selector.modify(worker.connection, events, worker)
        self._watch_stall(worker, progress=progress)

    def _read(self, worker: Worker) -> bool:
        """Take in the answers that have arrived; returns whether there was one."""
        try:
            messages = worker.read()
            for number, payload in messages:
                self._receive(worker, number, payload)
        # Its end; or, if the task wrote where it should not, bytes that are no answer.
        except (ConnectionLostError, _NoAnswerError):
            self._drop(worker)
            return False
        self._watch_stall(worker, progress=bool(messages))
        return bool(messages)

    def _receive(self, worker: Worker, number: int, payload: bytes | bytearray) -> None:
        if number == FAILED and not worker.is_ready:
            told = pickle.loads(payload)  # noqa: S301 - written by a worker of this pool
            raise WorkerError(f"a worker process can't be set up: {told['failed']}\n{told['traceback']}".rstrip())
        self._early_deaths = 0
        if number == READY and not worker.is_ready:
            worker.is_ready = True
            return
        if not worker.tasks or worker.tasks[0].number != number:
            raise _NoAnswerError
        try:
            answer = pickle.loads(payload)  # noqa: S301 - written by a worker of this pool
        except Exception:  # noqa: BLE001 - if the task wrote to the socket, loading may raise anything
            raise _NoAnswerError from None
        self._starts = 1
        task = worker.tasks.popleft()
        self._finish(task, answer if isinstance(answer, Answer) else Failure("raised", str(answer), answer))
        self._set_deadline(worker)

    @staticmethod
    def _finish(task: Task, result: Result) -> None:
        task.batch.finish(task.index, result)

    @staticmethod
    def _watch_stall(worker: Worker, *, progress: bool) -> None:
        if not worker.is_within_message:
            worker.stalled_at = None
        elif progress or worker.stalled_at is None:
            worker.stalled_at = time.monotonic() + STALL_S

    def _drop(self, worker: Worker) -> None:
        """Stop talking to a worker and have it killed. The fork server reports how it ended."""
        self._disconnect(worker)
        self._server.kill(worker.number)

    def _disconnect(self, worker: Worker) -> None:
        if worker.is_open:
            self._selector.unregister(worker.connection)
            worker.connection.close()
        worker.deadline = worker.stalled_at = None

    def _hear_exit(self) -> None:
        message = self._server.hear()
        if not message:
            self._restart()
            return
        worker = self._workers.get(message["exited"])
        if worker is None:
            return
        # Answers that it sent before its end. There may be no end of file if a process that it started holds the other end.
        while worker.is_open and self._read(worker):
            pass
        self._disconnect(worker)
        self._replace(worker, os.waitstatus_to_exitcode(message["status"]))

    def _replace(self, worker: Worker, code: int) -> None:
        """Forget a worker that died. The task that it was busy with is to blame, unless somebody else killed the worker."""
        del self._workers[worker.number]
        if not worker.is_ready:
            self._early_deaths += 1
            if self._early_deaths >= MAX_STARTS:
                raise WorkerError(
                    "worker processes die before they are ready; is memory or the number of processes limited?"
                )
        if worker.tasks:
            task = worker.tasks[0]
            task.tries += 1
            is_innocent = (
                self._options.retry_crashes or not worker.has_first_task or code in {-signal.SIGKILL, -signal.SIGTERM}
            )
            if not is_innocent or task.tries >= self._options.tries:
                worker.tasks.popleft()
                self._finish(task, Failure("died", describe_exit(code), code=code))
        self._waiting.extendleft(reversed(worker.tasks))

    def _time_out(self, worker: Worker) -> None:
        del self._workers[worker.number]
        self._drop(worker)
        self._finish(worker.tasks.popleft(), Failure("timeout", ""))
        self._waiting.extendleft(reversed(worker.tasks))

    def _restart(self) -> None:
        """Start another fork server: this one has ended, and its workers with it."""
        self._selector.unregister(self._server.control)
        ended = self._server.end(5)
        for worker in list(self._workers.values()):
            self._disconnect(worker)
            worker.is_ready = True  # that it was not ready is not its own fault
            self._replace(worker, -signal.SIGKILL)
        if self._starts >= MAX_STARTS:
            raise WorkerError(f"the process that starts the workers died {self._starts} times ({ended})")
        self._starts += 1
        self._server = ForkClient(self._options.program)
        self._load()


class _NoAnswerError(Exception):
    """A worker sent something that answers none of its tasks."""
