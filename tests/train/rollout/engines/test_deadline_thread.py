"""Calls run in a thread under a deadline."""

from __future__ import annotations

import threading

import pytest

from rewardkit.errors import EngineError
from rewardkit.train.rollout.engines.deadline_thread import DeadlineThread


@pytest.fixture
def worker():
    """Return a thread that is ended after the test."""
    thread = DeadlineThread("engine")
    yield thread
    thread.close()


def test_a_call_gives_its_result_or_raises_its_error(worker):
    """A call returns or raises as if it had been made directly, always in the same thread."""
    assert worker.call("adding", 10, lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        worker.call("dividing", 10, lambda: 1 // 0)
    names = {worker.call("asking", 10, lambda: threading.current_thread().name) for _ in range(2)}
    assert names == {"engine"}


def test_values_are_handed_out_as_they_come(worker):
    """A value is yielded before the next is computed; None is only a sign of progress."""
    go_on = threading.Event()

    def values():
        yield 1
        yield None
        assert go_on.wait(10)
        yield 2

    stream = worker.stream("counting", 10, values)
    assert next(stream) == 1
    go_on.set()
    assert list(stream) == [2]


def test_a_stream_that_nobody_wants_any_more_is_closed(worker):
    """The generator's clean-up has run before the next call."""
    closed = []

    def values():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    stream = worker.stream("counting", 10, values)
    next(stream)
    stream.close()
    assert closed == [True]
    assert worker.call("adding", 10, lambda: 2) == 2


def test_a_hang_is_an_error_and_the_thread_is_given_up():
    """The message names the call; later calls fail at once, and closing returns."""
    worker, free = DeadlineThread("engine"), threading.Event()
    with pytest.raises(EngineError, match=r"engine: loading made no progress for 0\.05 s"):
        worker.call("loading", 0.05, free.wait)
    with pytest.raises(EngineError, match="engine was abandoned: loading never ended; start the run again"):
        worker.call("adding", 10, lambda: 2)
    worker.close()
    free.set()


def test_signs_of_life_put_the_deadline_off(worker):
    """A call that exceeds the deadline in total but makes progress is no hang."""
    tick = threading.Event()

    def values():
        for _ in range(10):
            tick.wait(0.05)
            yield None
        yield 3

    assert list(worker.stream("counting", 0.4, values)) == [3]


def test_a_check_that_raises_ends_the_waiting():
    """The waiting ends long before the deadline, and the thread is abandoned only if the call does not end."""
    free = threading.Event()

    def check():
        free.set()
        raise EngineError("another process has failed")

    worker = DeadlineThread("engine", check)
    with pytest.raises(EngineError, match="another process has failed"):
        worker.call("loading", 600, free.wait)
    worker.check = lambda: None
    assert worker.call("adding", 10, lambda: 2) == 2
    worker.close()
