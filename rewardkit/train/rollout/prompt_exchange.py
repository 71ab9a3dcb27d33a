"""Scores completions for other prompts than their own, to see whether the reward depends on the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rewardkit.composite import CompositeReward
from rewardkit.config import RewardConfig
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import raise_on_all_ranks
from rewardkit.train.rollout.generate import Sample

MOST_PAIRS = 32
"""The most completions of a step that are scored once more."""


def can_exchange(reward: RewardConfig) -> bool:
    """Return whether completions can be scored for other prompts at little cost.

    They can't if the reward compares the completions of a group, which all belong to one prompt, if it calls a service, which may cost
    money, or if a completion that can't be scored ends the run.
    """
    calls_service = any(item.limits is not None for part in reward.composites.values() for item in part.components)
    return not (reward.needs_groups or calls_service or reward.policy == "fail")


def exchanged_rewards(samples: Sequence[Sample], reward: CompositeReward, step: int) -> list[tuple[float, float]]:
    """Score the first completion of each prompt as if it had been written for the next prompt of the batch.

    Args:
        samples: The scored completions of a step.
        reward: The reward.
        step: The training step, for weight schedules.

    Returns:
        For at most ``MOST_PAIRS`` completions, the reward for its own prompt and that for the other one. Completions that could not be
        scored for both are left out, and so are those whose prompt and columns are equal to the next one's.
    """
    first = list({sample.group: sample for sample in reversed(samples)}.values())[::-1]
    pairs = [
        (one, replace(one.scored.rollout, prompt=other.scored.rollout.prompt, fields=other.scored.rollout.fields))
        for one, other in zip(first, (*first[1:], *first[:1]), strict=True)
        if one.scored.reward is not None
        and (one.prompt.text, one.prompt.fields) != (other.prompt.text, other.prompt.fields)
    ][:MOST_PAIRS]
    own = collectives.local_shard(pairs)
    with raise_on_all_ranks():
        scored = reward.score([rollout for _, rollout in own], step=step) if own else []
    found = collectives.all_gather(
        [(one.scored.reward, other.reward) for (one, _), other in zip(own, scored, strict=True)]
    )
    return [(one, other) for one, other in found if one is not None and other is not None]
