"""The pool's side of the fork server: start it, ask it for workers, and hear of those that end."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

import rewardkit
from rewardkit.errors import WorkerError
from rewardkit.process_pool.fork_server import Program
from rwk import installation

_COMMAND = """
import json, socket, sys
sys.path[:] = json.loads(sys.argv[2])
try:
    import rewardkit
    if getattr(rewardkit, "__version__", None) != sys.argv[3]:
        raise ImportError("it is " + (rewardkit.__file__ or "a folder without __init__.py"))
    from rewardkit.process_pool.fork_server import main
except Exception as error:
    told = f"the package rewardkit has been replaced or deleted on disk ({type(error).__name__}: {error}); {sys.argv[4]}"
    socket.socket(fileno=int(sys.argv[1])).send(json.dumps({"failed": told, "traceback": ""}).encode())
    sys.exit(1)
main()
"""
"""The fork server's program. What it finds on disk may be another version, or another distribution's package of the same name."""


class ForkClient:
    """One running fork server.

    Args:
        program: What the workers run.

    Raises:
        WorkerError: The process can't be started, or this process has imported a damaged package.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self.is_loaded = False
        version = getattr(rewardkit, "__version__", None)
        advice = f"`rwk doctor` shows what is wrong, and `{installation.install_again()}` installs it again"
        if version is None:
            raise WorkerError(f"the imported package rewardkit is damaged, or another one of the same name; {advice}")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno()), path, version, advice],
                    stdin=subprocess.PIPE,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C in the terminal is for the parent to handle
                )
            except OSError as error:
                self.control.close()
                raise WorkerError(f"worker processes can't be started: {error}") from None

    @property
    def pid(self) -> int:
        """The process id of the fork server."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code of the fork server; None while it runs."""
        return self._process.returncode

    def load(self, timeout_s: float, wake: int, is_closing: Callable[[], bool], drain: Callable[[], None]) -> bool:
        """Send the program and wait until it is loaded.

        Args:
            timeout_s: Seconds that loading may take.
            wake: A file descriptor that becomes readable when `is_closing` may have changed.
            is_closing: Returns whether to stop waiting.
            drain: Makes `wake` unreadable.

        Returns:
            False if the wait was stopped.

        Raises:
            WorkerError: The program can't be loaded, or takes too long.
        """
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            pickle.dump(self._program, stdin)
        deadline = time.monotonic() + timeout_s
        while not is_closing():
            ready = wait([self.control, wake], max(0.0, deadline - time.monotonic()))
            if self.control in ready:
                message = self.hear()
                if message.get("loaded"):
                    self.is_loaded = True
                    return True
                if "failed" in message:
                    trace = f"\n{message['traceback']}" if message["traceback"] else ""
                    raise WorkerError(f"a worker process can't be set up: {message['failed']}{trace}")
                raise WorkerError(f"the worker processes can't be started: {self.end(5)}")
            if not ready:
                raise WorkerError(f"the plugins were not imported and built within {timeout_s:g} s")
            drain()
        return False

    def hear(self) -> dict[str, Any]:
        """Return the next message of the fork server; an empty one if it has ended."""
        try:
            message: dict[str, Any] = json.loads(self.control.recv(1 << 20) or b"{}")
        except ConnectionResetError:  # it ended with messages unread
            return {}
        return message

    def fork(self, number: int) -> socket.socket:
        """Ask for a worker and return the pool's end of its connection."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._tell(f"fork {number}", theirs.fileno())
        return ours

    def kill(self, number: int) -> None:
        """Ask for the end of a worker, which is reported when it has happened."""
        self._tell(f"kill {number}")

    def _tell(self, text: str, *fds: int) -> None:
        """Send a command. If the fork server has ended, `hear` finds out."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.control, [text.encode()], fds)

    def end(self, patience_s: float) -> str:
        """Wait for the fork server to end, kill it after `patience_s` seconds, and return how it ended."""
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.control.close()
        return describe_exit(self._process.returncode)

    def abandon(self) -> None:
        """Let go of the fork server in a forked child: it belongs to the parent."""
        self._process.returncode = 0
        self.control.close()

    def close(self) -> None:
        """End the fork server and all its workers."""
        with contextlib.suppress(OSError):
            self.control.shutdown(
                socket.SHUT_RDWR
            )  # takes effect even if a forked copy of this process holds the socket
        # While it loads the program it does not listen, and nothing is lost if it is killed.
        self.end(10.0 if self.is_loaded else 0.0)


def describe_exit(code: int) -> str:
    """Return how a process ended, from its exit code or negative signal number."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # most real-time signals have no name
        name = f"signal {-code}"
    return f"{name}, perhaps out of memory" if -code == signal.SIGKILL else name
