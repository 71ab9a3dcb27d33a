"""The process that worker processes are forked from, and the loop that a worker runs.

The fork server loads the program once, then forks a worker whenever it is told to. So a worker that was killed is replaced in
milliseconds, without importing anything again. The server runs none of the program's code after loading except `close`, stays
single-threaded, and ends, with all its workers, when the process that started it ends.

It reads a pickled program from stdin. On its control socket it accepts ``fork N`` (with the worker's end of a socket pair) and
``kill N``, and reports ``loaded``, ``failed`` and ``exited`` as JSON. N is a number that the pool assigns to a worker, because
process ids are reused.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import logging
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any, Protocol

from rewardkit.errors import RewardkitError
from rewardkit.process_pool.frames import FrameReader, frame

logger = logging.getLogger(__name__)

READY, FAILED = 0, 1
"""The numbers of the messages that are not about a task; tasks are numbered from 2."""
FIRST_TASK = 2
_PR_SET_PDEATHSIG = 1
_CLOSE_S = 5
"""Seconds that the program may take to close; the pool waits a little longer."""
_RECEIVE_BYTES = 1 << 18


class Handler(Protocol):
    """Does the tasks in a worker process. It may also have these methods.

    ``start()`` is called once in every worker, after the fork. ``close()`` is called once in the fork server, at the end.
    """

    def __call__(self, task: Any, /) -> Any:
        """Do one task. An exception that it raises is handed to whoever submitted the task."""
        ...


class Program(Protocol):
    """The program that a pool's workers run. It is pickled to start the fork server."""

    def load(self) -> Handler:
        """Import and build what all workers share. Called once, in the fork server."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The value that the handler returned for a task."""

    value: Any
    seconds: float
    """Wall time that the handler took."""


def run_worker(connection: socket.socket, handler: Handler) -> None:
    """Do tasks until the pool closes the connection, and answer each as soon as it is done."""
    process = os.getpid()
    try:
        if (start := getattr(handler, "start", None)) is not None:
            start()
    except Exception as error:  # noqa: BLE001 - the program's own code; whoever waits is told
        connection.sendall(b"".join(frame(FAILED, pickle.dumps(_describe(error)))))
        return
    connection.sendall(b"".join(frame(READY, b"")))
    reader = FrameReader()
    while data := connection.recv(_RECEIVE_BYTES):
        for number, payload in reader.feed(data):
            answer = _answer(handler, payload)
            if os.getpid() != process:
                os._exit(1)  # the handler forked and this is the child: the parent answers
            for piece in frame(number, answer):
                connection.sendall(piece)


def _answer(handler: Handler, payload: bytes | bytearray) -> bytes:
    start = time.perf_counter()
    try:
        value = handler(pickle.loads(payload))  # noqa: S301 - written by the pool
        # Since protocol 5, large buffers are copied once.
        return pickle.dumps(Answer(value, time.perf_counter() - start), protocol=5)
    except Exception as error:  # noqa: BLE001 - handed to whoever submitted the task
        return pickle.dumps(_portable(error))


def _portable(error: Exception) -> Exception:
    """Return an exception that survives pickling, with the worker's traceback as a note."""
    error.add_note("".join(traceback.format_exception(error))[-8000:])
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled on this line
    except Exception:  # noqa: BLE001 - an exception class may define anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _describe(error: BaseException) -> dict[str, str]:
    if isinstance(error, RewardkitError):
        return {"failed": str(error)[:8000], "traceback": ""}
    return {"failed": f"{type(error).__name__}: {error}"[:2000], "traceback": traceback.format_exc()[-8000:]}


def _become_worker(fd: int, server: int, handler: Handler) -> None:
    """Run the worker loop in the forked child; never returns."""
    status = 1
    try:
        os.setsid()  # so that whatever the handler starts can be killed together with the worker
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The connection closes when the process has ended, not before: the pool kills a worker whose connection has closed,
        # and its own exit code would be lost.
        connection = socket.socket(fileno=fd)
        if os.getppid() == server:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                run_worker(connection, handler)
        status = 0
    finally:
        os._exit(status)


def _serve(control: socket.socket, handler: Handler) -> None:
    """Fork and kill workers as told, and report those that end, until the control socket is closed."""
    server = os.getpid()
    workers: dict[int, int] = {}  # numbers by process id
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watched: list[Any] = [control, wake_read]
    try:
        while True:
            readable, _, _ = select.select(watched, [], [])
            if wake_read in readable:
                os.read(wake_read, 4096)
                _reap(control, workers)
            if control not in readable:
                continue
            message, fds, _, _ = socket.recv_fds(control, 4096, 1)
            if not message:
                return
            command, number = message.decode().split()
            if command == "fork":
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    control.close()
                    os.close(wake_read)
                    os.close(wake_write)
                    _become_worker(fds[0], server, handler)
                os.close(fds[0])
                workers[pid] = int(number)
            else:
                for pid in [pid for pid, known in workers.items() if known == int(number)]:
                    _kill(pid)
    finally:
        for pid in workers:
            _kill(pid)
        for pid in workers:
            os.waitpid(pid, 0)


def _reap(control: socket.socket, workers: dict[int, int]) -> None:
    """Report the workers that have ended, and kill the processes that each of them had started."""
    while workers:
        # WNOWAIT leaves the zombie in place, so that nobody else can get its process id or group before the kill.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        number = workers.pop(ended.si_pid, None)
        if number is not None:
            _kill(ended.si_pid)
        _, status = os.waitpid(ended.si_pid, 0)
        if number is not None:
            control.send(json.dumps({"exited": number, "status": status}).encode())


def _kill(pid: int) -> None:
    """Kill a worker and every process that it started and that stayed in its session."""
    for kill in (os.killpg, os.kill):  # a worker that was forked this moment has no process group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _close(handler: Handler) -> None:
    close = getattr(handler, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception:
        logger.exception("the program of a process pool could not be closed")


def main() -> None:
    """Run the fork server. The first argument is the number of the inherited control socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.dup2(2, 1)  # output of the program and its tasks must not mix with data on stdout
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a worker that is killed flushes nothing
    try:
        program: Program = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the process that started this one
        handler = program.load()
    # The program's own code may raise anything, SystemExit included.
    except BaseException as error:  # noqa: BLE001
        control.send(json.dumps(_describe(error)).encode())
        return
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            control.send(json.dumps({"loaded": True}).encode())
            _serve(control, handler)
    finally:
        signal.alarm(_CLOSE_S)
        _close(handler)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # this process, and what the program started while it was loaded
