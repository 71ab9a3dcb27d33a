"""Worker processes that can be killed, with a deadline for every rollout.

One dispatcher thread owns all of them. Work comes in units (one rollout, or one group) and goes out in chunks; a worker answers unit by
unit, so it is always known which one it is busy with. If that one takes too long or takes the worker down, it alone is unscored, the rest
of the chunk goes to another worker, and a new worker takes the place.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from rewardkit.composite.zygote import ComponentOrder, Order
from rewardkit.errors import WorkerError
from rewardkit.types import Outcome, Rollout, Unscored

MAX_CHUNK = 32
MAX_TRIES = 2
"""How often a unit is tried whose worker was killed from outside, as the kernel does when memory runs out."""
MAX_STARTS = 5
"""How often the zygote is started in all, and how many workers in a row may die before they are ready."""
_COMMAND = "from rewardkit.composite.zygote import main; main()"


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
    connection: Connection
    pid: int | None = None
    """None until it has said that it is ready."""
    tasks: collections.deque[_Task] = field(default_factory=collections.deque)
    """Handed to it and not answered; it is busy with the first."""
    deadline: float | None = None


class WorkerPool:
    """Scores units in worker processes.

    Args:
        components: What the workers build, by component name.
        size: How many workers at most; they are started as they are needed.
        start_timeout_s: How long the plugins may take to be imported and built.
    """

    def __init__(self, components: Mapping[str, ComponentOrder], size: int, start_timeout_s: float = 300.0) -> None:
        self._order = Order(tuple(sys.path), dict(components))
        self._size = size
        self._start_timeout_s = start_timeout_s
        self._lock = threading.Lock()
        self._submitted: collections.deque[_Batch] = collections.deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._closing = False
        self._failure: WorkerError | None = None
        self._waiting: collections.deque[_Task] = collections.deque()
        self._workers: set[_Worker] = set()
        self._exits: dict[int, int] = {}
        self._starts = 0
        self._unready_deaths = 0
        self._start_zygote()
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
        finally:
            with self._lock:
                self._failure = self._failure or WorkerError("the worker processes have been closed")
                failed = {id(batch): batch for batch in self._submitted}
            failed |= {id(task.batch): task.batch for task in self._waiting}
            failed |= {id(task.batch): task.batch for worker in self._workers for task in worker.tasks}
            for batch in failed.values():
                if not batch.future.done():
                    batch.future.set_exception(self._failure)
            self._stop_zygote()

    def _start_zygote(self) -> None:
        self._starts += 1
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            self._zygote = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for this program to handle
            )

    def _await_built(self) -> None:
        assert self._zygote.stdin is not None  # noqa: S101 - it was opened as a pipe
        with contextlib.suppress(BrokenPipeError), self._zygote.stdin as stdin:
            pickle.dump(self._order, stdin)
        deadline = time.monotonic() + self._start_timeout_s
        while not self._closing:
            ready = wait([self._control, self._wake_read], deadline - time.monotonic())
            if self._control in ready:
                message = json.loads(self._control.recv(65536) or b"{}")
                if message.get("built"):
                    return
                if "failed" in message:
                    raise WorkerError(
                        f"a reward can't be built in its worker process: {message['failed']}\n{message['traceback']}"
                    )
                raise WorkerError(f"the worker processes can't be started: {self._how_it_ended()}")
            if not ready:
                raise WorkerError(f"the plugins were not imported and built within {self._start_timeout_s:g} s")
            os.read(self._wake_read, 4096)

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._zygote.wait(5)
        return _describe_exit(self._zygote.returncode) if self._zygote.returncode is not None else "no answer"

    def _stop_zygote(self) -> None:
        self._control.close()
        for worker in self._workers:
            worker.connection.close()
        self._workers.clear()
        try:
            self._zygote.wait(10)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()

    def _take_submitted(self) -> None:
        with self._lock:
            while self._submitted:
                batch = self._submitted.popleft()
                self._waiting.extend(_Task(batch, index) for index in range(len(batch.units)))

    def _assign(self) -> None:
        idle = [worker for worker in self._workers if worker.pid is not None and not worker.tasks]
        for _ in range(min(self._size - len(self._workers), len(self._waiting) - len(idle))):
            self._fork()
        for worker in idle:
            if not self._waiting:
                return
            # Small enough that the last chunks end at about the same time on all workers.
            count = max(1, min(MAX_CHUNK, len(self._waiting) // (2 * self._size)))
            first = self._waiting[0].batch
            chunk = [self._waiting.popleft()]
            while len(chunk) < count and self._waiting and self._waiting[0].batch is first:
                chunk.append(self._waiting.popleft())
            worker.tasks.extend(chunk)
            try:
                worker.connection.send((first.component, [task.unit for task in chunk]))
            except (BrokenPipeError, ConnectionResetError):
                continue  # it died while idle: its end of file is noticed below
            self._set_deadline(worker)

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                ours.close()
                return  # the zygote died: noticed below
        self._workers.add(_Worker(Connection(ours.detach())))

    def _set_deadline(self, worker: _Worker) -> None:
        limit = worker.tasks[0].limit_s() if worker.tasks else None
        worker.deadline = None if limit is None else time.monotonic() + limit

    def _wait(self) -> None:
        deadlines = [worker.deadline for worker in self._workers if worker.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        connections = {worker.connection: worker for worker in self._workers if not worker.connection.closed}
        ready = wait([self._wake_read, self._control, *connections], timeout)
        for item in ready:
            if isinstance(item, Connection):
                self._receive(connections[item])
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._control in ready:
            self._hear_zygote()
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline is not None and worker.deadline <= now]:
            if not worker.connection.poll():  # an answer that came in time may wait to be read
                self._time_out(worker)

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        if worker.pid is None:
            worker.pid = message
            self._unready_deaths = 0
            return
        outcomes, seconds = message
        task = worker.tasks.popleft()
        task.batch.finish(task.index, outcomes, seconds)
        self._set_deadline(worker)

    def _lost(self, worker: _Worker) -> None:
        """Its end of file was read; how it ended, the zygote tells."""
        worker.connection.close()
        worker.deadline = None
        if worker.pid is None:
            self._workers.discard(worker)
            self._unready_deaths += 1
            if self._unready_deaths >= MAX_STARTS:
                raise WorkerError(
                    "worker processes die before they are ready; is memory or the number of processes limited?"
                )
        elif worker.pid in self._exits:
            self._bury(worker, self._exits.pop(worker.pid))

    def _hear_zygote(self) -> None:
        message = self._control.recv(65536)
        if not message:
            self._restart()
            return
        data = json.loads(message)
        pid, status = data["exited"], data["status"]
        for worker in self._workers:
            if worker.pid == pid:
                if worker.connection.closed:
                    self._bury(worker, status)
                else:
                    self._exits[pid] = status  # answers may still be waiting in its connection
                return

    def _bury(self, worker: _Worker, status: int) -> None:
        """It died by itself: the unit that it was busy with is the culprit, unless somebody else killed it."""
        self._workers.discard(worker)
        if worker.tasks:
            task = worker.tasks.popleft()
            task.tries += 1
            code = os.waitstatus_to_exitcode(status)
            if code in {-signal.SIGKILL, -signal.SIGTERM} and task.tries < MAX_TRIES:
                worker.tasks.appendleft(task)
            else:
                who = task.batch.who
                task.fail(
                    Unscored("plugin", f"{who}: its worker process died on this rollout ({_describe_exit(code)})")
                )
        self._waiting.extendleft(reversed(worker.tasks))

    def _time_out(self, worker: _Worker) -> None:
        task = worker.tasks.popleft()
        task.fail(Unscored("timeout", f"{task.batch.who} took longer than {task.limit_s():g} s"))
        self._waiting.extendleft(reversed(worker.tasks))
        worker.connection.close()
        self._workers.discard(worker)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(f"kill {worker.pid}".encode())

    def _restart(self) -> None:
        """The zygote is gone, and its workers with it."""
        ended = self._how_it_ended()
        tasks = [task for worker in self._workers for task in worker.tasks]
        for worker in self._workers:
            worker.connection.close()
        self._workers.clear()
        self._control.close()
        if self._starts >= MAX_STARTS:
            self._waiting.extendleft(reversed(tasks))
            raise WorkerError(f"the process that starts the workers died {self._starts} times ({ended})")
        for task in tasks:
            task.tries += 1
        self._waiting.extendleft(reversed(tasks))
        self._start_zygote()
        self._await_built()


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    return f"{name}, perhaps out of memory" if -code == signal.SIGKILL else name
