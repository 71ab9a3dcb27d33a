"""Configuration of PPO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Count, NotNegative, Positive, Section, Share
from rewardkit.train.config.monitors import MonitorsConfig
from rewardkit.train.config.rl import Algorithm, AlgorithmConfig, KlConfig, RlConfig, RolloutConfig


class CriticConfig(Section):
    """What estimates the reward to come, and how advantages are made of it."""

    kind: Literal["own", "head"] = "own"
    """own: a model of its own that starts as a copy of the policy · head: a second head on the policy."""
    lr: Positive = 1e-5
    """Of the critic's own model; a head learns at the policy's rate."""
    coefficient: Positive = 0.5
    """head: weight of its loss beside the policy's."""
    warmup_steps: NotNegative = 0
    """Steps at the beginning in which only the critic learns."""
    gamma: Share = 1.0
    """Discount per token."""
    lam: Share = 0.95
    """GAE's lambda."""
    clip: Positive | None = 0.2
    """How far values may move in one batch; null: any distance."""
    whiten: bool = True
    """Normalise advantages over the batch."""


class PpoRolloutConfig(RolloutConfig):
    """How completions are sampled: for PPO, one of each prompt."""

    prompts_per_step: Count = 128
    group_size: Count = 1


class PpoAlgorithmConfig(AlgorithmConfig):
    """The token loss and the reduction; advantages are the critic's."""

    use: Algorithm = "bnpo"


class PpoKlConfig(KlConfig):
    """Keep the policy near the model that the run started from: for PPO, by the reward."""

    coefficient: Annotated[float, Field(ge=0)] = 0.05
    estimator: Literal["k1", "k2", "k3"] = "k1"
    place: Literal["loss", "reward"] = "reward"


class PpoMonitorsConfig(MonitorsConfig):
    """When a run raises an alarm; with one completion per prompt no group has any spread."""

    frac_reward_zero_std: Share | None = None


class PpoConfig(RlConfig):
    """Proximal policy optimisation with a critic, as InstructGPT has it."""

    stage: Literal["ppo"]
    critic: CriticConfig = CriticConfig()
    monitors: PpoMonitorsConfig = PpoMonitorsConfig()
    algorithm: PpoAlgorithmConfig = PpoAlgorithmConfig()
    rollout: PpoRolloutConfig = PpoRolloutConfig()
    kl: PpoKlConfig = PpoKlConfig()
    epochs_per_batch: Count = 4

    @model_validator(mode="after")
    def _no_baseline_of_groups(self) -> PpoConfig:
        if self.algorithm.process is not None:
            raise ValueError("algorithm.process: process rewards are for stage grpo")
        if self.algorithm.advantage is not None:
            raise ValueError("algorithm.advantage: in PPO advantages come from the critic")
        if self.filter.zero_std != "keep":
            raise ValueError("filter.zero_std: PPO compares a completion with the critic, not with its group; use keep")
        return self

    @model_validator(mode="after")
    def _critic_falls(self) -> PpoConfig:
        rates = self.optimizer
        if self.critic.kind == "own" and rates.schedule != "constant" and rates.min_lr > self.critic.lr:
            raise ValueError(
                f"critic.lr ({self.critic.lr:g}) is below optimizer.min_lr ({rates.min_lr:g}), which it is to fall to"
            )
        return self
