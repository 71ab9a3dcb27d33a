"""A fixed number of warm boxes, handed out in the order of asking, and replaced when they are dead or suspect."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Protocol

from rewardkit_sandbox.errors import Closed, SandboxError, SlotDied, Unavailable
from rewardkit_sandbox.host.box_connection import Slot

_log = logging.getLogger(__name__)
_ALL: weakref.WeakSet[Pool] = weakref.WeakSet()


class Backend(Protocol):
    """Where boxes come from."""

    name: str

    def open(self) -> None:
        """Checks that boxes can be made here. Raises `Unavailable`, saying what to do."""

    def start(self, serial: int) -> Slot:
        """A box that is ready. Raises where it did not come up, after cleaning up; it is tried again for a while."""

    def close(self) -> None:
        """Gives back what the backend itself holds."""


class Pool:
    """Boxes shared by any number of threads. A caller that finds none free waits its turn."""

    def __init__(
        self, backend: Backend, size: int, patience_s: float = 120.0, *, serials: Iterator[int] | None = None
    ) -> None:
        """Nothing is started yet.

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
        self._twinning = threading.Lock()
        self._free: deque[Slot] = deque()
        self._waiting: deque[Future[Slot]] = deque()
        self._slots: set[Slot] = set()
        self._serials = serials or itertools.count(1)
        self._shares = serials is not None
        self._twin: Pool | None = None
        self._closed = False
        self._restarts: set[threading.Thread] = set()
        self._failure: SandboxError | None = None
        self._stop = threading.Event()
        self._owner = os.getpid()

    def open(self) -> None:
        """Starts all boxes side by side.

        Raises:
            Unavailable: boxes can't be made here.
            SlotDied: they don't come up.
        """
        if not self._shares:
            try:
                self.backend.open()
            except OSError as error:
                raise Unavailable(f"{self.backend.name} can't be opened here: {error}") from error
        _ALL.add(self)
        errors: list[SandboxError] = []

        def start() -> None:
            try:
                self._add(self._start_one())
            except SandboxError as error:
                errors.append(error)

        threads = [threading.Thread(target=start) for _ in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            self.close()
            raise errors[0]

    def twin(self) -> Pool:
        """A pool of as many boxes from the same backend, started at the first call, and closed with this one.

        Who holds a box of this pool may ask for one of the twin: there is always one, so that nobody waits in a circle.

        Raises:
            SandboxError: its boxes don't come up.
        """
        with self._twinning:
            if self._twin is None:
                twin = Pool(self.backend, self.size, self._patience_s, serials=self._serials)
                twin.open()
                with self._lock:
                    closed = self._closed
                    self._twin = twin
                if closed:
                    twin.close()
            return self._twin

    def _start_one(self) -> Slot:
        with self._lock:
            serial = next(self._serials)
        try:
            return self.backend.start(serial)
        except SandboxError:
            raise
        # The boundary to backends: a full disk, no descriptor left, or a bug of theirs; never a box that is lost silently.
        except Exception as error:
            raise SlotDied(f"{self.backend.name} started no box: {type(error).__name__}: {error}") from error

    def _add(self, slot: Slot) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._slots.add(slot)
                self._failure = None
        if closed:
            slot.close()
        else:
            self._hand_out(slot)

    def _hand_out(self, slot: Slot) -> None:
        with self._lock:
            while self._waiting:
                waiter = self._waiting.popleft()
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(slot)
                    return
            self._free.append(slot)

    def _replace(self, slot: Slot) -> None:
        """Ends a box and starts another one in the background."""
        with self._lock:
            if slot not in self._slots:
                return
            self._slots.discard(slot)
            self.replaced += 1
            thread = threading.Thread(target=self._restart, args=(slot,), daemon=True, name="sandbox-replace")
            self._restarts.add(thread)
        try:
            thread.start()
        except RuntimeError:  # this process may have no more threads: then the caller does the work
            with self._lock:
                self._restarts.discard(thread)
            self._start_again(slot)

    def _restart(self, slot: Slot) -> None:
        try:
            self._start_again(slot)
        finally:
            with self._lock:
                self._restarts.discard(threading.current_thread())

    def _start_again(self, slot: Slot) -> None:
        try:
            slot.close()
        # As in _start_one: what does not end is swept later, and must not keep a new box from being started.
        except Exception:  # noqa: BLE001
            _log.exception("the box %s could not be ended", slot.name)
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
        """Tells everyone who waits, if not a single box is left. Starting goes on."""
        with self._lock:
            if self._slots:
                return
            self._failure = error
            waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(Unavailable(f"no box could be started for {self._patience_s:g} s: {error}"))

    def acquire(self) -> Slot:
        """A box for this caller alone; give it back with `release`.

        Raises:
            Closed: the pool is closed.
            Unavailable: boxes can't be started any more.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise Closed("the sandbox is closed")
                if self._failure is not None and not self._slots:
                    raise Unavailable(str(self._failure))
                if self._free and not self._waiting:
                    slot = self._free.popleft()
                    waiter = None
                else:
                    waiter = Future[Slot]()
                    self._waiting.append(waiter)
            if waiter is not None:
                try:
                    slot = waiter.result()
                except BaseException:
                    if not waiter.cancel() and waiter.done() and waiter.exception() is None:
                        self._hand_out(waiter.result())
                    raise
            if slot.alive():
                return slot
            self._replace(slot)

    def release(self, slot: Slot) -> None:
        """Takes a box back."""
        if slot.broken:
            self._replace(slot)
        else:
            self._hand_out(slot)

    @contextlib.contextmanager
    def slot(self) -> Iterator[Slot]:
        """A box for the length of a `with` block; one that an exception went through is replaced."""
        slot = self.acquire()
        try:
            yield slot
        except (SlotDied, KeyboardInterrupt, GeneratorExit):
            slot.broken = True
            raise
        finally:
            self.release(slot)

    def close(self) -> None:
        """Ends all boxes. Idempotent; those who wait get `Closed`."""
        if os.getpid() != self._owner:
            return
        self._stop.set()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            twin = self._twin
            slots, self._slots = self._slots, set()
            waiting, self._waiting = self._waiting, deque()
            self._free.clear()
            # A box that is being started has files in the backend's folder: it is let come up, and ended by `_add`.
            restarts = list(self._restarts)
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(Closed("the sandbox was closed"))
        if twin is not None:
            twin.close()
        threads = [threading.Thread(target=slot.close) for slot in slots]
        for thread in threads:
            thread.start()
        for thread in (*threads, *restarts):
            thread.join()
        if not self._shares:
            self.backend.close()

    def forget(self) -> None:
        """In a forked child: leaves the boxes to the owner."""
        self._closed = True
        for slot in self._slots:
            slot.forget()
        self._slots = set()


def _close_all() -> None:
    for pool in list(_ALL):
        pool.close()


def _forget_all() -> None:
    for pool in list(_ALL):
        pool._lock = threading.Lock()  # noqa: SLF001  another thread may have held it at the fork
        pool.forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
