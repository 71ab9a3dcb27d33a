"""A reward from a learned reward model. Importing this loads neither torch nor transformers."""

from __future__ import annotations

from rewardkit_reward_model.reward import RewardModel

__all__ = ["RewardModel"]
