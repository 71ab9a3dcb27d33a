"""The ways to call a reward: with rollouts or rows, from threads, coroutines, forked processes and after pickling."""

import asyncio
import copy
import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rewardkit
from rewardkit import CompositeReward, Registry, Rollout, ScoredRollout, load_reward, reward
from rewardkit.composite import ScoreCache
from rewardkit.errors import ConfigError, DataError, UsageError
from rewardkit.scoring.engines.chunk_scorer import ChunkScorer, Task
from rewardkit.scoring.formats.readers import Chunk

LIMIT_S = 60
PLUGIN = '''
import asyncio, time
from rewardkit import reward

@reward("length")
def length(rollout) -> float:
    """The length of the completion."""
    return len(rollout.completion_text)

@reward("waits", timeout_s=30)
async def waits(rollout, *, seconds: float = 0.05) -> float:
    """Wait."""
    await asyncio.sleep(seconds)
    return 1.0

@reward("elsewhere", executor="process", deterministic=True)
def elsewhere(rollout) -> float:
    """In a worker process."""
    return len(rollout.completion_text)

@reward("on_device", executor="device")
def on_device(rollouts):
    """On the device."""
    return [1.0] * len(rollouts)
'''
REWARD: dict[str, Any] = {
    "version": 1,
    "components": {
        "length": {"use": "length", "weight": 2},
        "waits": {"use": "waits", "when": "length > 0"},
        "elsewhere": {"use": "elsewhere"},
        "on_device": {"use": "on_device"},
    },
}
EXPECTED = [5.0, 8.0, 11.0]
"""2 × length + 1 + length + 1."""
BATCH = [Rollout("p", text) for text in ("a", "bb", "ccc")]


@pytest.fixture
def engine(install_plugin) -> Iterator[CompositeReward]:
    """A reward on every executor."""
    install_plugin(PLUGIN)
    with load_reward(REWARD, workers=1) as made:
        yield made


def rewards(scored: list[ScoredRollout]) -> list[float | None]:
    """Their rewards."""
    return [item.reward for item in scored]


def test_coroutines_score_natively(engine: CompositeReward) -> None:
    """``ascore`` gives what ``score`` gives, on all executors, many at once."""

    async def main() -> list[list[ScoredRollout]]:
        return await asyncio.gather(*(engine.ascore(BATCH) for _ in range(20)))

    assert [rewards(scored) for scored in asyncio.run(main())] == [EXPECTED] * 20
    assert rewards(engine.score(BATCH)) == EXPECTED


def test_waiting_holds_no_thread(install_plugin) -> None:
    """More coroutines than there are threads wait for async rewards at the same time."""
    install_plugin(PLUGIN)
    most = 0

    async def watch(done: asyncio.Event) -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, sum("asyncio_" in thread.name for thread in threading.enumerate()))
            await asyncio.sleep(0.01)

    async def main() -> list[ScoredRollout]:
        done = asyncio.Event()
        watching = asyncio.create_task(watch(done))
        scored = await asyncio.gather(*(engine.ascore(BATCH[0]) for _ in range(50)))
        done.set()
        await watching
        return scored

    with load_reward({"version": 1, "components": {"a": {"use": "waits", "with": {"seconds": 0.3}}}}) as engine:
        scored = asyncio.run(main())
    assert rewards(scored) == [1.0] * 50
    assert most < 50


def test_score_refuses_to_block_a_loop(engine: CompositeReward) -> None:
    """``score`` from a coroutine is an error that names ``ascore``; in a thread of the same program it works."""

    async def main() -> list[ScoredRollout]:
        with pytest.raises(UsageError, match=r"await reward\.ascore"):
            engine.score(BATCH)
        return await asyncio.to_thread(engine.score, BATCH)

    assert rewards(asyncio.run(main())) == EXPECTED


def test_a_cancelled_call_leaves_the_reward_usable(engine: CompositeReward) -> None:
    """Cancelling ``ascore`` ends the wait, and later calls score."""

    async def main() -> list[ScoredRollout]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await engine.ascore(BATCH)
        return await engine.ascore(BATCH)

    assert rewards(asyncio.run(main())) == EXPECTED


def test_one_rollout_or_row(engine: CompositeReward) -> None:
    """One rollout gives one scored rollout; a dict is a row; a list may hold both."""
    row = {"prompt": "p", "completion": "a", "answer": "x"}
    one = engine.score(BATCH[0])
    assert isinstance(one, ScoredRollout)
    assert one.reward == 5.0
    assert engine.score(row).rollout == Rollout("p", "a", {"answer": "x"})
    assert rewards(engine.score([row, BATCH[1]])) == [5.0, 8.0]
    assert asyncio.run(engine.ascore(row)).reward == 5.0
    assert rewards(engine.score(tuple(BATCH))) == EXPECTED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"prompt": "p"}], "row 0: there is no column 'completion'; columns are prompt"),
        (
            [BATCH[0], {"prompt": 3, "completion": "c"}],
            "row 1: 'prompt' must be text or a list of chat messages, not a int",
        ),
        ([{"prompt": "p", "completion": "c", "num_tokens": 1.5}], "'num_tokens' must be a whole number, not 1.5"),
        ([{"prompt": "p", "completion": "c", "group": True}], "'group' must be text or a whole number, not True"),
        (["text"], "row 0: a row must be a mapping, not a str"),
        ("text", "not a str"),
        (3, "not a int"),
    ],
)
def test_what_is_no_row(engine: CompositeReward, given: Any, message: str) -> None:
    """What is no rollout and no row is an error that says which and why."""
    with pytest.raises(UsageError, match=message.replace("(", "\\(")):
        engine.score(given)


def test_rows_and_rollouts_convert_both_ways() -> None:
    """``to_row`` gives back the row, as plain data; missing values of the standard columns are left out."""
    row = {
        "prompt": [{"role": "user", "content": "p"}],
        "completion": "c",
        "tests": [{"in": [1]}],
        "group": 3,
        "num_tokens": 4.0,
        "finish_reason": None,
    }
    rollout = Rollout.from_row(row)
    assert (rollout.group, rollout.num_tokens, rollout.finish_reason) == (3, 4, None)
    back = rollout.to_row()
    assert back == {key: value for key, value in row.items() if key != "finish_reason"}
    back["tests"][0]["in"].append(2)
    assert rollout.fields["tests"] == [{"in": [1]}]


def test_dicts_have_the_columns_of_files(engine: CompositeReward) -> None:
    """``to_dict`` gives what ``rewardkit score`` writes for the same row."""
    lines = [
        b'{"prompt": "p", "completion": "a", "group": "g", "x": [1]}',
        b'{"prompt": "p", "completion": "", "group": "g"}',
    ]
    chunk = Chunk(["f"] * 2, [1, 2], lines, range(2), 2)
    written = [json.loads(line) for line in ChunkScorer(engine, Task())(chunk).payload]
    scored = engine.score([json.loads(line) for line in lines])
    assert [item.to_dict() for item in scored] == written
    assert json.loads(json.dumps(scored[0].to_dict())) == written[0]


@pytest.mark.parametrize("how", ["mapping", "text", "path", "str"])
def test_sources(how: str, install_plugin, tmp_path: Path) -> None:
    """A mapping, a text, and a path in either form make the same reward."""
    install_plugin(PLUGIN)
    path = tmp_path / "reward.yaml"
    path.write_text(json.dumps(REWARD, indent=1))
    source = {"mapping": REWARD, "text": path.read_text(), "path": path, "str": str(path)}[how]
    with load_reward(source, workers=1) as made, load_reward(path, workers=1) as other:
        assert made.reward_id == other.reward_id
        assert rewards(made.score(BATCH)) == EXPECTED


def test_mistakes_in_a_mapping(install_plugin) -> None:
    """A mistake in a mapping is told as in a file; a value that no file can hold is refused."""
    install_plugin(PLUGIN)
    wrong = copy.deepcopy(REWARD)
    wrong["components"]["length"]["use"] = "lenght"
    with pytest.raises(ConfigError, match="lenght"):
        load_reward(wrong)
    wrong["components"]["length"]["use"] = object()
    with pytest.raises(UsageError, match="holds a object"):
        load_reward(wrong)


def test_pickling_builds_it_again(install_plugin, tmp_path: Path) -> None:
    """A pickled reward is built again from its source, with step, workers and the cache's folder."""
    install_plugin(PLUGIN)
    path = tmp_path / "reward.yaml"
    path.write_text(json.dumps(REWARD))
    cache = ScoreCache(tmp_path / "cache")
    with load_reward(path, workers=1, cache=cache) as made:
        made.step = 7
        data = pickle.dumps(made)
    path.unlink()
    with pickle.loads(data) as again:  # noqa: S301
        assert (again.step, again.reward_id) == (7, made.reward_id)
        assert rewards(again.score(BATCH)) == EXPECTED
        assert rewards(pickle.loads(pickle.dumps(again)).score(BATCH)) == EXPECTED  # noqa: S301
    cache.close()


def test_a_reward_of_this_program_cannot_be_pickled() -> None:
    """A reward whose plugins are registered by the program says that it can't be pickled."""

    @reward("own")
    def own(rollout) -> float:
        """Nothing."""
        return 1.0

    registry = Registry()
    registry.register(own)
    with (
        load_reward("version: 1\ncomponents: {a: {use: own}}\n", registry=registry) as made,
        pytest.raises(UsageError, match="can be pickled"),
    ):
        pickle.dumps(made)


def test_a_forked_process_scores(engine: CompositeReward) -> None:
    """After a fork both processes score on every executor, and closing in the child leaves the parent's workers alone."""
    assert rewards(engine.score(BATCH)) == EXPECTED
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(rewards(engine.score(BATCH)) != EXPECTED)
            engine.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rewards(engine.score(BATCH)) == EXPECTED


def test_closing_in_a_child_that_did_not_score(engine: CompositeReward) -> None:
    """A forked process that only closes the reward does not close that of its parent."""
    child = os.fork()
    if child == 0:
        engine.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rewards(engine.score(BATCH)) == EXPECTED


def test_errors_come_from_ascore_too(install_plugin) -> None:
    """What ``score`` raises, ``ascore`` raises."""
    install_plugin(PLUGIN)
    routed = {
        "version": 1,
        "composites": {"a": {"components": {"length": {"use": "length"}}}},
        "routes": [{"match": {"source": "x"}, "composite": "a"}],
    }
    with load_reward(routed) as made, pytest.raises(DataError, match="no route"):
        asyncio.run(made.ascore(BATCH))
    with pytest.raises(UsageError, match="has been closed"):
        asyncio.run(made.ascore(BATCH))


def test_completion_shows_the_public_names() -> None:
    """``dir(rewardkit)`` is what the package offers."""
    assert dir(rewardkit) == sorted(rewardkit.__all__)
