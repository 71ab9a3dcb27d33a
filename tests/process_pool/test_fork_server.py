"""The loop of a worker, run in a thread."""

import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rewardkit.process_pool.fork_server import FAILED, READY, Answer, run_worker
from rewardkit.process_pool.frames import FrameReader, frame


def converse(handler: Callable[[Any], Any], *tasks: Any) -> list[tuple[int, Any]]:
    """Run a worker, send it tasks in one go, close its connection, and return its messages: number and content."""
    ours, theirs = socket.socketpair()
    with ours:
        thread = threading.Thread(target=run_worker, args=(theirs, handler))
        thread.start()
        ours.sendall(b"".join(b"".join(frame(number, pickle.dumps(task))) for number, task in enumerate(tasks, 2)))
        ours.shutdown(socket.SHUT_WR)
        thread.join(60)
        assert not thread.is_alive()
        theirs.close()
        reader = FrameReader()
        messages: list[tuple[int, bytes]] = []
        while data := ours.recv(1 << 20):
            messages += reader.feed(data)
    return [(number, pickle.loads(content) if content else None) for number, content in messages]  # noqa: S301


class UnportableError(Exception):
    """An exception that can be pickled and not restored."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def test_a_worker_reports_that_it_is_ready() -> None:
    """The first message says so, and the loop ends with the connection."""
    assert converse(print) == [(READY, None)]


def test_tasks_are_answered_in_order() -> None:
    """Each answer has its task's number and the time that it took."""
    ready, *answers = converse(len, "a", "bb", "")
    assert ready == (READY, None)
    assert [(number, answer.value) for number, answer in answers] == [(2, 1), (3, 2), (4, 0)]
    assert all(isinstance(answer, Answer) and answer.seconds >= 0 for _, answer in answers)


def test_an_exception_answers_its_task_alone() -> None:
    """It arrives with its class, its text and the worker's traceback; the next task is done."""
    _, (number, error), (_, answer) = converse(int, "x", "7")
    assert number == 2
    assert isinstance(error, ValueError)
    assert "invalid literal" in str(error)
    assert "_answer" in error.__notes__[0]
    assert answer.value == 7


@pytest.mark.parametrize("value", [lambda: None, threading.Lock()])
def test_a_value_that_cannot_be_pickled_is_an_error(value: object) -> None:
    """It does not end the worker."""
    _, (_, error), _ = converse(lambda task: value if task == 1 else task, 1, 2)
    assert isinstance(error, Exception)
    assert "pickle" in str(error)


def test_an_exception_that_cannot_be_restored_keeps_its_text() -> None:
    """It is handed on as a RuntimeError that names its class."""

    def handler(task: str) -> None:
        raise UnportableError("no", task)

    _, (_, error) = converse(handler, "luck")
    assert type(error) is RuntimeError
    assert str(error) == "UnportableError: no luck"


def test_a_start_that_fails_is_reported() -> None:
    """If a worker can't be set up, its only message says why, with the traceback."""

    class Handler:
        def start(self) -> None:
            raise OSError("no device")

        def __call__(self, task: object) -> None: ...

    [(number, told)] = converse(Handler())
    assert number == FAILED
    assert told["failed"] == "OSError: no device"
    assert "in start" in told["traceback"]
