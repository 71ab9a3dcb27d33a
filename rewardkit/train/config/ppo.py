"""Settings of PPO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rewardkit.train.config.base import Count, NotNegative, Positive, Section, Share
from rewardkit.train.config.monitors import MonitorsConfig
from rewardkit.train.config.rl import Algorithm, AlgorithmConfig, KlConfig, RlConfig, RolloutConfig


class CriticConfig(Section):
    """The critic, and the advantages that are computed from its values."""

    kind: Literal["own", "head"] = "own"
    """own: a separate model that starts as a copy of the policy · head: a second head on the policy."""
    lr: Positive = 1e-5
    """The learning rate with kind: own. A head has the policy's learning rate."""
    coefficient: Positive = 0.5
    """With kind: head, the weight of the critic's loss."""
    warmup_steps: NotNegative = 0
    """The number of first steps in which only the critic is trained."""
    gamma: Share = 1.0
    """The discount factor per token."""
    lam: Share = 0.95
    """The lambda of GAE (arXiv 1506.02438)."""
    clip: Positive | None = 0.2
    """The largest change of a value in one batch (value clipping). null sets no limit."""
    whiten: bool = True
    """Normalize advantages over the batch."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> CriticConfig:
        if self.kind == "head":
            self.refuse_useless(["lr"], "with kind: head, which has the policy's learning rate")
        else:
            self.refuse_useless(["coefficient"], "with kind: own, whose loss has an optimizer of its own")
        return self


class PpoRolloutConfig(RolloutConfig):
    """How completions are sampled. PPO samples one per prompt by default."""

    prompts_per_step: Count = 128
    group_size: Count = 1


class PpoAlgorithmConfig(AlgorithmConfig):
    """The token loss and its reduction. Advantages come from the critic."""

    use: Algorithm = "bnpo"


class PpoKlConfig(KlConfig):
    """A KL penalty that keeps the policy near the model that the run started from. In PPO it is part of the reward by default."""

    coefficient: Annotated[float, Field(ge=0)] = 0.05
    place: Literal["loss", "reward"] = "reward"


class PpoMonitorsConfig(MonitorsConfig):
    """When a run raises an alarm. With one completion per prompt, the standard deviation of every group is 0."""

    frac_reward_zero_std: Share | None = None


class PpoConfig(RlConfig):
    """Proximal policy optimization (arXiv 1707.06347) with a critic, as in InstructGPT (arXiv 2203.02155)."""

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
        if self.correction.verifier is not None:
            raise ValueError(
                "correction.verifier: the correction compares a completion with its group; it is for stage grpo"
            )
        if self.filter.zero_std != "keep":
            raise ValueError("filter.zero_std: PPO compares a completion with the critic, not with its group; use keep")
        return self

    @model_validator(mode="after")
    def _critic_falls(self) -> PpoConfig:
        rates = self.optimizer
        if self.critic.kind == "own" and rates.schedule != "constant" and rates.min_lr > self.critic.lr:
            raise ValueError(
                f"critic.lr ({self.critic.lr:g}) is below optimizer.min_lr ({rates.min_lr:g}), to which the schedule falls"
            )
        return self
