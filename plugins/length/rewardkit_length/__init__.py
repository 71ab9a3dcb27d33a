"""Rewards for the length of a completion, in tokens or in characters. They do not check whether the answer is correct."""

from __future__ import annotations

from rewardkit_length.rewards import Cosine, Overlong, Penalty, Target

__all__ = ["Cosine", "Overlong", "Penalty", "Target"]
