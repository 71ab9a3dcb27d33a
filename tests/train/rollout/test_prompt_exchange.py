"""Completions are scored for the next prompt of the batch."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")

from rewardkit import Registry, Rollout, reward
from rewardkit.composite import CompositeReward
from rewardkit.config import parse_config
from rewardkit.rollout_engine import Completion
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.rollout.generate import Sample
from rewardkit.train.rollout.prompt_exchange import MOST_PAIRS, can_exchange, exchanged_rewards


@reward("exact")
def exact(rollout: Rollout) -> float:
    """Compare with the answer."""
    return float(rollout.completion == rollout.fields["answer"])


@reward("best", scope="group")
def best(rollouts: list[Rollout]) -> list[float]:
    """Compare the completions of a prompt."""
    return [0.0 for _ in rollouts]


def composite(use="exact", more=""):
    """Return a reward of one component."""
    registry = Registry()
    registry.register(exact)
    registry.register(best)
    return CompositeReward(
        parse_config(f"version: 1\ncomponents: {{main: {{use: {use}}}}}\n{more}", registry), registry=registry
    )


def samples(engine, answers, completions, per_prompt=2):
    """Return scored completions, the first of each prompt as given and the others empty."""
    found = []
    for group, (answer, text) in enumerate(zip(answers, completions, strict=True)):
        prompt = Prompt((1,), f"question {group}", {"answer": answer}, f"rows.jsonl:{group}")
        for place in range(per_prompt):
            rollout = Rollout(prompt.text, text if place == 0 else "", prompt.fields, group)
            (scored,) = engine.score([rollout])
            found.append(Sample(prompt, group, Completion((1,), (), "stop"), scored))
    return found


def test_the_first_completion_of_each_prompt_is_scored_for_the_next():
    """The last prompt's completion is scored for the first prompt."""
    with composite() as engine:
        batch = samples(engine, answers=["a", "b", "c"], completions=["a", "c", "a"])
        assert exchanged_rewards(batch, engine, 0) == [(1.0, 0.0), (0.0, 1.0), (0.0, 1.0)]


def test_equal_prompts_are_no_pair():
    """A completion for the same prompt and the same columns would get the same reward by nature."""
    with composite() as engine:
        batch = samples(engine, answers=["a", "a"], completions=["a", "a"])
        same = [Sample(batch[0].prompt, item.group, item.completion, item.scored) for item in batch]
        assert exchanged_rewards(same, engine, 0) == []


def test_what_cannot_be_scored_for_both_is_left_out():
    """A row without the column that the reward reads is unscored."""
    with composite() as engine:
        batch = samples(engine, answers=["a", "b"], completions=["a", "b"])
        lacking = Prompt((1,), "question 2", {}, "rows.jsonl:2")
        (scored,) = engine.score([Rollout(lacking.text, "a", lacking.fields, 2)])
        batch.append(Sample(lacking, 2, Completion((1,), (), "stop"), scored))
        assert exchanged_rewards(batch, engine, 0) == [(1.0, 0.0)]


def test_a_large_batch_is_scored_in_part():
    """The cost stays small whatever the number of prompts is."""
    with composite() as engine:
        many = [str(number) for number in range(MOST_PAIRS + 5)]
        assert len(exchanged_rewards(samples(engine, many, many, per_prompt=1), engine, 0)) == MOST_PAIRS


@pytest.mark.parametrize(
    ("use", "more", "can"), [("exact", "", True), ("best", "", False), ("exact", "unscored: {policy: fail}", False)]
)
def test_what_rewards_are_exchanged(use, more, can):
    """Not those that compare a group's completions, nor those whose unscored completions end the run."""
    with composite(use, more) as engine:
        assert can_exchange(engine.config) is can
