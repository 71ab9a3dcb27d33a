"""A fixed number of warm boxes, handed out in the order of the requests, and replaced when they die or misbehave."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from rewardkit_sandbox.errors import BoxDied, Closed, SandboxError, Unavailable
from rewardkit_sandbox.host.box_connection import BoxConnection

_log = logging.getLogger(__name__)
_ALL: weakref.WeakSet[Pool] = weakref.WeakSet()


class BoxSource(Protocol):
    """Starts the boxes of a pool."""

    @property
    def name(self) -> str:
        """The name of the backend, for messages."""

    def prepare(self) -> None:
        """Check that boxes can be made here; raise `Unavailable` with what to do if not."""

    def start(self, serial: int) -> BoxConnection:
        """Return a box that is ready. If it does not come up, clean up and raise; it is tried again for a while."""

    def close(self) -> None:
        """Release what the backend itself holds."""


class Pool:
    """Boxes shared by any number of threads. A caller that finds none free waits its turn."""

    def __init__(
        self, backend: BoxSource, size: int, patience_s: float = 120.0, *, serials: Iterator[int] | None = None
    ) -> None:
        """Make a pool; nothing is started yet.

        Args:
            backend: where boxes come from.
            size: how many are kept.
            patience_s: how long starting a box is tried again (an engine that restarts) before callers are told.
            serials: numbers for boxes, of a pool that shares its backend with another one.
        """
        self.backend = backend
        self.size = size
        self.replaced = 0
        """Boxes that were dead or suspect and were replaced."""
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._free: deque[BoxConnection] = deque()
        self._waiting: deque[Future[BoxConnection]] = deque()
        self._boxes: set[BoxConnection] = set()
        self._serials = serials or itertools.count(1)
        self._shares = serials is not None
        self._tests_pool: Pool | None = None
        self._closed = False
        self._starting = 0
        """Threads that start a box."""
        self._none_starting = threading.Condition(self._lock)
        self._failure: SandboxError | None = None
        self._stop = threading.Event()
        self._started = queue.SimpleQueue[SandboxError | None]()
        """The result of starting each first box, or the reason why the pool was closed meanwhile."""
        self._ended = False
        self._owner = os.getpid()

    def open(self) -> None:
        """Start all boxes at the same time.

        Raises:
            Unavailable: boxes can't be made here.
            BoxDied: they don't come up.
        """
        if not self._shares:
            try:
                self.backend.prepare()
            except OSError as error:
                raise Unavailable(f"{self.backend.name} can't be opened here: {error}") from error
        _ALL.add(self)
        try:
            for _ in range(self.size):
                self._in_background(self._start_first)
        except Closed as error:
            self._started.put(error)
        except RuntimeError as error:
            self._started.put(SandboxError(f"this process can have no more threads: {error}"))
        for _ in range(self.size):
            failure = self._started.get()
            if failure is not None:
                self.hang_up(failure)
                self.close()
                raise failure

    def _start_first(self) -> None:
        try:
            self._add(self._start_one())
        except SandboxError as error:
            self._started.put(error)
        else:
            self._started.put(None)

    def _in_background(self, start: Callable[[], None]) -> None:
        """Start a box in a thread; `close` waits for it.

        Raises:
            Closed: The pool is closed.
            RuntimeError: This process can have no more threads.
        """
        with self._lock:
            if self._closed:
                raise Closed("the sandbox is closed")
            self._starting += 1

        def run() -> None:
            try:
                start()
            finally:
                self._started_one()

        try:
            threading.Thread(target=run, daemon=True, name="sandbox-start").start()
        except RuntimeError:
            self._started_one()
            raise

    def _started_one(self) -> None:
        with self._lock:
            self._starting -= 1
            self._none_starting.notify_all()

    def tests_pool(self) -> Pool:
        """Return the pool for unit tests: as many boxes from the same backend, started at the first call and closed with this pool.

        A caller that holds a box of this pool may wait for one of that pool, but never the reverse, so no two callers wait for each other.

        Raises:
            SandboxError: its boxes don't come up.
        """
        with self._lock:
            if self._closed:
                raise Closed("the sandbox is closed")
            opens = self._tests_pool is None
            if self._tests_pool is None:
                # Known before its boxes come up, so that closing this pool in the meantime closes it, too.
                self._tests_pool = Pool(self.backend, self.size, self._patience_s, serials=self._serials)
            pool = self._tests_pool
        if opens:
            try:
                pool.open()
            except SandboxError:
                with self._lock:
                    if self._tests_pool is pool:
                        self._tests_pool = None
                raise
        return pool

    def _start_one(self) -> BoxConnection:
        with self._lock:
            serial = next(self._serials)
        try:
            return self.backend.start(serial)
        except SandboxError:
            raise
        # The boundary to backends: a full disk, no descriptor left, or a bug of theirs; never a box that is lost silently.
        except Exception as error:
            raise BoxDied(f"{self.backend.name} started no box: {type(error).__name__}: {error}") from error

    def _add(self, box: BoxConnection) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._boxes.add(box)
                self._failure = None
        if closed:
            box.close()
        else:
            self._hand_out(box)

    def _hand_out(self, box: BoxConnection) -> None:
        with self._lock:
            while self._waiting:
                waiter = self._waiting.popleft()
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(box)
                    return
            self._free.append(box)

    def _replace(self, box: BoxConnection) -> None:
        """End a box and start another one in the background."""
        with self._lock:
            if box not in self._boxes or self._closed:
                return
            self._boxes.discard(box)
            self.replaced += 1
        try:
            self._in_background(partial(self._start_again, box))
        except Closed:
            box.close()
        except RuntimeError:  # no more threads: then the caller does the work
            self._start_again(box)

    def _start_again(self, box: BoxConnection) -> None:
        try:
            box.close()
        # As in _start_one: what does not end is swept later, and must not keep a new box from being started.
        except Exception:  # noqa: BLE001
            _log.exception("the box %s could not be ended", box.name)
        deadline = time.monotonic() + self._patience_s
        pause = 0.1
        while not self._stop.is_set():
            try:
                self._add(self._start_one())
            except SandboxError as error:
                if time.monotonic() > deadline:
                    self._fail(error)
                    deadline = time.monotonic() + self._patience_s
            else:
                return
            self._stop.wait(pause)
            pause = min(2 * pause, 5.0)

    def _fail(self, error: SandboxError) -> None:
        """Raise in every caller that waits, if no box is left. Starting boxes continues."""
        with self._lock:
            if self._boxes:
                return
            self._failure = error
            waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(Unavailable(f"no box could be started for {self._patience_s:g} s: {error}"))

    def acquire(self) -> BoxConnection:
        """Return a box for this caller alone; give it back with `release`.

        Raises:
            Closed: the pool is closed.
            Unavailable: boxes can't be started any more.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise Closed("the sandbox is closed")
                if self._failure is not None and not self._boxes:
                    raise Unavailable(str(self._failure))
                if self._free and not self._waiting:
                    box = self._free.popleft()
                    waiter = None
                else:
                    waiter = Future[BoxConnection]()
                    self._waiting.append(waiter)
            if waiter is not None:
                try:
                    box = waiter.result()
                except BaseException:
                    if not waiter.cancel() and waiter.done() and waiter.exception() is None:
                        self._hand_out(waiter.result())
                    raise
            if box.alive():
                return box
            self._replace(box)

    def release(self, box: BoxConnection) -> None:
        """Take a box back."""
        if box.broken:
            self._replace(box)
        else:
            self._hand_out(box)

    @contextlib.contextmanager
    def box(self) -> Iterator[BoxConnection]:
        """Hold a box for a `with` block. The box is replaced if it dies or the block is interrupted."""
        box = self.acquire()
        try:
            yield box
        except (BoxDied, KeyboardInterrupt, GeneratorExit):
            box.broken = True
            raise
        finally:
            self.release(box)

    def close(self) -> None:
        """End all boxes. Idempotent; every call that waits or runs ends at once, with `Closed`."""
        if os.getpid() != self._owner:
            return
        self.hang_up(Closed("the sandbox was closed"))
        with self._lock:
            if self._ended:
                return
            self._ended = True
            boxes, tests_pool = self._boxes, self._tests_pool
        if tests_pool is not None:
            tests_pool.close()
        threads = [threading.Thread(target=box.close) for box in boxes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._lock:
            # A box that is coming up has files in the backend's folder. `_add` ends it as soon as it is there.
            self._none_starting.wait_for(lambda: self._starting == 0)
        if not self._shares:
            self.backend.close()

    def hang_up(self, reason: SandboxError) -> None:
        """Tell every caller why there are no boxes any more; `close` then ends the boxes, which may take seconds.

        A caller that runs unit tests holds a box of this pool and one of the pool for tests, and waits for both.
        """
        self._stop.set()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            boxes, tests_pool, started = set(self._boxes), self._tests_pool, self._started
            waiting, self._waiting = self._waiting, deque()
            self._free.clear()
        for box in boxes:
            box.hang_up()
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(reason)
        started.put(reason)
        if tests_pool is not None:
            tests_pool.hang_up(reason)

    def forget(self) -> None:
        """Leave the boxes to the owner, in a forked child."""
        self._closed = self._ended = True
        for box in self._boxes:
            box.forget()
        self._boxes = set()


def _close_all() -> None:
    for pool in list(_ALL):
        pool.close()


def _forget_all() -> None:
    for pool in list(_ALL):
        pool._lock = threading.Lock()  # noqa: SLF001  another thread may have held it at the fork
        pool._none_starting = threading.Condition(pool._lock)  # noqa: SLF001
        pool.forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
