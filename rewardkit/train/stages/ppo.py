"""PPO with a critic (https://arxiv.org/abs/1707.06347), with the reward of InstructGPT (https://arxiv.org/abs/2203.02155).

Each token is rewarded with −β·KL to the starting model, the last one with the completion's reward as well; GAE makes advantages of
these rewards and the critic's values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rewardkit.train.config import PpoConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.distributed import collectives
from rewardkit.train.losses.gae import Estimates, explained_variance, gae, value_loss, whiten
from rewardkit.train.losses.kl import kl_estimate, token_rewards
from rewardkit.train.losses.masked_statistics import masked_mean
from rewardkit.train.losses.reduction import BatchTotals, token_weights, weighted_loss
from rewardkit.train.models.policy import Judged, Policy
from rewardkit.train.models.value_model import Critic
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.policy_update import PolicyUpdater, UpdateInputs, UpdateMetrics, reference_policy
from rewardkit.train.trainer.reinforcement import train
from rewardkit.train.trainer.rollout_batch import RolloutBatch


def train_ppo(file: TrainFile) -> Path:
    """Run the stage; returns the folder of the trained model. Raises what ``rl.train`` raises."""
    config = file.config
    assert isinstance(config, PpoConfig)  # noqa: S101 - for the type checker
    return train(
        file,
        config,
        lambda policy, optimizer: PpoUpdater(config, policy, optimizer, reference_policy(config, policy)),
    )


class PpoUpdater(PolicyUpdater):
    """Updates a policy and its critic."""

    always_old = True  # GAE and clipped values need the state of things before the first update

    def __init__(self, config: PpoConfig, policy: Policy, optimizer: Optimizer, reference: Policy | None) -> None:
        self.ppo = config.critic
        self.critic = Critic(policy, own=config.critic.kind == "own")
        updates = config.optimizer.model_copy(update={"lr": config.critic.lr})
        if config.critic.kind == "own":
            shards = self.critic.reader.shards if self.critic.reader is not None else None
            self.critic_optimizer: Optimizer | None = Optimizer(self.critic.trained, updates, config.steps, shards)
        else:
            self.critic_optimizer = None
            head = {f"critic.{name}": value for name, value in self.critic.trained.items()}
            optimizer = Optimizer({**optimizer.parameters, **head}, config.optimizer, config.steps, policy.shards)
        super().__init__(config, policy, optimizer, reference)
        self.step = 0
        self.estimates: Estimates
        self.values_B_T: Tensor
        self.value_weights_B_T: Tensor
        self.value_losses_B: Tensor
        """Of each row at its latest update."""
        self.own_losses_B: Tensor
        """Of the update at hand, in this process: another one may have a row the next time."""
        self.value_norm = 0.0

    def parts_to_keep(self) -> dict[str, tuple[Mapping[str, nn.Parameter], Optimizer]]:
        """Policy and critic."""
        parts = super().parts_to_keep()
        if self.critic_optimizer is not None:
            parts["critic"] = (self.critic_optimizer.parameters, self.critic_optimizer)
        return parts

    @property
    def warming_up(self) -> bool:
        """Whether only the critic learns."""
        return self.step < self.ppo.warmup_steps

    def learn(self, batch: RolloutBatch, step: int) -> dict[str, float]:
        """Go through a batch as often as configured; returns figures for the log."""
        self.step = step
        self.value_losses_B = torch.zeros(len(batch.completions))
        figures = super().learn(batch, step)
        if not len(batch.completions):
            return figures
        mask_B_T = batch.mask_B_T
        return figures | {
            "value": float(masked_mean(self.values_B_T, mask_B_T)),
            "value_loss": float(self.value_losses_B.sum()),
            "value_grad_norm": self.value_norm,
            "returns": float(masked_mean(self.estimates.returns_B_T, mask_B_T)),
            "explained_variance": _finite(
                explained_variance(self.values_B_T[mask_B_T], self.estimates.returns_B_T[mask_B_T])
            ),
        }

    def advantages(
        self, batch: RolloutBatch, mask_B_T: Tensor, old_B_T: Tensor | None, ref_B_T: Tensor | None
    ) -> Tensor:
        """GAE over rewards per token, whitened over the batch."""
        self.values_B_T = self.critic.estimate([batch.sequence(row) for row in range(len(mask_B_T))], self.micro)
        kl_B_T = torch.zeros(mask_B_T.shape)
        if old_B_T is not None and ref_B_T is not None and self.config.kl.place == "reward":
            kl_B_T = kl_estimate(old_B_T, ref_B_T, self.config.kl.estimator)
        rewards_B_T = token_rewards(batch.rewards_B, kl_B_T, mask_B_T, self.kl.value)
        self.estimates = gae(rewards_B_T, self.values_B_T, mask_B_T, gamma=self.ppo.gamma, lam=self.ppo.lam)
        advantages_B_T = self.estimates.advantages_B_T
        return whiten(advantages_B_T, mask_B_T) if self.ppo.whiten else advantages_B_T

    def active(self, rows: Sequence[int], inputs: UpdateInputs) -> list[int]:
        """The critic learns from every row of which a token counts."""
        return [row for row in rows if bool(inputs.mask_B_T[row].any())]

    def update(self, rows: Sequence[int], inputs: UpdateInputs, noted: UpdateMetrics, step: int) -> float:
        """One optimiser step of the policy, and one of the critic."""
        mask_B_T = inputs.mask_B_T
        self.value_weights_B_T = torch.zeros(mask_B_T.shape)
        chosen = list(rows)
        self.value_weights_B_T[chosen] = token_weights(mask_B_T[chosen], BatchTotals.of(mask_B_T[chosen]), "bnpo")
        self.own_losses_B = torch.zeros(len(mask_B_T))
        norm = 0.0
        if self.critic_optimizer is None or not self.warming_up:
            norm = super().update(rows, inputs, noted, step)
        if self.critic_optimizer is not None:
            self.micro = self.critic_optimizer.accumulate(
                inputs.batch.lengths(rows), self.micro, lambda part: self.learn_values([rows[i] for i in part], inputs)
            )
            self.value_norm = self.critic_optimizer.step(step)
        self.value_losses_B[chosen] = collectives.added(self.own_losses_B)[chosen]
        return norm

    def learn_values(self, rows: list[int], inputs: UpdateInputs) -> None:
        """Add the gradient of the critic's own model."""
        values_B_T = self.critic([inputs.batch.sequence(row) for row in rows])
        self.value_term(rows, values_B_T).backward()  # type: ignore[no-untyped-call]

    def extra_loss(self, judged: Judged, rows: list[int]) -> Tensor | None:
        """The loss of a head on the policy; while the critic warms up the policy does not feel it."""
        if self.critic_optimizer is not None:
            return None
        values_B_T = self.critic.values_of(judged, detached=self.warming_up)
        return self.ppo.coefficient * self.value_term(rows, values_B_T)

    def policy_learns(self) -> bool:
        """Not while only the critic does: a gradient of 0 would not leave the policy alone, which decays and has momentum."""
        return not self.warming_up

    def value_term(self, rows: list[int], values_B_T: Tensor) -> Tensor:
        """The critic's loss on some rows."""
        columns = values_B_T.shape[1]

        def part(whole_B_T: Tensor) -> Tensor:
            return whole_B_T[rows, :columns].to(values_B_T.device)

        loss_B_T = value_loss(
            values_B_T, part(self.values_B_T), part(self.estimates.returns_B_T), self.ppo.clip
        ).loss_B_T
        weights_B_T = part(self.value_weights_B_T)
        self.own_losses_B[rows] = (weights_B_T * loss_B_T.detach()).sum(1).cpu()
        return weighted_loss(loss_B_T, weights_B_T)


def _finite(value: float) -> float:
    return value if value == value else 0.0  # noqa: PLR0124 - NaN where the returns do not vary
