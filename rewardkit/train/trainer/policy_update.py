"""What a policy learns from a batch of scored completions: advantages, losses, gradients, updates.

All that depends on the whole batch (advantages, totals, weights of tokens) is computed once, before the batch is cut. The loss
of an update is then Σ loss × weight over its tokens, however it is cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rewardkit.train.config import KlConfig, RlConfig
from rewardkit.train.config.algorithms import resolve_algorithm
from rewardkit.train.data.batching import own_micro_batches
from rewardkit.train.distributed import collectives
from rewardkit.train.losses.advantages import (
    ADVANTAGES,
    GroupStatistics,
    group_statistics,
    process_advantages,
    reinforce_pp,
    reinforce_pp_baseline,
)
from rewardkit.train.losses.importance_correction import correction_weights, mismatch
from rewardkit.train.losses.kl import AdaptiveKL, FixedKL, KLController, kl_estimate, sequence_kl, token_rewards
from rewardkit.train.losses.masked_statistics import masked_mean
from rewardkit.train.losses.policy_loss import TokenLoss, policy_loss
from rewardkit.train.losses.reduction import BatchTotals, token_weights, weighted_loss
from rewardkit.train.models.dropout import switch_off_dropout
from rewardkit.train.models.policy import Judged, Policy
from rewardkit.train.seeds import step_seed
from rewardkit.train.trainer.optimizer import Optimizer, learning_rate
from rewardkit.train.trainer.rollout_batch import RolloutBatch


def reference_policy(config: RlConfig, policy: Policy) -> Policy | None:
    """The policy as it is before training, where KL needs one. With adapters the model itself is it, without them."""
    if config.kl.coefficient == 0 and config.kl.target is None:
        return None
    if config.model.lora is not None:
        return policy
    frozen = policy.twin()
    frozen.model.requires_grad_(requires_grad=False).eval()
    return frozen


def kl_controller(config: KlConfig) -> KLController:
    """What sets the coefficient of KL."""
    if config.target is None:
        return FixedKL(config.coefficient)
    return AdaptiveKL(config.coefficient, config.target, config.horizon)


class PolicyUpdater:
    """Updates a policy."""

    always_old = False
    """Whether log-probs are taken before the first update even where nothing but a subclass needs them."""

    def __init__(self, config: RlConfig, policy: Policy, optimizer: Optimizer, reference: Policy | None) -> None:
        self.config = config
        self.policy = policy
        self.optimizer = optimizer
        self.reference = reference
        self.algorithm = resolve_algorithm(config.algorithm)
        self.kl = kl_controller(config.kl)
        self.micro = config.micro_batch_tokens
        switch_off_dropout(policy.model)

    def parts_to_keep(self) -> dict[str, tuple[Mapping[str, nn.Parameter], Optimizer]]:
        """What a checkpoint keeps, by name."""
        return {"policy": (self.optimizer.parameters, self.optimizer)}

    def learn(self, batch: RolloutBatch, step: int) -> dict[str, float]:
        """Go through a batch as often as configured; returns figures for the log."""
        config = self.config
        if not len(batch.completions):
            return {"loss": 0.0, "grad_norm": 0.0}
        mask_B_T = batch.mask_B_T
        rollout_B_T = batch.rollout_logprobs_B_T
        updates = config.epochs_per_batch * config.updates_per_epoch
        uses_kl = self.reference is not None
        figures: dict[str, float] = {"lr": learning_rate(config.optimizer, step, config.steps)}
        old_B_T = (
            self.judge(batch)
            if self.always_old
            or updates > 1
            or config.correction.kind != "none"
            or (uses_kl and config.kl.place == "reward")
            else None
        )
        ref_B_T = self.judge(batch, by_reference=True) if uses_kl else None
        advantages_B_T = self.advantages(batch, mask_B_T, old_B_T, ref_B_T)
        correction_B_T = torch.ones(mask_B_T.shape)
        if config.correction.kind != "none" and old_B_T is not None:
            correction_B_T = correction_weights(
                old_B_T,
                rollout_B_T,
                mask_B_T,
                kind=config.correction.kind,
                level=config.correction.level,
                low=config.correction.low,
                high=config.correction.high,
            )
        noted = UpdateMetrics(mask_B_T)
        parts = self.parts(len(mask_B_T), step)
        whole = BatchTotals.of(mask_B_T).shared_by(len(parts) // config.epochs_per_batch)
        for update, rows in enumerate(parts):
            totals = whole if self.algorithm.reduction == "dapo" else BatchTotals.of(mask_B_T[rows])
            weights_B_T = torch.zeros(mask_B_T.shape)
            weights_B_T[rows] = token_weights(
                mask_B_T[rows],
                totals,
                self.algorithm.reduction,
                max_completion_length=config.rollout.max_new_tokens,
            )
            inputs = UpdateInputs(batch, mask_B_T, advantages_B_T, weights_B_T, correction_B_T, old_B_T, ref_B_T)
            active = self.active(rows, inputs)
            norm = self.update(active, inputs, noted, step)
            noted.add_up(active)
            if update == 0:
                if old_B_T is not None:
                    figures |= self.first_figures(old_B_T, rollout_B_T, ref_B_T, mask_B_T)
                else:  # known of the rows that had a gradient
                    seen_B_T = mask_B_T & noted.seen_B[:, None]
                    figures |= self.first_figures(noted.logprobs_B_T, rollout_B_T, ref_B_T, seen_B_T)
        if ref_B_T is not None:
            self.kl.update(figures["kl"], int(mask_B_T.any(1).sum()))
            figures["kl_coefficient"] = self.kl.value
        return figures | noted.figures() | {"grad_norm": norm, "rows_learned": float(noted.seen_B.sum())}

    def parts(self, rows: int, step: int) -> list[list[int]]:
        """The rows of each update: of one epoch after the other, each shuffled and divided; no update is without rows."""
        config = self.config
        if config.updates_per_epoch == 1:
            return [list(range(rows))] * config.epochs_per_batch
        result = []
        for epoch in range(config.epochs_per_batch):
            generator = torch.Generator().manual_seed(step_seed(config.seed, step, "parts", epoch))
            order = torch.randperm(rows, generator=generator)
            result += [part.tolist() for part in order.tensor_split(min(config.updates_per_epoch, rows))]
        return result

    def advantages(
        self, batch: RolloutBatch, mask_B_T: Tensor, old_B_T: Tensor | None, ref_B_T: Tensor | None
    ) -> Tensor:
        """One advantage per token.

        Args:
            batch: The batch.
            mask_B_T: True: counts.
            old_B_T: Log-probs under the policy before the first update, where KL is part of the reward.
            ref_B_T: Under the reference, if there is one.
        """
        kl_B_T = None
        if ref_B_T is not None and old_B_T is not None and self.config.kl.place == "reward":
            kl_B_T = kl_estimate(old_B_T, ref_B_T, self.config.kl.estimator)
        if batch.steps is not None and batch.step_of_token is not None:
            process = self.config.algorithm.process
            return process_advantages(
                pad_sequence([torch.tensor(row) for row in batch.steps], batch_first=True),
                pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in batch.steps], batch_first=True),
                pad_sequence([torch.tensor(row) for row in batch.step_of_token], batch_first=True, padding_value=-1),
                batch.groups_B,
                to_come=process is None or process.to_come,
            )
        kind = self.algorithm.advantage
        if kind == "reinforce_pp":
            penalty_B_T = torch.zeros(mask_B_T.shape) if kl_B_T is None else kl_B_T
            return reinforce_pp(token_rewards(batch.rewards_B, penalty_B_T, mask_B_T, self.kl.value), mask_B_T)
        rewards_B = batch.rewards_B
        if kl_B_T is not None:
            rewards_B = rewards_B - self.kl.value * sequence_kl(kl_B_T, mask_B_T)
        groups: GroupStatistics = group_statistics(rewards_B, batch.groups_B)
        if kind == "reinforce_pp_baseline":
            return reinforce_pp_baseline(rewards_B, groups, mask_B_T)
        eps = {"eps": 1e-4} if kind in {"group_std", "batch_std"} else {}
        return ADVANTAGES[kind](rewards_B, groups, **eps)[:, None].expand(mask_B_T.shape)

    def active(self, rows: Sequence[int], inputs: UpdateInputs) -> list[int]:
        """Rows that have a gradient: those of flat groups have none, unless KL is in the loss."""
        if self.adds_kl(inputs):
            return [row for row in rows if bool(inputs.mask_B_T[row].any())]
        pull_B_T = inputs.advantages_B_T * inputs.weights_B_T * inputs.correction_B_T * inputs.mask_B_T
        return [row for row in rows if bool((pull_B_T[row] != 0).any())]

    def adds_kl(self, inputs: UpdateInputs) -> bool:
        """Whether KL is a term of the loss."""
        return inputs.ref_B_T is not None and self.config.kl.place == "loss"

    def judge(self, batch: RolloutBatch, *, by_reference: bool = False) -> Tensor:
        """Log-probs of all completions without gradient, (B, T), on the CPU: by the policy as it is, or by the reference."""
        result_B_T = torch.zeros(len(batch.completions), max(map(len, batch.completions)))
        policy = self.reference if by_reference and self.reference is not None else self.policy
        # With adapters the two are one model, so it is not the model that tells who is asked.
        without_adapters = policy.reference() if by_reference and policy is self.policy else nullcontext()
        was_training = policy.model.training
        policy.model.eval()
        with torch.no_grad(), without_adapters:
            parts, idle = own_micro_batches(batch.lengths(range(len(batch.completions))), self.micro)
            for part in parts:
                judged = policy.judge([batch.sequence(row) for row in part], self.config.rollout.temperature)
                result_B_T[part, : judged.logprobs_B_T.shape[1]] = judged.logprobs_B_T.cpu()
            if policy.shards is not None:
                policy.shards.idle(idle)
        policy.model.train(was_training)
        return collectives.added(result_B_T)

    def update(self, rows: Sequence[int], inputs: UpdateInputs, noted: UpdateMetrics, step: int) -> float:
        """One optimiser step on some rows; returns the length of the gradient."""

        def backward(part: list[int]) -> None:
            self.backward([rows[index] for index in part], inputs, noted)

        self.micro = self.optimizer.accumulate(
            inputs.batch.lengths(rows), self.micro, backward, through_model=self.policy_learns()
        )
        return self.optimizer.step(step)

    def backward(self, rows: list[int], inputs: UpdateInputs, noted: UpdateMetrics) -> None:
        """Add the gradient of some rows."""
        with torch.set_grad_enabled(self.policy_learns()):
            judged = self.policy.judge([inputs.batch.sequence(row) for row in rows], self.config.rollout.temperature)
        logprobs_B_T = judged.logprobs_B_T
        columns = logprobs_B_T.shape[1]

        def part(whole_B_T: Tensor) -> Tensor:
            return whole_B_T[rows, :columns].to(logprobs_B_T.device)

        mask_B_T = part(inputs.mask_B_T)
        old_B_T = logprobs_B_T.detach() if inputs.old_B_T is None else part(inputs.old_B_T)
        token_loss = policy_loss(logprobs_B_T, old_B_T, part(inputs.advantages_B_T), mask_B_T, self.algorithm.loss)
        loss_B_T = part(inputs.correction_B_T) * token_loss.loss_B_T
        if inputs.ref_B_T is not None and self.adds_kl(inputs):
            loss_B_T = loss_B_T + self.kl.value * kl_estimate(
                logprobs_B_T, part(inputs.ref_B_T), self.config.kl.estimator
            )
        loss = self.extra_loss(judged, rows)
        if self.policy_learns():
            loss = weighted_loss(loss_B_T, part(inputs.weights_B_T)) + (0 if loss is None else loss)
        assert loss is not None  # noqa: S101 - one of the two learns
        loss.backward()  # type: ignore[no-untyped-call]
        noted.take(rows, part(inputs.weights_B_T) * loss_B_T.detach(), logprobs_B_T, judged.entropy_B_T, token_loss)

    def extra_loss(self, judged: Judged, rows: list[int]) -> Tensor | None:  # noqa: ARG002 - for subclasses
        """A term that learns from the same forward pass."""
        return None

    def policy_learns(self) -> bool:
        """Whether the policy's loss is part of the step's."""
        return True

    def first_figures(
        self, old_B_T: Tensor, rollout_B_T: Tensor, ref_B_T: Tensor | None, mask_B_T: Tensor
    ) -> dict[str, float]:
        """How far the sampler and the reference are from the policy that the batch was collected with."""
        found = mismatch(old_B_T, rollout_B_T, mask_B_T)
        figures = {
            "mismatch": found.mean_difference,
            "mismatch_max": found.max_difference,
            "mismatch_kl": found.kl,
            "mismatch_ess": found.effective_share,
        }
        if ref_B_T is not None:
            counts_B = mask_B_T.any(1)  # completions that are masked as a whole say nothing of the policy
            figures["kl"] = float(masked_mean(sequence_kl(old_B_T - ref_B_T, mask_B_T), counts_B))
            figures["kl_per_token"] = float(masked_mean(kl_estimate(old_B_T, ref_B_T, "k3"), mask_B_T))
        return figures


@dataclass(frozen=True, slots=True)
class UpdateInputs:
    """A batch with all that has been computed of it as a whole; on the CPU."""

    batch: RolloutBatch
    mask_B_T: Tensor
    advantages_B_T: Tensor
    weights_B_T: Tensor
    correction_B_T: Tensor
    """What the policy's loss of each token is multiplied by, since another policy sampled it; KL goes without, as in TRL and verl."""
    old_B_T: Tensor | None
    """None: the batch is used once, so the log-probs of the update itself are the old ones."""
    ref_B_T: Tensor | None


class UpdateMetrics:
    """What the updates of a batch have seen; by row, so that doing a micro-batch again changes nothing."""

    def __init__(self, mask_B_T: Tensor) -> None:
        self.mask_B_T = mask_B_T
        self.seen_B = torch.zeros(len(mask_B_T), dtype=torch.bool)
        self.fresh_B = torch.zeros(len(mask_B_T), dtype=torch.bool)
        """Rows that this process has seen since the last ``add_up``."""
        self.loss_B = torch.zeros(len(mask_B_T))
        self.logprobs_B_T = torch.zeros(mask_B_T.shape)
        self.entropy_B_T = torch.zeros(mask_B_T.shape)
        self.low_B_T = torch.zeros(mask_B_T.shape, dtype=torch.bool)
        self.high_B_T = torch.zeros(mask_B_T.shape, dtype=torch.bool)

    def take(
        self, rows: list[int], loss_B_T: Tensor, logprobs_B_T: Tensor, entropy_B_T: Tensor, token_loss: TokenLoss
    ) -> None:
        """Note down what some rows' update has seen."""
        columns = logprobs_B_T.shape[1]
        self.seen_B[rows] = self.fresh_B[rows] = True
        self.loss_B[rows] = loss_B_T.sum(1).cpu()
        self.logprobs_B_T[rows, :columns] = logprobs_B_T.detach().cpu()
        self.entropy_B_T[rows, :columns] = entropy_B_T.cpu()
        self.low_B_T[rows, :columns] = token_loss.clipped_low_B_T.cpu()
        self.high_B_T[rows, :columns] = token_loss.clipped_high_B_T.cpu()

    def add_up(self, rows: Sequence[int]) -> None:
        """Put together what the processes have seen of these rows, each of its own share."""
        if collectives.size() == 1:
            return
        for name in ("loss_B", "logprobs_B_T", "entropy_B_T", "low_B_T", "high_B_T"):
            whole: Tensor = getattr(self, name)
            mine = self.fresh_B.view(-1, *[1] * (whole.dim() - 1))
            chosen = list(rows)
            whole[chosen] = collectives.added(torch.where(mine, whole, torch.zeros_like(whole)))[chosen]
        self.seen_B = collectives.added(self.seen_B.float()) > 0
        self.fresh_B.zero_()

    def figures(self) -> dict[str, float]:
        """Of the rows that had a gradient, at their latest update; where there were none, the loss alone."""
        mask_B_T = self.mask_B_T & self.seen_B[:, None]
        if not mask_B_T.any():
            return {"loss": 0.0}
        return {
            "loss": float(self.loss_B.sum()),
            "entropy": float(masked_mean(self.entropy_B_T, mask_B_T)),
            "clipped_low": float(masked_mean(self.low_B_T.float(), mask_B_T)),
            "clipped_high": float(masked_mean(self.high_B_T.float(), mask_B_T)),
        }
