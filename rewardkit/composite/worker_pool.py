"""Worker processes that can be killed, with a deadline for every rollout.

One dispatcher thread owns all of them. Work comes in units (one rollout, or one group) and goes out in chunks; a worker answers unit by
unit, so it is always known which one it is busy with. If that one takes too long or takes the worker down, it alone is unscored, the rest
of the chunk goes to another worker, and a new worker takes the place.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from rewardkit.composite.fork_server import ComponentOrder, Order
from rewardkit.errors import WorkerError
from rewardkit.types import Outcome, Rollout, Unscored

logger = logging.getLogger(__name__)

MAX_CHUNK = 32
MAX_TRIES = 2
"""How often a unit is tried whose worker was killed from outside, as the kernel does when memory runs out."""
MAX_STARTS = 5
"""How often the zygote is started, and how many workers may die before they are ready, with no answer in between."""
STALL_S = 30.0
"""How long a worker may leave its work unread, or stop in the middle of an answer, before it counts as lost."""
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from rewardkit.composite.fork_server import main; main()"
)


def default_workers() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0))


@dataclass(slots=True)
class _Batch:
    component: str
    units: Sequence[Sequence[Rollout]]
    timeout_s: float | None
    who: str
    future: Future[tuple[list[list[Outcome]], float]]
    results: list[list[Outcome] | None]
    left: int
    seconds: float = 0.0

    def finish(self, index: int, outcomes: list[Outcome], seconds: float = 0.0) -> None:
        self.results[index] = outcomes
        self.left -= 1
        self.seconds += seconds
        if self.left == 0 and not self.future.done():
            self.future.set_result(([outcomes or [] for outcomes in self.results], self.seconds))


@dataclass(slots=True)
class _Task:
    batch: _Batch
    index: int
    tries: int = 0

    @property
    def unit(self) -> Sequence[Rollout]:
        return self.batch.units[self.index]

    def limit_s(self) -> float | None:
        """The deadline of a group is that of its rollouts together."""
        return None if self.batch.timeout_s is None else self.batch.timeout_s * len(self.unit)

    def fail(self, outcome: Unscored) -> None:
        self.batch.finish(self.index, [outcome] * len(self.unit))


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    connection: Connection
    ready: bool = False
    tasks: collections.deque[_Task] = field(default_factory=collections.deque)
    """Handed to it and not answered; it is busy with the first."""
    deadline: float | None = None
    unread: bool = False
    """Handing it its tasks failed, so none of them need be what it died of."""

    @property
    def reachable(self) -> bool:
        """Whether the connection is open on this side."""
        return not self.connection.closed


class WorkerPool:
    """Scores units in worker processes.

    Args:
        components: What the workers build, by component name.
        size: How many workers at most; they are started as they are needed.
        start_timeout_s: How long the plugins may take to be imported and built.
    """

    def __init__(self, components: Mapping[str, ComponentOrder], size: int, start_timeout_s: float = 300.0) -> None:
        self._order = Order(dict(components))
        self._size = size
        self._start_timeout_s = start_timeout_s
        self._lock = threading.Lock()
        self._submitted: collections.deque[_Batch] = collections.deque()
        self._closing = False
        self._failure: WorkerError | None = None
        self._waiting: collections.deque[_Task] = collections.deque()
        self._workers: dict[int, _Worker] = {}
        self._numbers = itertools.count()
        self._starts = 0
        self._unready_deaths = 0
        self._built = False
        self._start_zygote()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._dispatch, name="rewardkit-workers", daemon=True)
        self._thread.start()

    def submit(
        self, component: str, units: Sequence[Sequence[Rollout]], timeout_s: float | None, who: str
    ) -> Future[tuple[list[list[Outcome]], float]]:
        """Score units; the future gives the outcomes of each, and the seconds that the workers spent.

        The future raises WorkerError if no worker can be started.
        """
        future: Future[tuple[list[list[Outcome]], float]] = Future()
        if not units:
            future.set_result(([], 0.0))
            return future
        batch = _Batch(component, units, timeout_s, who, future, [None] * len(units), len(units))
        with self._lock:
            if self._closing or self._failure:
                future.set_exception(self._failure or WorkerError("the worker processes have been closed"))
                return future
            self._submitted.append(batch)
        self._wake()
        return future

    def close(self) -> None:
        """End all workers, also busy ones; what was not finished fails."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._wake()
        self._thread.join()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    # From here on everything runs in the dispatcher thread.

    def _dispatch(self) -> None:
        try:
            self._await_built()
            while not self._closing:
                self._take_submitted()
                self._assign()
                self._wait()
        except WorkerError as error:
            self._failure = error
        # A bug of this module: whoever waits for an answer must be told, and not wait for ever.
        except Exception as error:
            logger.exception("the dispatcher of the worker processes failed")
            self._failure = WorkerError(f"the dispatcher of the worker processes failed: {error!r}")
        finally:
            with self._lock:
                self._failure = self._failure or WorkerError("the worker processes have been closed")
                failed = {id(batch): batch for batch in self._submitted}
            failed |= {id(task.batch): task.batch for task in self._waiting}
            failed |= {id(task.batch): task.batch for worker in self._workers.values() for task in worker.tasks}
            self._stop_zygote()
            for batch in failed.values():
                if not batch.future.done():
                    batch.future.set_exception(self._failure)

    def _start_zygote(self) -> None:
        self._starts += 1
        self._built = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        with theirs:
            try:
                self._zygote = subprocess.Popen(
                    [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno()), path],
                    stdin=subprocess.PIPE,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C in the terminal is for this program to handle
                )
            except OSError as error:
                self._control.close()
                raise WorkerError(f"worker processes can't be started: {error}") from None

    def _await_built(self) -> None:
        assert self._zygote.stdin is not None  # noqa: S101 - it was opened as a pipe
        with contextlib.suppress(BrokenPipeError), self._zygote.stdin as stdin:
            pickle.dump(self._order, stdin)
        deadline = time.monotonic() + self._start_timeout_s
        while not self._closing:
            ready = wait([self._control, self._wake_read], deadline - time.monotonic())
            if self._control in ready:
                message = self._hear()
                if message.get("built"):
                    self._built = True
                    return
                if "failed" in message:
                    raise WorkerError(
                        f"a reward can't be built in its worker process: {message['failed']}\n{message['traceback']}"
                    )
                raise WorkerError(f"the worker processes can't be started: {self._end_zygote(5)}")
            if not ready:
                raise WorkerError(f"the plugins were not imported and built within {self._start_timeout_s:g} s")
            os.read(self._wake_read, 4096)

    def _hear(self) -> dict[str, Any]:
        """What the zygote says; nothing if it is gone."""
        try:
            message: dict[str, Any] = json.loads(self._control.recv(1 << 20) or b"{}")
        except ConnectionResetError:  # it went without having read everything
            return {}
        return message

    def _tell(self, text: str, *fds: int) -> None:
        """Tell the zygote. That it is gone is noticed where it is heard."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [text.encode()], fds)

    def _end_zygote(self, patience_s: float) -> str:
        """See that the zygote is gone, and tell how it ended."""
        try:
            self._zygote.wait(patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._zygote.pid, signal.SIGKILL)
            self._zygote.wait()
        return _describe_exit(self._zygote.returncode)

    def _stop_zygote(self) -> None:
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # felt there even if a fork of this program holds a copy
        self._control.close()
        for worker in self._workers.values():
            worker.connection.close()
        self._workers.clear()
        # While it imports plugins it doesn't listen, and nothing is lost with it.
        self._end_zygote(10.0 if self._built else 0.0)

    def _take_submitted(self) -> None:
        with self._lock:
            while self._submitted:
                batch = self._submitted.popleft()
                self._waiting.extend(_Task(batch, index) for index in range(len(batch.units)))

    def _assign(self) -> None:
        idle = [worker for worker in self._workers.values() if worker.ready and not worker.tasks and worker.reachable]
        for _ in range(min(self._size - len(self._workers), len(self._waiting) - len(idle))):
            self._fork()
        for worker in idle:
            while self._waiting and not worker.tasks:
                self._hand(worker, self._next_chunk())

    def _next_chunk(self) -> list[_Task]:
        """Tasks of one batch: small enough that the last chunks end at about the same time on all workers."""
        count = max(1, min(MAX_CHUNK, len(self._waiting) // (2 * self._size)))
        first = self._waiting[0].batch
        chunk = [self._waiting.popleft()]
        while len(chunk) < count and self._waiting and self._waiting[0].batch is first:
            chunk.append(self._waiting.popleft())
        return chunk

    def _hand(self, worker: _Worker, chunk: list[_Task]) -> None:
        try:
            data = pickle.dumps((chunk[0].batch.component, [task.unit for task in chunk]))
        # A row may hold anything, and its pickling may raise anything.
        except Exception as error:  # noqa: BLE001
            self._sort_out(chunk, error)
            return
        worker.tasks.extend(chunk)
        try:
            worker.connection.send_bytes(data)
        except OSError:  # it died while idle, or reads nothing any more
            worker.unread = True
            self._drop(worker)
            return
        self._set_deadline(worker)

    def _sort_out(self, chunk: list[_Task], error: Exception) -> None:
        """Fail those of a chunk that can't be pickled; the others wait on."""
        good: list[_Task] = []
        for task in chunk:
            try:
                pickle.dumps(task.unit)
                good.append(task)
            except Exception as own:  # noqa: BLE001 - as above
                error = own
                task.fail(Unscored("input", f"the row can't be handed to a worker process: {own}"))
        if len(good) == len(chunk):
            for task in good:
                task.fail(Unscored("input", f"the row can't be handed to a worker process: {error}"))
        else:
            self._waiting.extendleft(reversed(good))

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(STALL_S), int(STALL_S % 1 * 1e6)))
        worker = _Worker(next(self._numbers), Connection(ours.detach()))
        self._workers[worker.number] = worker
        with theirs:
            self._tell(f"fork {worker.number}", theirs.fileno())

    def _set_deadline(self, worker: _Worker) -> None:
        limit = worker.tasks[0].limit_s() if worker.tasks else None
        worker.deadline = None if limit is None else time.monotonic() + limit

    def _wait(self) -> None:
        workers = list(self._workers.values())
        deadlines = [worker.deadline for worker in workers if worker.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        connections = {worker.connection: worker for worker in workers if worker.reachable}
        ready = wait([self._wake_read, self._control, *connections], timeout)
        for item in ready:
            if isinstance(item, Connection):
                self._receive(connections[item])
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._control in ready:
            self._hear_exit()
        now = time.monotonic()
        for worker in list(self._workers.values()):
            # An answer that came in time may wait to be read.
            if worker.deadline is not None and worker.deadline <= now and not worker.connection.poll():
                self._time_out(worker)

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        # Its end of file; or, if the plugin wrote where it should not, anything.
        except Exception:  # noqa: BLE001
            self._drop(worker)
            return
        self._unready_deaths = 0
        if not worker.ready:
            worker.ready = True
            return
        self._starts = 1
        outcomes, seconds = message
        task = worker.tasks.popleft()
        task.batch.finish(task.index, outcomes, seconds)
        self._set_deadline(worker)

    def _drop(self, worker: _Worker) -> None:
        """It can't be talked to any more. How it ended, the zygote tells; if it lives on, it does so no longer."""
        worker.connection.close()
        worker.deadline = None
        self._tell(f"kill {worker.number}")

    def _hear_exit(self) -> None:
        message = self._hear()
        if not message:
            self._restart()
            return
        worker = self._workers.get(message["exited"])
        if worker is None:
            return
        # What it answered before its end; there may be no end of file, where something that it started holds the other end.
        while worker.reachable and worker.connection.poll():
            self._receive(worker)
        worker.connection.close()
        self._bury(worker, os.waitstatus_to_exitcode(message["status"]))

    def _bury(self, worker: _Worker, code: int) -> None:
        """It died by itself: the unit that it was busy with is the culprit, unless somebody else killed it."""
        del self._workers[worker.number]
        if not worker.ready:
            self._unready_deaths += 1
            if self._unready_deaths >= MAX_STARTS:
                raise WorkerError(
                    "worker processes die before they are ready; is memory or the number of processes limited?"
                )
        if worker.tasks:
            task = worker.tasks[0]
            task.tries += 1
            innocent = worker.unread or code in {-signal.SIGKILL, -signal.SIGTERM}
            if not innocent or task.tries >= MAX_TRIES:
                worker.tasks.popleft()
                died = f"{task.batch.who}: its worker process died on this rollout ({_describe_exit(code)})"
                task.fail(Unscored("plugin", died))
        self._waiting.extendleft(reversed(worker.tasks))

    def _time_out(self, worker: _Worker) -> None:
        del self._workers[worker.number]
        self._drop(worker)
        task = worker.tasks.popleft()
        task.fail(Unscored("timeout", f"{task.batch.who} took longer than {task.limit_s():g} s"))
        self._waiting.extendleft(reversed(worker.tasks))

    def _restart(self) -> None:
        """The zygote is gone, and its workers with it."""
        ended = self._end_zygote(5)
        self._control.close()
        for worker in list(self._workers.values()):
            worker.connection.close()
            worker.ready = True  # that it was not is not its own doing
            self._bury(worker, -signal.SIGKILL)
        if self._starts >= MAX_STARTS:
            raise WorkerError(f"the process that starts the workers died {self._starts} times ({ended})")
        self._start_zygote()
        self._await_built()


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    return f"{name}, perhaps out of memory" if -code == signal.SIGKILL else name
