"""Limits of calls: turns, tries and pauses."""

import asyncio
import datetime as dt
import email.utils
import threading

import pytest

from rewardkit import CallLimits
from rewardkit.services import limits
from rewardkit.services.limits import Endpoint, GaveUpError, Limiter, TryAgainError, call, endpoint_of, pause_s


def test_callers_with_different_limits_keep_their_own() -> None:
    """A call starts if fewer than its caller's limit are under way, in the order in which they came."""

    async def run() -> list[int]:
        limiter, order = Limiter(), []
        await limiter.acquire(1)

        async def take(most: int) -> None:
            async with limiter.slot(most):
                order.append(most)

        tasks = [asyncio.create_task(take(most)) for most in (1, 2, 1)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == []
        limiter.release()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == [1, 2, 1]


def test_a_cancelled_call_gives_its_turn_to_the_next() -> None:
    """Nothing is lost, whether the turn had been given or not."""

    async def run() -> None:
        limiter = Limiter()
        await limiter.acquire(1)
        given, waiting, last = [asyncio.create_task(limiter.acquire(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting.cancel()
        limiter.release()
        given.cancel()
        await asyncio.wait_for(last, 60)

    asyncio.run(run())


def test_a_blocked_loop_holds_no_turns() -> None:
    """The turns that it was given go to other loops."""
    limiter, blocked = Limiter(), asyncio.new_event_loop()
    blocked.run_until_complete(limiter.acquire(1))
    task = blocked.create_task(limiter.acquire(1))
    blocked.run_until_complete(asyncio.sleep(0))
    limiter.release()
    limiter.forget(blocked)
    thread = threading.Thread(target=lambda: asyncio.run(limiter.acquire(1)), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(asyncio.CancelledError):
        blocked.run_until_complete(task)
    blocked.close()


def test_a_call_gives_up_after_its_tries() -> None:
    """The message has the last problem and the number of attempts."""
    made = []

    async def attempt() -> None:
        made.append(1)
        raise TryAgainError("busy")

    with pytest.raises(GaveUpError, match="busy, after 3 attempts"):
        asyncio.run(call(CallLimits(tries=3, pause=0.0), Endpoint(), attempt))
    assert len(made) == 3


def test_pauses_grow_and_are_never_shorter_than_asked_for() -> None:
    """They double, within a spread, up to a minute."""
    growing = CallLimits(pause=1.0)
    assert 0.75 <= pause_s(growing, 1) <= 1.25
    assert 3.0 <= pause_s(growing, 3) <= 5.0
    assert pause_s(growing, 1, 9.0) == 9.0
    assert pause_s(growing, 20) == limits.MAX_PAUSE_S


@pytest.mark.parametrize(("text", "low", "high"), [("3", 3, 3), ("nan", 0, 60), ("soon", 0, 0), ("999", 60, 60)])
def test_retry_after_is_read(text: str, low: float, high: float) -> None:
    """Seconds, at most a minute."""
    assert low <= limits.retry_after_s({"retry-after": text}) <= high


def test_retry_after_may_be_a_date() -> None:
    """The rest of the time until then."""
    then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    assert 20 < limits.retry_after_s({"retry-after": email.utils.format_datetime(then, usegmt=True)}) <= 30


def test_one_endpoint_has_one_state() -> None:
    """Addresses that differ in the last slash are one; components without an address share nothing."""
    assert endpoint_of(CallLimits(endpoint="http://x/")) is endpoint_of(CallLimits(endpoint="http://x"))
    assert endpoint_of(CallLimits()) is not endpoint_of(CallLimits())
