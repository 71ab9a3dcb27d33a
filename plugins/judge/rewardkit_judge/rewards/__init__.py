"""The rewards: a rubric, a reference answer, principles, and comparisons within a group."""

from __future__ import annotations

from rewardkit_judge.rewards.pairwise import Pairwise
from rewardkit_judge.rewards.principles import Principles
from rewardkit_judge.rewards.reference import Reference
from rewardkit_judge.rewards.rubric import Rubric

__all__ = ["Pairwise", "Principles", "Reference", "Rubric"]
