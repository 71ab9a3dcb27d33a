"""GRPO (https://arxiv.org/abs/2402.03300) and its variants: a completion is compared with the others of its prompt."""

from __future__ import annotations

from pathlib import Path

from rewardkit.train.config import GrpoConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.trainer.policy_update import PolicyUpdater, reference_policy
from rewardkit.train.trainer.reinforcement import train


def train_grpo(file: TrainFile) -> Path:
    """Run the stage.

    Args:
        file: The configuration.

    Returns:
        The folder of the trained model.

    Raises:
        RewardkitError: As ``trainer.reinforcement.train``.
    """
    config = file.config_as(GrpoConfig)
    return train(
        file,
        config,
        lambda policy, optimizer: PolicyUpdater(config, policy, optimizer, reference_policy(config, policy)),
    )
