"""A composite reward in slime, against its documented contract: arguments, samples, ``async_rm`` and ``batched_async_rm``."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from rewardkit.errors import UsageError
from rewardkit.integrations.common import NotScoredError
from rewardkit.integrations.slime import PATH, post_process, reward

from .conftest import ANSWERS, BROKEN, COMPLETIONS, GROUPS, SCORED, TOKENS, advantages


class Status(Enum):
    """slime's Sample.Status."""

    COMPLETED = "completed"
    TRUNCATED = "truncated"


@dataclass
class Sample:
    """The members of slime's Sample that a reward function reads and writes."""

    response: str
    label: Any
    prompt: str = "2+3?"
    group_index: int = 0
    response_length: int = 12
    status: Status = Status.COMPLETED
    metadata: dict[str, Any] = field(default_factory=dict)
    reward: float | None = None
    remove_sample: bool = False

    def get_reward_value(self, _: Any) -> float:
        """As slime's, without a reward key."""
        assert self.reward is not None
        return self.reward


def arguments(**others: Any) -> SimpleNamespace:
    """Slime's arguments."""
    defaults = {"advantage_estimator": "grpo", "rewards_normalization": True, "grpo_std_normalization": True}
    return SimpleNamespace(**{**defaults, "custom_reward_post_process_path": PATH, **others})


@pytest.fixture
def use(file, monkeypatch):
    """Return a function that sets the reward file."""
    return lambda *text: monkeypatch.setenv("REWARDKIT_REWARD", file(*text))


def group() -> list[Sample]:
    """A group of four of which the first can't be scored."""
    return [Sample(text, answer) for text, answer in zip(COMPLETIONS, ANSWERS, strict=True)]


def test_a_failure_is_removed_and_out_of_the_baseline(use, truth) -> None:
    """With 25 % failures, the siblings get the advantages of a group without the failed one, which is not trained on."""
    use()
    samples = group()
    for sample, value in zip(samples, asyncio.run(reward(arguments(), samples)), strict=True):
        sample.reward = value
    other = Sample("", "", group_index=1, reward=9.0)
    raw, trained = post_process(arguments(), [*samples, other])
    assert raw == [pytest.approx(sum(SCORED) / 3), *SCORED, 9.0]
    assert [sample.remove_sample for sample in samples] == [True, False, False, False]
    assert trained[4] == 0.0
    truth(
        "slime, group reward function",
        None,
        "`remove_sample`, advantage 0, out of the baseline",
        trained[1:4],
        wanted=advantages(SCORED, 1e-6),
    )


def test_without_scaling_the_mean_of_the_siblings_is_enough(use) -> None:
    """Where slime only subtracts the mean, its own post-processing gives the siblings' advantages."""
    use()
    args = arguments(grpo_std_normalization=False, custom_reward_post_process_path=None)
    found = asyncio.run(reward(args, group()))
    mean = sum(found) / 4
    assert [value - mean for value in found[1:]] == pytest.approx([value - sum(SCORED) / 3 for value in SCORED])


def test_a_failure_raises_where_the_baseline_would_count_it(use) -> None:
    """Slime's own standard deviation would count the stand-in."""
    use()
    with pytest.raises(NotScoredError):
        asyncio.run(reward(arguments(custom_reward_post_process_path=None), group()))
    with pytest.raises(NotScoredError):
        asyncio.run(reward(arguments(), [Sample("5", BROKEN), Sample("6", BROKEN)]))


def test_a_single_failure_raises(use, truth) -> None:
    """Without --group-rm there is no sibling to stand in."""
    use()
    assert asyncio.run(reward(arguments(), Sample("\\boxed{5}", "5"))) == 1.0
    with pytest.raises(NotScoredError):
        asyncio.run(reward(arguments(), Sample("5", BROKEN)))
    truth("slime, reward function", None, "raises `NotScoredError`")


def test_tokens_are_told(use) -> None:
    """Samples know their number of tokens, so rewards that count them work."""
    use(TOKENS)
    assert asyncio.run(reward(arguments(), Sample("\\boxed{5}", "5"))) == 0.5


def test_groups_need_group_rm(use) -> None:
    """A reward that compares a group is refused where slime hands over one sample."""
    use(GROUPS)
    with pytest.raises(UsageError, match="slime without --group-rm scores one rollout at a time"):
        asyncio.run(reward(arguments(), Sample("5", "5")))
