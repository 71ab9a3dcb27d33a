"""The host's connection to one box, over which it runs one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator

from rewardkit_sandbox.errors import BoxDied, SandboxError
from rewardkit_sandbox.host.box_config import BoxConfig
from rewardkit_sandbox.host.exchange import GRACE_S, Ended, Exchange, Job, Outcome, memory_file
from rewardkit_sandbox.types import Execution


class BoxConnection:
    """A running box. One thread uses it at a time, and it is not used again after an error."""

    def __init__(
        self,
        name: str,
        connection: socket.socket,
        end: Callable[[], None],
        watch: Callable[[], Callable[[], bool]] | None = None,
    ) -> None:
        """Takes over a connection.

        Args:
            name: what it is called in messages.
            connection: the control socket.
            end: ends the box and gives back what it holds.
            watch: called before a program; what it returns is asked after a violent end whether the kernel killed in the
                box for want of memory since. None where the host can't tell.
        """
        self.name = name
        self._watch = watch or (lambda: lambda: False)
        self.broken = False
        self.has_template = False
        """True if the box holds a program ready for its next case."""
        self.can_have_template = False
        self.python: tuple[int, ...] = ()
        self._connection = connection
        self._end = end
        self._lock = threading.Lock()
        self._ended = False
        self._running = False
        self._serial = 0

    def start(self, config: BoxConfig, timeout_s: float = 20.0) -> None:
        """Send the fork server's source and wait until it is ready.

        Raises:
            BoxDied: it did not come up; the message has what it said.
        """
        self._connection.settimeout(timeout_s)
        bundle = memory_file(config.bundle())
        try:
            socket.send_fds(self._connection, [b"boot"], [bundle])
            packet = self._connection.recv(65536)
        except OSError as error:
            raise BoxDied(f"{self.name} did not start: {error}") from error
        finally:
            os.close(bundle)
        if not packet:
            raise BoxDied(f"{self.name} ended while starting")
        answer = json.loads(packet)
        if "error" in answer:
            raise BoxDied(f"{self.name} could not be set up: {answer['error']}")
        self.python = tuple(answer["python"])
        self.can_have_template = answer["templates"]
        self._connection.settimeout(GRACE_S)

    def alive(self) -> bool:
        """Return whether the box still has its end of the socket; nothing is sent."""
        with self._lock:
            if self.broken:
                return False
            poll = select.poll()
            poll.register(self._connection, select.POLLIN)
            return not poll.poll(0)

    def hang_up(self) -> None:
        """End the conversation, from any thread: a run in progress raises `BoxDied` at once. The box itself ends with `close`."""
        with self._lock:
            self.broken = True
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the box and everything in it. Idempotent, and allowed from any thread.

        A run in progress still polls the socket. It closes it itself, because the number of a descriptor closed here could
        already belong to something else when that thread polls again.
        """
        self.hang_up()
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if not self._running:
                self._connection.close()
        self._end()

    def forget(self) -> None:
        """Drop the socket in a forked child of the owner, so that only the owner keeps the box alive."""
        self._lock = threading.Lock()  # another thread may have held it at the fork
        with contextlib.suppress(OSError):
            os.close(self._connection.fileno())
        self._ended = self.broken = True

    def run(self, job: Job) -> Outcome:
        """Run one process, read its output, and wait for its end.

        Raises:
            BoxDied: the box ended or stopped answering; nothing is known about the program.
            SandboxError: The program could not be isolated, or this process has no descriptors left.
        """
        return self.finish(self.begin(job))

    def begin(self, job: Job) -> Exchange:
        """Ask for a process. The box starts it when those asked for before have ended; `finish` must be called in the same order.

        Raises:
            BoxDied: The box ended.
            SandboxError: This process has no descriptors left.
        """
        self._serial += 1
        try:
            exchange = Exchange(job, self._serial, self._watch())
        except OSError as error:
            raise SandboxError(f"this process is short of descriptors: {error}") from error
        try:
            with self._keep_open():
                exchange.send(self._connection)
        except OSError as error:
            exchange.close()
            raise BoxDied(f"{self.name}: {error}") from error
        except BoxDied:
            exchange.close()
            raise
        return exchange

    def abandon(self, exchange: Exchange) -> None:
        """End a process whose outcome is of no interest. A box that does not end it stays broken."""
        try:
            with self._keep_open():
                exchange.cancel(self._connection)
            self.finish(exchange)
        except (OSError, SandboxError):
            self.broken = True
            exchange.close()

    def finish(self, exchange: Exchange) -> Outcome:
        """Read a process's output and wait for its end.

        Raises:
            BoxDied: the box ended or stopped answering; nothing is known about the program.
            SandboxError: The program could not be isolated.
        """
        try:
            with self._keep_open():
                return self._finish(exchange)
        finally:
            exchange.close()

    @contextlib.contextmanager
    def _keep_open(self) -> Iterator[None]:
        """Keep the socket open for the length of a run, whoever closes the box meanwhile."""
        with self._lock:
            if self._ended:
                raise BoxDied(f"{self.name} is closed")
            self._running = True
        try:
            yield
        finally:
            self._stop_running()

    def _stop_running(self) -> None:
        with self._lock:
            self._running = False
            if self._ended:
                self._connection.close()

    def end_template(self) -> None:
        """End the template, if there is one. A box that is dead or broken stays so."""
        if self.broken or not self.has_template:
            return
        self.has_template = False
        try:
            with self._keep_open():
                self._connection.send(b'{"entry": "end"}')
        except (OSError, BoxDied):
            self.broken = True

    def _finish(self, exchange: Exchange) -> Outcome:
        out_of_memory = exchange.out_of_memory
        try:
            exchange.pump(self._connection)
            self.has_template = exchange.answer.get("template", False)
            if exchange.answer.get("oom", False) is None:
                exchange.answer["oom"] = out_of_memory()
            return exchange.outcome()
        except (Ended, OSError, ValueError) as error:
            hung_up, self.broken = self.broken, True
            if not hung_up and out_of_memory():
                # The program was alone in the box: the kernel killed the box's server because the program used its memory.
                return Outcome(Execution("memory_limit", note=f"used more than {exchange.job.limits.memory_mb} MiB"))
            raise BoxDied(f"{self.name}: {error}") from error
        except SandboxError:
            self.broken = True
            raise
