"""Rewards from learned models. Importing this loads neither torch nor transformers."""

from __future__ import annotations

from rewardkit_reward_model.log_ratio import LogRatioReward
from rewardkit_reward_model.reward import RewardModel
from rewardkit_reward_model.steps import StepRewardModel

__all__ = ["LogRatioReward", "RewardModel", "StepRewardModel"]
