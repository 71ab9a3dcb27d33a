"""Deadlines of async rewards hold whatever a reward does to its event loop, and closing ends all that waits."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from rewardkit import CompositeReward, Registry, Rollout, Score, Unscored, reward
from rewardkit.composite import async_runner, event_loop
from rewardkit.config import parse_config
from rewardkit.errors import ConfigError, UsageError
from rewardkit.services import limits

LIMIT_S = 60
release = threading.Event()
"""Set at the end of each test, so that blocked threads end."""
built: list[str] = []
"""The rewards that were built."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short grace periods; every blocked thread is released at the end."""
    monkeypatch.setattr(async_runner, "GRACE_S", 0.2)
    monkeypatch.setattr(event_loop, "_CANCEL_S", 0.2)
    release.clear()
    built.clear()
    Service.calls.clear()
    Service.at_once[:] = [0, 0]
    limits._endpoints.clear()
    yield
    release.set()


async def act(text: str) -> float:
    """Do what a completion says."""
    if text == "blocks":
        release.wait(LIMIT_S)
    if text == "spins":
        while not release.is_set():
            pass
    if text == "awaits and blocks":
        await asyncio.sleep(0.01)
        release.wait(LIMIT_S)
    if text == "ignores its cancellation":
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
    if text == "catches everything":
        while not release.is_set():
            with contextlib.suppress(BaseException):
                await asyncio.Event().wait()
    if text == "blocks in a task":
        asyncio.get_running_loop().call_soon(release.wait, LIMIT_S)
        await asyncio.sleep(LIMIT_S)
    if text == "blocks a thread":
        await asyncio.to_thread(release.wait, LIMIT_S)
    if text == "waits":
        await asyncio.sleep(0.05)
    if text == "waits for ever":
        await asyncio.Event().wait()
    if text == "stops the loop":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
    if text == "cancels itself":
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)
    if text == "leaves a task":
        built.append(asyncio.ensure_future(asyncio.Event().wait()).get_name())
    return 1.0


@reward("acts", timeout_s=0.3)
async def acts(rollout) -> float:
    """Do what the completion says."""
    return await act(rollout.completion)


@reward("acts.patiently")
async def patient(rollout) -> float:
    """The same without a deadline."""
    return await act(rollout.completion)


@reward("acts.group", scope="group", timeout_s=0.3)
async def group(rollouts) -> list[float]:
    """The same for a group."""
    return [await act(rollout.completion) for rollout in rollouts]


@reward("client", executor="async", timeout_s=0.3)
class Client:
    """A reward whose client belongs to the loop in which it was first used."""

    def __init__(self) -> None:
        built.append("client")
        self.loop: asyncio.AbstractEventLoop | None = None
        self.asked = 0

    async def __call__(self, rollouts):
        """Do what the completions say."""
        self.asked += len(rollouts)
        self.loop = self.loop or asyncio.get_running_loop()
        assert self.loop is asyncio.get_running_loop()
        return [await act(rollout.completion) for rollout in rollouts]

    def costs(self) -> dict[str, float]:
        """Return the number of rollouts."""
        return {"asked": float(self.asked)}

    async def close(self) -> None:
        """Tell."""
        built.append("closed")


@reward("service", executor="async", timeout_s=LIMIT_S)
class Service:
    """A service that does what a completion says: waits, or fails as often as the digit in it says."""

    calls: ClassVar[list[tuple[str, ...]]] = []
    at_once: ClassVar[list[int]] = [0, 0]

    async def __call__(self, rollouts):
        """Score a batch."""
        texts = tuple(rollout.completion for rollout in rollouts)
        before = sum(texts == call for call in self.calls)
        self.calls.append(texts)
        self.at_once[0] += 1
        self.at_once[1] = max(self.at_once)
        for _ in range(5):
            await asyncio.sleep(0)
        self.at_once[0] -= 1
        if any(text == "raises" for text in texts):
            raise RuntimeError("mine")
        if any(text.startswith("fails") and before < int(text[-1]) for text in texts):
            error = ConnectionError("away")
            error.headers = {"Retry-After": "7"}  # type: ignore[attr-defined]
            raise error
        return [1.0 for _ in rollouts]


@pytest.fixture
def load() -> Iterator:
    """Build a reward of one component; closed at the end."""
    registry = Registry()
    for plugin in (acts, patient, group, Client, Service):
        registry.register(plugin)
    made: list[CompositeReward] = []

    def build(use: str, more: str = "") -> CompositeReward:
        config = parse_config(f"version: 1\ncomponents: {{a: {{use: {use}{more}}}}}\n", registry)
        made.append(CompositeReward(config, registry=registry))
        return made[-1]

    yield build
    release.set()
    for engine in made:
        engine.close()


def outcomes(engine: CompositeReward, *texts: str, group: str | None = None) -> list[str]:
    """Score completions; for each "scored", or the kind of why not."""
    scored = engine.score([Rollout("p", text, group=group or str(index)) for index, text in enumerate(texts)])
    found = [item.outcomes["a"] for item in scored]
    return ["scored" if isinstance(item, Score) else item.kind for item in found if not isinstance(item, str)]


STUBBORN = ["blocks", "spins", "awaits and blocks", "ignores its cancellation", "catches everything"]


@pytest.mark.parametrize(
    ("use", "text"),
    [
        *(("acts", text) for text in STUBBORN),
        ("client", "blocks"),
        ("client", "ignores its cancellation"),
        ("acts.group", "awaits and blocks"),
        ("acts.group", "catches everything"),
    ],
)
def test_a_stubborn_call_costs_only_itself(load, use: str, text: str) -> None:
    """A call that blocks its loop, or ignores its cancellation, is Unscored(timeout); calls beside and after it are scored."""
    engine = load(use)
    assert outcomes(engine, "good", "waits", text, "waits", "good") == [
        "scored",
        "scored",
        "timeout",
        "scored",
        "scored",
    ]
    assert outcomes(engine, "good", "waits") == ["scored", "scored"]


@pytest.mark.parametrize("text", ["blocks a thread", "waits for ever", "stops the loop", "leaves a task"])
def test_other_calls_go_on(load, text: str) -> None:
    """Whatever else a call does to its loop or its threads, calls beside and after it are scored."""
    engine = load("acts")
    found = outcomes(engine, "good", text, "waits")
    assert found == ["scored", "timeout" if "s for ever" in text or "thread" in text else "scored", "scored"]
    assert outcomes(engine, "waits") == ["scored"]


@pytest.mark.parametrize("use", ["acts", "acts.patiently"])
def test_a_call_that_cancels_itself(load, use: str) -> None:
    """A call that cancels its own task is the plugin's failure, also without a deadline."""
    assert outcomes(load(use), "good", "cancels itself") == ["scored", "plugin"]


def test_several_calls_block(load) -> None:
    """Calls that block their loop one after the other are told apart from those that only wait beside them."""
    assert outcomes(load("acts"), "blocks", "waits", "awaits and blocks", "blocks", "waits") == [
        "timeout",
        "scored",
        "timeout",
        "timeout",
        "scored",
    ]


def test_a_loop_blocked_by_no_call(load) -> None:
    """If it can't be told which call blocks the loop, those beyond their deadlines are timed out, and later ones are scored."""
    engine = load("acts")
    assert outcomes(engine, "blocks in a task") == ["timeout"]
    assert outcomes(engine, "good", "waits") == ["scored", "scored"]


def test_the_message_says_what_to_do(load) -> None:
    """The message tells a blocked loop and an ignored cancellation apart."""
    scored = load("acts").score([Rollout("p", "blocks"), Rollout("p", "ignores its cancellation")])
    blocks, ignores = (item.unscored for item in scored)
    assert isinstance(blocks, Unscored)
    assert isinstance(ignores, Unscored)
    assert "took longer than 0.3 s; it blocks its event loop" in blocks.message
    assert "asyncio.to_thread" in blocks.message
    assert ignores.message.endswith("took longer than 0.3 s and ignored its cancellation")


def test_a_reward_is_built_again_for_a_new_loop(load) -> None:
    """Clients belong to a loop: where the loop is replaced, so is the reward; it is closed on its own loop."""
    engine = load("client")
    assert outcomes(engine, "good", "blocks") == ["scored", "timeout"]
    assert outcomes(engine, "good") == ["scored"]
    engine.close()
    assert built == ["client", "client", "closed"]


def test_costs_survive_a_reward_that_is_built_again(load) -> None:
    """What was spent before a loop was replaced is counted with what is spent after it."""
    engine = load("client")
    outcomes(engine, "good", "good")
    outcomes(engine, "blocks")
    before = engine.costs
    outcomes(engine, "good")
    assert built == ["client", "client"]
    assert (before, engine.costs) == ({"a": {"asked": 3.0}}, {"a": {"asked": 4.0}})
    engine.close()
    assert engine.costs == {"a": {"asked": 4.0}}


def test_blocked_threads_are_limited(load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward whose calls never return is not called any more once enough threads are blocked."""
    monkeypatch.setattr(async_runner, "MAX_BLOCKED_THREADS", 2)
    engine = load("acts")
    assert outcomes(engine, "blocks", "blocks", "good", "blocks") == ["timeout", "timeout", "plugin", "plugin"]
    scored = engine.score([Rollout("p", "good")])
    assert scored[0].unscored is not None
    assert "is not called again: 2 of its calls block their threads" in scored[0].unscored.message


def test_cancelled_calls_do_not_take_slots(load) -> None:
    """Calls that ignore their cancellation do not keep others from starting."""
    engine = load("acts", ", limits: {concurrency: 2}")
    assert outcomes(engine, *["ignores its cancellation"] * 5, "good") == ["timeout"] * 5 + ["scored"]
    assert outcomes(engine, "waits") == ["scored"]


@pytest.mark.parametrize("text", [*STUBBORN, "blocks a thread", "waits for ever"])
def test_closing_ends_what_waits(load, text: str) -> None:
    """Closing a reward while it scores ends the call of ``score`` with an error, also where nothing else would end it."""
    engine = load("acts.patiently")
    raised: list[BaseException] = []

    def score() -> None:
        try:
            engine.score([Rollout("p", "good"), Rollout("p", text)])
        except UsageError as error:
            raised.append(error)

    thread = threading.Thread(target=score)
    thread.start()
    while len(waiting(engine)) != 1:
        time.sleep(0.01)
    engine.close()
    thread.join(LIMIT_S)
    assert [str(error) for error in raised] == ["the reward was closed while it scored"]


def waiting(engine: CompositeReward) -> set:
    """Return the calls of the only component that have no outcome yet."""
    (runner,) = engine._components._runners.values()
    return set(runner._open)  # type: ignore[attr-defined]


def test_threads_end_with_the_reward(load) -> None:
    """No thread is left after close, those that were given up included, once what blocks them returns."""
    before = set(threading.enumerate())
    engine = load("acts")
    outcomes(engine, "blocks", "spins", "ignores its cancellation", "waits for ever", "blocks a thread", "good")
    release.set()
    engine.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(LIMIT_S)
    assert set(threading.enumerate()) <= before


def test_a_call_that_fails_is_tried_again_after_the_pause_that_the_service_asks_for(
    load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as the limits say; Retry-After is honoured."""
    asked: list[float] = []
    monkeypatch.setattr(async_runner, "pause_s", lambda _limits, _tried, after_s: asked.append(after_s) or 0.0)
    engine = load("service", ", limits: {tries: 3}")
    assert outcomes(engine, "fails 2") == ["scored"]
    assert outcomes(engine, "fails 9") == ["infra"]
    assert asked == [7.0] * 4


def test_batches_are_as_large_as_the_limits_say(load) -> None:
    """Each call has so many rollouts; the results keep their order."""
    assert outcomes(load("service", ", limits: {batch: 2}"), "a", "b", "c") == ["scored"] * 3
    assert Service.calls == [("a", "b"), ("c",)]


def test_an_error_in_a_batch_costs_only_its_culprit_the_score(load) -> None:
    """The others are called again alone."""
    assert outcomes(load("service", ", limits: {batch: 3}"), "a", "raises", "c") == ["scored", "plugin", "scored"]


def test_components_of_one_endpoint_share_its_limit() -> None:
    """Together they never have more calls under way."""
    registry = Registry()
    registry.register(Service)
    part = "{use: service, limits: {endpoint: 'http://a', concurrency: 3}}"
    config = parse_config(f"version: 1\ncomponents: {{a: {part}, b: {part}}}\n", registry)
    with CompositeReward(config) as engine:
        assert outcomes(engine, *map(str, range(12))) == ["scored"] * 12
    assert Service.at_once[1] == 3


def test_an_endpoint_that_is_down_is_not_called(load) -> None:
    """After so many failures in a row the others fail at once."""
    engine = load("service", ", limits: {concurrency: 1, down_after: 2}")
    assert outcomes(engine, *["fails 9"] * 6) == ["infra"] * 6
    assert len(Service.calls) == 2
    assert "is down" in engine.score(Rollout("p", "a")).unscored.message


def test_calls_that_are_not_made_do_not_keep_an_endpoint_down(load, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after its time, however many calls were refused meanwhile; a refused call is not tried again."""
    monkeypatch.setattr(async_runner, "pause_s", lambda *_: 0.0)
    engine = load("service", ", limits: {endpoint: 'http://b', concurrency: 1, down_after: 1, tries: 2}")
    assert outcomes(engine, "fails 9") == ["infra"]
    until = limits._endpoints["http://b"].down_until
    assert outcomes(engine, *"abc") == ["infra"] * 3
    assert limits._endpoints["http://b"].down_until == until
    monkeypatch.setattr(limits._endpoints["http://b"], "down_until", 0.0)
    assert outcomes(engine, "a") == ["scored"]
    assert len(Service.calls) == 3


def test_limits_without_effect_are_refused(load) -> None:
    """A function of one rollout takes no batch."""
    with pytest.raises(ConfigError, match="takes one rollout per call, so 'batch' has no effect"):
        load("acts", ", limits: {batch: 2}")
