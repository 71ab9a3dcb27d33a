"""The pool's view of one worker, over a socket pair whose other end the test holds."""

import socket
from collections.abc import Iterator

import pytest

from rewardkit.process_pool.frames import FrameReader, frame
from rewardkit.process_pool.tasks import Batch, Task
from rewardkit.process_pool.worker import ConnectionLostError, Worker

LARGE = b"x" * (1 << 22)
"""More than a socket takes at once."""


@pytest.fixture
def pair() -> Iterator[tuple[Worker, socket.socket]]:
    """A worker as the pool sees it, and the process's end of its connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(60)
    with ours, theirs:
        yield Worker(0, ours), theirs


def task(number: int, payload: bytes = b"payload") -> Task:
    """A task that belongs to a batch of its own."""
    return Task(number, payload, None, Batch(1), 0)


def receive(connection: socket.socket, count: int, worker: Worker) -> list[tuple[int, bytes]]:
    """Read messages at the process's end, while the worker goes on writing."""
    reader = FrameReader()
    messages: list[tuple[int, bytes]] = []
    while len(messages) < count:
        messages += reader.feed(connection.recv(1 << 20))
        worker.write()
    return messages


def test_tasks_are_sent_in_order(pair: tuple[Worker, socket.socket]) -> None:
    """Tasks that are given ahead of time arrive as they were given, a task without a payload included."""
    worker, theirs = pair
    for number, payload in ((2, b"first"), (3, b""), (4, b"third")):
        worker.give(task(number, payload))
    assert worker.write()
    assert receive(theirs, 3, worker) == [(2, b"first"), (3, b""), (4, b"third")]
    assert not worker.wants_to_write


def test_a_worker_is_not_to_blame_for_a_task_that_it_has_not_got(pair: tuple[Worker, socket.socket]) -> None:
    """As long as a part of the first task has not been sent, the worker can't be busy with it."""
    worker, theirs = pair
    worker.give(task(2, LARGE))
    worker.give(task(3))
    worker.write()
    assert worker.wants_to_write
    assert worker.is_within_message
    assert not worker.has_first_task
    assert receive(theirs, 2, worker) == [(2, LARGE), (3, b"payload")]
    assert worker.has_first_task
    assert not worker.is_within_message


def test_a_full_socket_is_no_progress(pair: tuple[Worker, socket.socket]) -> None:
    """`write` tells whether anything was sent, so that a worker that does not read is found out."""
    worker, _ = pair
    worker.give(task(2, LARGE))
    assert worker.write()
    assert not worker.write()


def test_answers_are_read_as_they_arrive(pair: tuple[Worker, socket.socket]) -> None:
    """Half an answer is none; it counts as within a message until the rest arrives."""
    worker, theirs = pair
    assert worker.read() == []
    answer = b"".join(frame(2, b"answer"))
    theirs.sendall(answer[:-1])
    assert worker.read() == []
    assert worker.is_within_message
    theirs.sendall(answer[-1:] + b"".join(frame(3, b"next")))
    assert worker.read() == [(2, b"answer"), (3, b"next")]
    assert not worker.is_within_message


def test_a_closed_connection_is_lost(pair: tuple[Worker, socket.socket]) -> None:
    """After the process's end, reading and writing raise; they do not pretend that there is nothing to do."""
    worker, theirs = pair
    worker.give(task(2, LARGE))
    theirs.close()
    with pytest.raises(ConnectionLostError):
        worker.read()
    with pytest.raises(ConnectionLostError):
        worker.write()


def test_garbage_is_a_lost_connection(pair: tuple[Worker, socket.socket]) -> None:
    """A worker whose task wrote into the socket can't be understood any more."""
    worker, theirs = pair
    theirs.sendall(b"print" * 10)
    with pytest.raises(ConnectionLostError):
        worker.read()
