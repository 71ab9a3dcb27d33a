"""The pool's view of one worker: its connection, and the tasks that it has been given."""

from __future__ import annotations

import collections
import socket
from dataclasses import dataclass, field

from rewardkit.process_pool.frames import FrameReader, GarbledError, frame
from rewardkit.process_pool.tasks import Task

_RECEIVE_BYTES = 1 << 18


class ConnectionLostError(Exception):
    """The worker can't be talked to any more."""


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process, seen from the pool."""

    number: int
    connection: socket.socket
    is_ready: bool = False
    tasks: collections.deque[Task] = field(default_factory=collections.deque)
    """Given to the worker and not answered, in order; the worker is busy with the first."""
    deadline: float | None = None
    """When the first task must be answered, on the monotonic clock."""
    stalled_at: float | None = None
    """When the worker counts as stuck in the middle of a message, on the monotonic clock."""
    _unsent: collections.deque[memoryview] = field(default_factory=collections.deque)
    _unsent_tasks: int = 0
    """The number of last tasks that have not been written completely."""
    _ends: collections.deque[int] = field(default_factory=collections.deque)
    """For each of those tasks, how many pieces of `_unsent` remain up to its end."""
    _reader: FrameReader = field(default_factory=FrameReader)

    @property
    def is_open(self) -> bool:
        """True if the connection is open on this side."""
        return self.connection.fileno() >= 0

    @property
    def wants_to_write(self) -> bool:
        """True if there are bytes that the socket has not taken."""
        return bool(self._unsent)

    @property
    def has_first_task(self) -> bool:
        """True if the whole first task has been written, so that the worker may be busy with it."""
        return len(self.tasks) > self._unsent_tasks

    @property
    def is_within_message(self) -> bool:
        """True if a message is incomplete that the other side should have read or written by now."""
        return self._reader.is_partial or (bool(self.tasks) and not self.has_first_task)

    def give(self, task: Task) -> None:
        """Put a task into the worker's queue; `write` sends it."""
        self.tasks.append(task)
        pieces = [memoryview(piece) for piece in frame(task.number, task.payload) if piece]
        self._unsent.extend(pieces)
        self._ends.append(len(pieces))
        self._unsent_tasks += 1

    def write(self) -> bool:
        """Send as much as the socket takes; return whether that was anything.

        Raises:
            ConnectionLostError: The worker does not read any more.
        """
        progress = False
        while self._unsent:
            try:
                sent = self.connection.send(self._unsent[0])
            except BlockingIOError:
                return progress
            except OSError:
                raise ConnectionLostError from None
            progress = True
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
                continue
            self._unsent.popleft()
            self._ends[0] -= 1
            if self._ends[0] == 0:
                self._ends.popleft()
                self._unsent_tasks -= 1
        return progress

    def read(self) -> list[tuple[int, bytes | bytearray]]:
        """Return the messages that have arrived completely.

        Raises:
            ConnectionLostError: The worker has ended, closed its connection, or sent something that is no message.
        """
        try:
            data = self.connection.recv(_RECEIVE_BYTES)
            messages = list(self._reader.feed(data))
        except BlockingIOError:
            return []
        except (OSError, GarbledError):
            raise ConnectionLostError from None
        if not data:
            raise ConnectionLostError
        return messages
