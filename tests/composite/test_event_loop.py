"""An event loop in a thread runs coroutines until it is closed; a race of closing with anything loses nothing."""

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from rewardkit.composite.event_loop import DaemonExecutor, EventLoop

LIMIT_S = 60


async def one() -> int:
    """Return 1, a little later."""
    await asyncio.sleep(0)
    return 1


def test_coroutines_run_until_it_is_closed() -> None:
    """A coroutine's result comes back; after close it is refused, and not reported as never awaited."""
    loop = EventLoop()
    assert loop.submit(one()).result(LIMIT_S) == 1
    loop.close(LIMIT_S)
    loop.close(LIMIT_S)
    assert not loop.is_alive
    assert not loop.answers(0)
    with pytest.raises(RuntimeError, match="has been closed"):
        loop.submit(one())
    with pytest.raises(RuntimeError, match="has been closed"):
        loop.call(int)


@pytest.mark.filterwarnings("error")
def test_closing_races_with_submitting() -> None:
    """Whatever is submitted while the loop is closed ends: with its result, cancelled or refused. None is forgotten."""
    for _ in range(100):
        loop = EventLoop()
        ends: list[str] = []
        begin = threading.Barrier(3)

        def submit(loop: EventLoop = loop, ends: list[str] = ends, begin: threading.Barrier = begin) -> None:
            begin.wait(LIMIT_S)
            for _ in range(20):
                try:
                    ends.append(str(loop.submit(one()).result(LIMIT_S)))
                except (RuntimeError, CancelledError) as error:
                    ends.append(type(error).__name__)

        threads = [threading.Thread(target=submit) for _ in range(2)]
        for thread in threads:
            thread.start()
        begin.wait(LIMIT_S)
        loop.close(LIMIT_S)
        for thread in threads:
            thread.join(LIMIT_S)
        assert len(ends) == 40
        assert set(ends) <= {"1", "RuntimeError", "CancelledError"}
        assert not loop.is_alive


def test_threads_work_side_by_side() -> None:
    """As many calls run at a time as there are threads; results and exceptions reach the caller."""
    threads = DaemonExecutor(3, "test")
    meeting = threading.Barrier(3)
    assert [future.result(LIMIT_S) for future in [threads.submit(meeting.wait, LIMIT_S) for _ in range(3)]] != []
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(LIMIT_S)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="have been ended"):
        threads.submit(int)


def test_an_idle_thread_is_used_again() -> None:
    """A new thread is started only where none is idle."""
    threads = DaemonExecutor(8, "test")
    idents = set()
    for _ in range(20):
        idents.add(threads.submit(threading.get_ident).result(LIMIT_S))
    assert len(idents) <= 2
    threads.shutdown()


def test_ending_does_not_wait_for_ever() -> None:
    """A call that never returns is left behind; calls that have not begun are cancelled."""
    release = threading.Event()
    threads = DaemonExecutor(1, "test")
    began = threading.Event()
    running = threads.submit(lambda: began.set() or release.wait(LIMIT_S))
    waiting = threads.submit(int)
    assert began.wait(LIMIT_S)
    threads.end(0.01)
    assert waiting.cancelled()
    assert not running.done()
    release.set()
    assert running.result(LIMIT_S)
