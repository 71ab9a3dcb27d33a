"""Sampling and scoring overlap."""

from __future__ import annotations

import threading

import pytest

from rewardkit.errors import WorkerError
from rewardkit.rollout_engine import Completion, Sampling
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.rollout.generate import Timings, collect
from rewardkit.types import ScoredRollout

PROMPTS = [Prompt((number,), f"p{number}", {}, "rows.jsonl:1") for number in range(4)]
SEEDS = [[10 * number, 10 * number + 1] for number in range(4)]


class Engine:
    """Samples two prompts at a time; a completion is its seed."""

    def __init__(self) -> None:
        self.second_batch = threading.Event()
        self.batches = 0

    def generate(self, requests, sampling):
        """Yield later prompts first, as an engine may."""
        for indices in ([2, 3], [0, 1]):
            self.batches += 1
            if self.batches == 2:
                self.second_batch.set()
            yield [(i, [Completion((seed,), (0.0,), "stop") for seed in requests[i].seeds]) for i in indices]


class Reward:
    """Scores the first batch only once the second is being sampled."""

    def __init__(self, engine: Engine, *, fails: bool = False) -> None:
        self.engine = engine
        self.fails = fails

    def score(self, rollouts, step):
        """Score a completion by its number."""
        if self.fails:
            raise WorkerError("no workers")
        assert self.engine.second_batch.wait(60)
        return [ScoredRollout(one, float(one.completion), {}, {}, {}, "id") for one in rollouts]


def gather(engine, reward, timings=None):
    """Collect the rollouts of one step."""
    decode = lambda tokens: str(tokens[0])  # noqa: E731
    return collect(engine, reward, decode, PROMPTS, SEEDS, Sampling(4), 0, first_group=5, timings=timings)


def test_a_batch_is_scored_while_the_next_is_sampled():
    """A batch is scored while the next is sampled, and the result is in the order of the prompts."""
    engine, timings = Engine(), Timings()
    samples = gather(engine, Reward(engine), timings)
    assert [sample.scored.reward for sample in samples] == [0, 1, 10, 11, 20, 21, 30, 31]
    assert [sample.group for sample in samples] == [5, 5, 6, 6, 7, 7, 8, 8]
    assert timings.scoring > 0
    assert timings.generating > 0


def test_an_error_of_the_reward_is_raised():
    """The error of the reward is raised by the step."""
    engine = Engine()
    with pytest.raises(WorkerError, match="no workers"):
        gather(engine, Reward(engine, fails=True))
