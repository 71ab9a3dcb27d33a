"""An asyncio event loop in a thread of its own, which can be given up if a coroutine blocks it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_S = 2.0
"""How long cancelled tasks may take to end when the loop is closed."""
_MAX_STOPS = 5
_MAX_THREADS = 64


class DaemonExecutor(ThreadPoolExecutor):
    """Threads that end with the program, even if what they run never returns. The standard library's executor waits for them."""

    def __init__(self, max_workers: int, name: str) -> None:
        super().__init__(max_workers)
        self._name = name
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._daemons: list[threading.Thread] = []
        self._open: set[Future[Any]] = set()
        self._closed = False

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in one of the threads. Raises RuntimeError after ``shutdown``."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)

        with self._lock:
            if self._closed:
                raise RuntimeError("these threads have been ended")
            self._open.add(future)
            self._work.put(run)
            if not self._idle.acquire(blocking=False) and len(self._daemons) < self._max_workers:
                thread = threading.Thread(target=self._serve, name=f"{self._name}_{len(self._daemons)}", daemon=True)
                self._daemons.append(thread)
                thread.start()
        future.add_done_callback(self._forget)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads; with ``wait``, after all work is done."""
        self.end(None if wait else 0.0, cancel_futures=cancel_futures)

    def end(self, timeout_s: float | None, *, cancel_futures: bool = True) -> None:
        """End the threads, and wait for them no longer than ``timeout_s`` (None: until they have ended)."""
        with self._lock:
            self._closed = True
            waiting = list(self._open) if cancel_futures else []
        for future in waiting:
            future.cancel()
        for _ in self._daemons:
            self._work.put(None)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._daemons:
            if thread is not threading.current_thread():
                thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _serve(self) -> None:
        while (run := self._work.get()) is not None:
            run()
            del run  # it holds what it was called with
            self._idle.release()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._open.discard(future)


class EventLoop:
    """An asyncio loop in a thread of its own, so that async rewards work whatever the caller does."""

    def __init__(self, name: str = "rewardkit-async") -> None:
        self._loop = asyncio.new_event_loop()
        self._executor = DaemonExecutor(_MAX_THREADS, f"{name}-thread")
        self._loop.set_default_executor(self._executor)
        self._lock = threading.Lock()
        self._closing = False
        self._interruptible = True
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """True until the thread has ended."""
        return self._thread.is_alive()

    @property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself."""
        return self._loop

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function in the loop's thread. Raises RuntimeError if the loop is being closed."""
        with self._lock:
            if self._closing:
                raise RuntimeError("the event loop has been closed")
            self._loop.call_soon_threadsafe(function, *args)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop. Raises RuntimeError if the loop is being closed."""
        with self._lock:
            if not self._closing:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()  # it will never run, and must not be reported as forgotten
        raise RuntimeError("the event loop has been closed")

    def answers(self, timeout_s: float) -> bool:
        """Return False if a coroutine has blocked the loop for the whole of ``timeout_s``."""
        answered = threading.Event()
        try:
            self.call(answered.set)
        except RuntimeError:
            return False
        return answered.wait(timeout_s)

    def current_task(self) -> asyncio.Task[Any] | None:
        """Return the task that runs at the moment; None if there is none or it can't be told."""
        try:
            return asyncio.current_task(self._loop)
        except RuntimeError:
            return None

    def close(self, timeout_s: float) -> None:
        """Cancel all tasks and end the thread. If a coroutine blocks the loop or ignores its cancellation, the thread is given up."""
        self._stop()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._interrupt()

    def abandon(self) -> None:
        """Give up the thread without waiting for it. It ends as soon as what blocks it returns, or runs Python code."""
        self._stop()
        self._interrupt()

    def _stop(self) -> None:
        with self._lock:
            if not self._closing:
                self._closing = True
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _interrupt(self) -> None:
        """Raise SystemExit in the thread, which ends a loop of Python code."""
        with self._lock:
            if self._interruptible:
                _raise_in(self._thread, SystemExit)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(SystemExit):  # of `_interrupt`
            while not self._closing:  # a coroutine may stop the loop that it runs in
                self._loop.run_forever()
        for _ in range(_MAX_STOPS):
            with contextlib.suppress(SystemExit, RuntimeError):  # RuntimeError: a coroutine has stopped the loop again
                self._loop.run_until_complete(self._cancel_all())
                break
        with contextlib.suppress(SystemExit), self._lock:
            self._interruptible = False
        _raise_in(self._thread, None)
        self._executor.end(_CANCEL_S)
        self._loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            done, pending = await asyncio.wait(tasks, timeout=_CANCEL_S)
            for task in pending:
                # Never destroyed: a coroutine that catches every exception would catch GeneratorExit, too, and run on for ever.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
            for task in done:
                if not task.cancelled():
                    task.exception()  # so that it is not reported as never retrieved
        await asyncio.get_running_loop().shutdown_asyncgens()


def _raise_in(thread: threading.Thread, exception: type[BaseException] | None) -> None:
    """Raise an exception in a thread the next time that it runs Python code; None takes one back that has not been raised."""
    raised = None if exception is None else ctypes.py_object(exception)
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), raised)
