"""PPO with a critic (https://arxiv.org/abs/1707.06347), with the reward of InstructGPT (https://arxiv.org/abs/2203.02155).

The reward of each token is −β·KL from the starting model, and the last token also gets the completion's reward. Generalised advantage
estimation (GAE) turns these rewards and the critic's values into advantages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rewardkit.train.config import PpoConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.losses.gae import explained_variance, gae, value_loss, whiten
from rewardkit.train.losses.kl import kl_estimate, token_rewards
from rewardkit.train.losses.masked_statistics import masked_mean
from rewardkit.train.losses.reduction import BatchTotals, token_weights, weighted_loss
from rewardkit.train.models.policy import Policy, TokenLogprobs
from rewardkit.train.models.value_model import ValueModel
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.policy_update import (
    OptimizerStep,
    PolicyUpdater,
    UpdateInputs,
    UpdateMetrics,
    ValueTargets,
    reference_policy,
)
from rewardkit.train.trainer.reinforcement import train
from rewardkit.train.trainer.rollout_batch import RolloutBatch


def train_ppo(file: TrainFile) -> Path:
    """Run the stage.

    Args:
        file: The configuration.

    Returns:
        The folder of the trained model.

    Raises:
        RewardkitError: As ``trainer.reinforcement.train``.
    """
    config = file.config_as(PpoConfig)
    return train(
        file,
        config,
        lambda policy, optimizer: PpoUpdater(config, policy, optimizer, reference_policy(config, policy)),
    )


class PpoUpdater(PolicyUpdater):
    """Updates a policy and its critic."""

    needs_old_logprobs = True  # GAE and value clipping compare with the state before the first optimiser step

    def __init__(self, config: PpoConfig, policy: Policy, optimizer: Optimizer, reference: Policy | None) -> None:
        self.ppo = config.critic
        self.critic = ValueModel(policy, own=config.critic.kind == "own")
        settings = config.optimizer.model_copy(update={"lr": config.critic.lr})
        self.critic_optimizer: Optimizer | None = None
        if config.critic.kind == "own":
            sharded = self.critic.reader.sharded if self.critic.reader is not None else None
            self.critic_optimizer = Optimizer(self.critic.trained, settings, config.steps, sharded)
        else:
            head = {f"critic.{name}": value for name, value in self.critic.trained.items()}
            parameters = {**optimizer.parameters, **head}
            optimizer = Optimizer(
                parameters, config.optimizer, config.steps, policy.sharded, has_router_loss=policy.has_router_loss
            )
        super().__init__(config, policy, optimizer, reference)

    def checkpoint_parts(self) -> dict[str, tuple[Mapping[str, nn.Parameter], Optimizer]]:
        """Return policy and critic."""
        parts = super().checkpoint_parts()
        if self.critic_optimizer is not None:
            parts["critic"] = (self.critic_optimizer.parameters, self.critic_optimizer)
        return parts

    def trains_policy(self, inputs: UpdateInputs) -> bool:
        """Return whether the critic's warm-up is over.

        During warm-up the policy must be left out of the optimiser step: even with a gradient of 0, weight decay and momentum would
        change it.
        """
        return inputs.step >= self.ppo.warmup_steps

    def advantages(
        self, batch: RolloutBatch, mask_B_T: Tensor, old_B_T: Tensor | None, ref_B_T: Tensor | None
    ) -> tuple[Tensor, ValueTargets]:
        """Compute advantages by GAE over rewards per token, whitened over the batch if so configured."""
        with running_pass("the critic's values"):
            values_B_T = self.critic.estimate(
                [batch.sequence(row) for row in range(len(mask_B_T))], self.micro_batch_tokens
            )
        kl_B_T = torch.zeros(mask_B_T.shape)
        if old_B_T is not None and ref_B_T is not None and self.config.kl.place == "reward":
            kl_B_T = kl_estimate(old_B_T, ref_B_T, self.config.kl.chosen_estimator)
        rewards_B_T = token_rewards(batch.rewards_B, kl_B_T, mask_B_T, self.kl.value)
        found = gae(rewards_B_T, values_B_T, mask_B_T, gamma=self.ppo.gamma, lam=self.ppo.lam)
        advantages_B_T = whiten(found.advantages_B_T, mask_B_T) if self.ppo.whiten else found.advantages_B_T
        return advantages_B_T, ValueTargets(values_B_T, found.returns_B_T)

    def rows_with_gradient(self, optimizer_step: OptimizerStep, inputs: UpdateInputs) -> list[int]:
        """Return the rows with a token that counts: the critic is trained on all of them."""
        return [row for row in optimizer_step.rows if bool(inputs.mask_B_T[row].any())]

    def optimizer_step(
        self, rows: Sequence[int], optimizer_step: OptimizerStep, inputs: UpdateInputs, measured: UpdateMetrics
    ) -> float:
        """Take one optimiser step of the policy and one of the critic."""
        before_B = measured.value_loss_B
        measured.value_loss_B = torch.zeros_like(before_B)  # of this process: another process may have a row next time
        chosen = list(rows)
        weights_B_T = self.value_weights(rows, inputs)
        norm = 0.0
        if self.critic_optimizer is None or self.trains_policy(inputs):
            norm = super().optimizer_step(rows, optimizer_step, inputs, measured)
        if self.critic_optimizer is not None:

            def backward(part: list[int]) -> Tensor:
                own = [rows[index] for index in part]
                values_B_T = self.critic([inputs.batch.sequence(row) for row in own])
                loss = self.value_loss(own, values_B_T, weights_B_T, inputs, measured)
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            lengths = inputs.batch.lengths(rows)
            packed = self.policy.packed_rows([[length] for length in lengths])
            self.micro_batch_tokens = self.critic_optimizer.accumulate(
                lengths, self.micro_batch_tokens, backward, packed=packed
            )
            measured.value_grad_norm = self.critic_optimizer.step(inputs.step)
        own_B = collectives.all_reduce_sum(measured.value_loss_B)
        measured.value_loss_B = before_B
        measured.value_loss_B[chosen] = own_B[chosen]
        return norm

    def value_weights(self, rows: Sequence[int], inputs: UpdateInputs) -> Tensor:
        """Return the weights of the critic's loss, a mean over the tokens of the optimiser step. Shape: (B, T)."""
        chosen = list(rows)
        weights_B_T = torch.zeros(inputs.mask_B_T.shape)
        mask_B_T = inputs.mask_B_T[chosen]
        weights_B_T[chosen] = token_weights(mask_B_T, BatchTotals.of(mask_B_T), "bnpo")
        return weights_B_T

    def extra_loss(
        self,
        found: TokenLogprobs,
        rows: list[int],
        optimizer_step: OptimizerStep,
        inputs: UpdateInputs,
        measured: UpdateMetrics,
    ) -> Tensor | None:
        """Return the loss of a value head on the policy. During warm-up it has no gradient through the policy."""
        if self.critic_optimizer is not None:
            return None
        values_B_T = self.critic.values_of(found, detached=not self.trains_policy(inputs))
        weights_B_T = self.value_weights(self.rows_with_gradient(optimizer_step, inputs), inputs)
        return self.ppo.coefficient * self.value_loss(rows, values_B_T, weights_B_T, inputs, measured)

    def value_loss(
        self, rows: list[int], values_B_T: Tensor, weights_B_T: Tensor, inputs: UpdateInputs, measured: UpdateMetrics
    ) -> Tensor:
        """Return the critic's loss on some rows."""
        targets = inputs.values
        assert targets is not None  # noqa: S101 - ``advantages`` makes them
        columns = values_B_T.shape[1]

        def part(whole_B_T: Tensor) -> Tensor:
            return whole_B_T[rows, :columns].to(values_B_T.device)

        loss_B_T = value_loss(values_B_T, part(targets.values_B_T), part(targets.returns_B_T), self.ppo.clip).loss_B_T
        own_weights_B_T = part(weights_B_T)
        measured.value_loss_B[rows] = (own_weights_B_T * loss_B_T.detach()).sum(1).cpu()
        return weighted_loss(loss_B_T, own_weights_B_T)

    def metrics(self, inputs: UpdateInputs, measured: UpdateMetrics, first: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics of policy and critic."""
        targets, mask_B_T = inputs.values, inputs.mask_B_T
        assert targets is not None  # noqa: S101 - ``advantages`` makes them
        explained = explained_variance(targets.values_B_T[mask_B_T], targets.returns_B_T[mask_B_T])
        return super().metrics(inputs, measured, first) | {
            "value": float(masked_mean(targets.values_B_T, mask_B_T)),
            "value_loss": float(measured.value_loss_B.sum()),
            "value_grad_norm": measured.value_grad_norm,
            "returns": float(masked_mean(targets.returns_B_T, mask_B_T)),
            "explained_variance": explained if explained == explained else 0.0,  # noqa: PLR0124 - NaN if all returns are equal
        }
