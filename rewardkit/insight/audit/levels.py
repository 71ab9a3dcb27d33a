"""What right and wrong completions get, where the file alone does not tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rewardkit.errors import DataError
from rewardkit.insight.audit.attack import rollout_of
from rewardkit.insight.audit.rows import SAME, HonestRow, Levels, cheat_inputs, levels_of
from rewardkit.insight.cheats.making import FORMS, wrong_answer

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward


def found_levels(reward: CompositeReward, rows: Sequence[HonestRow]) -> Levels:
    """Return what right and wrong completions get: those of the file, or answers made from its references.

    Args:
        reward: The reward.
        rows: The rows of the scored file.

    Raises:
        DataError: Neither tells.
    """
    rewards = {reward for row in rows for _, reward in row.completions}
    has_labels = {label for row in rows for label in row.labels} >= {True, False}
    if rewards and not has_labels and max(rewards) - min(rewards) < SAME:
        return levels_from_references(reward, rows, next(iter(rewards)))
    return levels_of(rows)


def levels_from_references(reward: CompositeReward, rows: Sequence[HonestRow], value: float) -> Levels:
    """Return what answers made from the references get, for a file whose completions all have the same reward.

    The answers are written in the usual forms, and the form with the highest median counts.

    Args:
        reward: The reward.
        rows: The rows.
        value: The reward of all honest completions.

    Raises:
        DataError: Neither these answers nor the completions of the file tell what a right completion gets.
    """
    medians: dict[bool, float] = {}
    blank = Levels(math.inf, math.inf)
    for is_right in (True, False):
        by_form: dict[str, list[float]] = {}
        for row, given in zip(rows, cheat_inputs(rows, blank, reward.config.requirements.columns), strict=True):
            for reference in given.references[:1]:
                answer = reference if is_right else wrong_answer(reference, given)
                rollouts = [rollout_of(row, form.format(answer), f"level-{form}") for form in FORMS]
                for form, one in zip(FORMS, reward.score(rollouts), strict=True):
                    if one.reward is not None:
                        by_form.setdefault(form, []).append(one.reward)
        medians[is_right] = max((median(rewards) for rewards in by_form.values()), default=value)
    right, wrong = max(medians[True], value), min(medians[False], value)
    if right <= wrong and value <= 0:
        raise DataError(
            f"all completions of the file have a reward of {value:g}; give rollouts of which some are right and some are wrong"
        )
    return Levels(right, wrong)
