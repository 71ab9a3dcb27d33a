r"""A composite reward in slime, as its own reward function. For the service, see ``rewardkit serve``.

    REWARDKIT_REWARD=/path/to/reward.yaml python train.py ... \
      --custom-rm-path rewardkit.integrations.slime.reward --group-rm \
      --custom-reward-post-process-path rewardkit.integrations.slime.post_process

slime has no value for a sample without a score. With ``--group-rm`` such a sample gets the mean of its scored siblings and
``remove_sample``, so that it is not trained on; `post_process` leaves it out of the baseline, too. Without ``--group-rm`` it raises, which
ends the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rewardkit.composite import CompositeReward
from rewardkit.integrations.common import (
    file_from_environment,
    refuse_groups,
    refuse_schedules,
    reward_or_raise,
    row_fields,
    shared_reward,
)
from rewardkit.types import Rollout, ScoredRollout

FINISH_REASONS = {"completed": "stop", "truncated": "length"}
CENTERED = frozenset({"grpo", "gspo", "cispo", "reinforce_plus_plus_baseline"})
"""slime's estimators whose rewards are centered within the group."""
SCALED = CENTERED - {"reinforce_plus_plus_baseline"}
"""Those that are divided by the group's standard deviation, too, with ``grpo_std_normalization``."""
EPSILON = 1e-6
PATH = "rewardkit.integrations.slime.post_process"


async def reward(args: Any, sample: Any, **_: Any) -> float | list[float]:
    """Score a sample, or with ``--group-rm`` the samples of a prompt, with the reward file that ``REWARDKIT_REWARD`` names.

    Args:
        args: slime's arguments.
        sample: A sample, or a list of samples. The label is the column that the reward reads, the metadata are further columns.

    Returns:
        The reward, or one for each sample.

    Raises:
        NotScoredError: The sample, or all of them, could not be scored; or one could not, the group's standard deviation would count it,
            and ``--custom-reward-post-process-path`` is not `post_process`.
        UsageError: The reward compares the rollouts of a group, and ``--group-rm`` is missing.
    """
    composite = shared_reward(file_from_environment())
    refuse_schedules(composite, "slime")
    if not isinstance(sample, list):
        refuse_groups(composite, "slime without --group-rm")
        return reward_or_raise(await composite.ascore(to_rollout(composite, sample)))
    scored = await composite.ascore([to_rollout(composite, item, group=0) for item in sample])
    return _group(args, sample, scored)


def _group(args: Any, samples: Sequence[Any], scored: Sequence[ScoredRollout]) -> list[float]:
    known = [item.reward for item in scored if item.reward is not None]
    failed = [item for item in scored if item.reward is None]
    # The mean of the siblings leaves their mean as it is, but not their standard deviation.
    if failed and (not known or (_is_scaled(args) and args.custom_reward_post_process_path != PATH)):
        reward_or_raise(failed[0])
    for sample, item in zip(samples, scored, strict=True):
        if item.reward is None:
            sample.remove_sample = True
    return [math.fsum(known) / len(known) if item.reward is None else item.reward for item in scored]


def _is_scaled(args: Any) -> bool:
    return bool(args.rewards_normalization and args.grpo_std_normalization and args.advantage_estimator in SCALED)


def post_process(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Return raw rewards, and those that slime trains with: normalised as slime does it, over the samples that are not removed.

    Args:
        args: slime's arguments.
        samples: All samples of a step; those of a prompt have one ``group_index``.
    """
    raw = [float(sample.get_reward_value(args)) for sample in samples]
    if not args.rewards_normalization or args.advantage_estimator not in CENTERED:
        return raw, raw
    groups: dict[Any, list[int]] = {}
    for number, sample in enumerate(samples):
        if not sample.remove_sample:
            groups.setdefault(sample.group_index, []).append(number)
    result = [0.0] * len(raw)
    for numbers in groups.values():
        mean = math.fsum(raw[number] for number in numbers) / len(numbers)
        squares = math.fsum((raw[number] - mean) ** 2 for number in numbers)
        spread = math.sqrt(squares / (len(numbers) - 1)) + EPSILON if _is_scaled(args) and len(numbers) > 1 else 1.0
        for number in numbers:
            result[number] = (raw[number] - mean) / spread
    return raw, result


def to_rollout(composite: CompositeReward, sample: Any, group: int | None = None) -> Rollout:
    """Return a sample as a rollout.

    Args:
        composite: The reward, whose columns the label and the metadata are.
        sample: The sample.
        group: Its group.
    """
    fields = row_fields(composite, sample.label, None, "slime's sample", sample.metadata)
    reason = FINISH_REASONS.get(getattr(sample.status, "value", ""))
    return Rollout(sample.prompt, sample.response, fields, group, sample.response_length or None, reason)
