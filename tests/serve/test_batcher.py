"""Rollouts of many requests, scored together."""

import asyncio
import threading

import pytest

from rewardkit import Registry, Rollout, Unscored, reward
from rewardkit.composite import CompositeReward
from rewardkit.config.reading import parse_config
from rewardkit.serve.batcher import Batcher, BusyError

INLINE = "version: 1\ncomponents: {c: {use: toy.seen}}\n"


def rollout(text="1", **more):
    """A rollout."""
    return Rollout("q", text, **more)


class Toy:
    """A composite of one reward that notes its batches and can be held up."""

    def __init__(self, text: str = INLINE, **options) -> None:
        self.batches: list[int] = []
        self.entered, self.free = threading.Event(), threading.Event()
        self.free.set()

        @reward("toy.seen", **options)
        def seen(rollouts):
            self.batches.append(len(rollouts))
            self.entered.set()
            assert self.free.wait(30)
            return [float(item.completion_text) for item in rollouts]

        registry = Registry()
        registry.register(seen)
        self.reward = CompositeReward(parse_config(text, registry), registry=registry)

    def run(self, scenario, limit: int = 100):
        """Run a scenario, a coroutine function of a batcher."""

        async def main():
            batcher = Batcher(self.reward, limit)
            batcher.start()
            try:
                return await asyncio.wait_for(scenario(batcher), 60)
            finally:
                self.free.set()
                await batcher.close()
                self.reward.close()

        return asyncio.run(main())

    async def hold(self, batcher: Batcher):
        """Start a request that is being scored until ``free`` is set."""
        self.free.clear()
        first = asyncio.ensure_future(batcher.score([rollout("0")], 0, list))
        await asyncio.to_thread(self.entered.wait, 30)
        return first


def values(scored):
    """The rewards of scored rollouts."""
    return [item.reward for item in scored]


def test_waiting_requests_are_one_batch() -> None:
    """What waits while a batch is scored becomes the next batch, and everybody gets their own rollouts back."""
    toy = Toy()

    async def scenario(batcher):
        first = await toy.hold(batcher)
        others = [
            asyncio.ensure_future(batcher.score([rollout(str(n)), rollout(str(-n))], 0, values)) for n in range(1, 5)
        ]
        await asyncio.sleep(0)
        toy.free.set()
        await first
        return await asyncio.gather(*others)

    assert toy.run(scenario) == [[1, -1], [2, -2], [3, -3], [4, -4]]
    assert toy.batches == [1, 8]


def test_steps_are_not_mixed() -> None:
    """Requests for different training steps are scored with their own weights."""
    toy = Toy("version: 1\ncomponents: {c: {use: toy.seen, weight: {steps: [[0, 1], [5, 2]]}}}\n")

    async def scenario(batcher):
        first = await toy.hold(batcher)
        others = [asyncio.ensure_future(batcher.score([rollout("1")], step, values)) for step in (0, 5)]
        await asyncio.sleep(0)
        toy.free.set()
        await first
        return await asyncio.gather(*others)

    assert toy.run(scenario) == [[1.0], [2.0]]


def test_groups_are_never_merged() -> None:
    """Where rollouts of a group are compared, a request is a batch of its own."""
    toy = Toy("version: 1\ncomponents: {c: {use: toy.seen, scale: zscore}}\n")

    async def scenario(batcher):
        pairs = [[rollout("1", group="g"), rollout("2", group="g")], [rollout("5", group="g"), rollout("9", group="g")]]
        return await asyncio.gather(*(batcher.score(pair, 0, values) for pair in pairs))

    found = toy.run(scenario)
    assert [sum(pair) for pair in found] == pytest.approx([0, 0])
    assert toy.batches == [2, 2]


def test_too_many_rollouts_are_refused_at_once() -> None:
    """A request beyond the limit is told to come back, and is not queued."""
    toy = Toy()

    async def scenario(batcher):
        first = await toy.hold(batcher)
        with pytest.raises(BusyError) as caught:
            await batcher.score([rollout(), rollout()], 0, list)
        toy.free.set()
        await first
        assert caught.value.retry_after_s >= 1
        assert batcher.in_flight == 0
        return values(await batcher.score([rollout(), rollout()], 0, list))

    assert toy.run(scenario, limit=2) == [1, 1]


def test_a_failing_answer_fails_its_own_request() -> None:
    """What one request's answer raises does not reach the others of its batch."""
    toy = Toy()

    def broken(_scored):
        raise ValueError("mine")

    async def scenario(batcher):
        first = await toy.hold(batcher)
        bad = asyncio.ensure_future(batcher.score([rollout("1")], 0, broken))
        good = asyncio.ensure_future(batcher.score([rollout("2")], 0, values))
        await asyncio.sleep(0)
        toy.free.set()
        await first
        return await asyncio.gather(bad, good, return_exceptions=True)

    bad, good = toy.run(scenario)
    assert isinstance(bad, ValueError)
    assert good == [2.0]


def test_a_cancelled_request_leaves_the_others() -> None:
    """A client that hangs up does not stop the batch that its rollouts are in."""
    toy = Toy()

    async def scenario(batcher):
        first = await toy.hold(batcher)
        gone = asyncio.ensure_future(batcher.score([rollout("1")], 0, values))
        stays = asyncio.ensure_future(batcher.score([rollout("2")], 0, values))
        await asyncio.sleep(0)
        gone.cancel()
        toy.free.set()
        await first
        assert await stays == [2.0]
        return batcher.in_flight

    assert toy.run(scenario) == 0


def test_only_what_may_mend_is_tried_again() -> None:
    """Rollouts that a service or a time-out left unscored are scored again; others, and those that have a score, are not."""
    seen: list[list[str]] = []

    @reward("toy.kinds")
    def kinds(rollouts):
        seen.append([item.completion_text for item in rollouts])
        return [
            Unscored(item.completion_text, "no") if len(seen) < 3 and item.completion_text != "ok" else 1.0
            for item in rollouts
        ]

    registry = Registry()
    registry.register(kinds)
    composite = CompositeReward(
        parse_config("version: 1\ncomponents: {c: {use: toy.kinds}}\n", registry), registry=registry
    )

    async def main():
        batcher = Batcher(composite, 10)
        batcher.start()
        rows = [rollout("ok"), rollout("infra"), rollout("timeout"), rollout("reference")]
        found = await batcher.score_until(rows, 60, values)
        await batcher.close()
        return found

    assert asyncio.run(main()) == [1, 1, 1, None]
    assert seen == [["ok", "infra", "timeout", "reference"], ["infra", "timeout"], ["infra", "timeout"]]
