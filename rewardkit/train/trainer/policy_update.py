"""Updates a policy on a batch of scored completions, in three parts: prepare, update, metrics.

``prepare`` computes everything that depends on the whole batch once: log-probabilities, advantages, importance weights, and the rows
and token weights of each optimiser step. The loss of an optimiser step is then Σ loss × weight over its tokens, however the step is
divided into micro-batches.
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
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.passes import running_pass
from rewardkit.train.losses.advantages import (
    ADVANTAGES,
    GroupStatistics,
    group_statistics,
    process_advantages,
    reinforce_pp,
    reinforce_pp_baseline,
)
from rewardkit.train.losses.importance_correction import correction_weights, mismatch
from rewardkit.train.losses.kl import (
    AdaptiveKL,
    FixedKL,
    KLController,
    kl_estimate,
    kl_loss,
    sequence_kl,
    token_rewards,
)
from rewardkit.train.losses.masked_statistics import masked_mean
from rewardkit.train.losses.policy_loss import TokenLoss, policy_loss
from rewardkit.train.losses.reduction import BatchTotals, token_weights, weighted_loss
from rewardkit.train.models.dropout import switch_off_dropout
from rewardkit.train.models.policy import Policy, TokenLogprobs
from rewardkit.train.seeds import step_seed
from rewardkit.train.trainer.optimizer import Optimizer, learning_rate
from rewardkit.train.trainer.rollout_batch import RolloutBatch


def reference_policy(config: RlConfig, policy: Policy) -> Policy | None:
    """Return the reference model of the KL penalty, or None without a penalty.

    It is a frozen copy of the policy. With adapters it is the policy itself, which is then called without its adapters.
    """
    if config.kl.coefficient == 0 and config.kl.target is None:
        return None
    if config.model.lora is not None:
        return policy
    frozen = policy.copy(trained=False)
    frozen.model.eval()
    if config.kl.offload_reference:
        frozen.offload()
    return frozen


def kl_controller(config: KlConfig) -> KLController:
    """Return the controller of the KL coefficient."""
    if config.target is None:
        return FixedKL(config.coefficient)
    return AdaptiveKL(config.coefficient, config.target, config.horizon)


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """The rows of one optimiser step, and the weights of their tokens."""

    rows: Sequence[int]
    weights_B_T: Tensor
    """What the policy's loss of each token is multiplied by; 0 outside of ``rows``."""


@dataclass(frozen=True, slots=True)
class ValueTargets:
    """The critic's predictions before the update, and what it is trained to predict. Shapes: (B, T)."""

    values_B_T: Tensor
    returns_B_T: Tensor


@dataclass(frozen=True, slots=True)
class UpdateInputs:
    """A batch with everything that has been computed of it as a whole, on the CPU."""

    step: int
    """Number of the training step, from 0."""
    batch: RolloutBatch
    mask_B_T: Tensor
    """bool. True for tokens that count."""
    rollout_B_T: Tensor
    """Log-probabilities that the rollout engine reported."""
    old_B_T: Tensor | None
    """Log-probabilities under the policy before the first optimiser step. None if the batch is used once: then those of the
    update itself are the same."""
    ref_B_T: Tensor | None
    """Log-probabilities under the reference model."""
    advantages_B_T: Tensor
    correction_B_T: Tensor
    """Importance weights that correct for the rollout engine. They multiply the policy's loss, not the KL term, as in TRL and verl."""
    optimizer_steps: Sequence[OptimizerStep]
    values: ValueTargets | None = None
    """For a policy with a critic."""


class UpdateMetrics:
    """Collects by row what the optimiser steps measured, so that repeating a micro-batch changes nothing."""

    def __init__(self, mask_B_T: Tensor) -> None:
        self.mask_B_T = mask_B_T
        self.seen_B = torch.zeros(len(mask_B_T), dtype=torch.bool)
        """Rows that had a gradient."""
        self.fresh_B = torch.zeros(len(mask_B_T), dtype=torch.bool)
        """Rows that this process has recorded since the last ``all_reduce``."""
        self.loss_B = torch.zeros(len(mask_B_T))
        self.logprobs_B_T = torch.zeros(mask_B_T.shape)
        self.entropy_B_T = torch.zeros(mask_B_T.shape)
        self.low_B_T = torch.zeros(mask_B_T.shape, dtype=torch.bool)
        self.high_B_T = torch.zeros(mask_B_T.shape, dtype=torch.bool)
        self.value_loss_B = torch.zeros(len(mask_B_T))
        """The critic's loss of each row in its latest optimiser step."""
        self.value_grad_norm = 0.0

    def record(
        self, rows: list[int], loss_B_T: Tensor, logprobs_B_T: Tensor, entropy_B_T: Tensor, token_loss: TokenLoss
    ) -> None:
        """Record what the optimiser step measured on some rows."""
        columns = logprobs_B_T.shape[1]
        self.seen_B[rows] = self.fresh_B[rows] = True
        self.loss_B[rows] = loss_B_T.sum(1).cpu()
        self.logprobs_B_T[rows, :columns] = logprobs_B_T.detach().cpu()
        self.entropy_B_T[rows, :columns] = entropy_B_T.cpu()
        self.low_B_T[rows, :columns] = token_loss.clipped_low_B_T.cpu()
        self.high_B_T[rows, :columns] = token_loss.clipped_high_B_T.cpu()

    def all_reduce(self, rows: Sequence[int]) -> None:
        """Combine what the processes have recorded of these rows, each of its own share."""
        if collectives.size() == 1:
            return
        for name in ("loss_B", "logprobs_B_T", "entropy_B_T", "low_B_T", "high_B_T"):
            whole: Tensor = getattr(self, name)
            mine = self.fresh_B.view(-1, *[1] * (whole.dim() - 1))
            chosen = list(rows)
            whole[chosen] = collectives.all_reduce_sum(torch.where(mine, whole, torch.zeros_like(whole)))[chosen]
        self.seen_B = collectives.all_reduce_sum(self.seen_B.float()) > 0
        self.fresh_B.zero_()

    def summary(self) -> dict[str, float]:
        """Return the means over the rows that had a gradient, each at its latest optimiser step; only the loss if there were none."""
        mask_B_T = self.mask_B_T & self.seen_B[:, None]
        if not mask_B_T.any():
            return {"loss": 0.0}
        return {
            "loss": float(self.loss_B.sum()),
            "entropy": float(masked_mean(self.entropy_B_T, mask_B_T)),
            "clipped_low": float(masked_mean(self.low_B_T.float(), mask_B_T)),
            "clipped_high": float(masked_mean(self.high_B_T.float(), mask_B_T)),
        }


class PolicyUpdater:
    """Updates a policy on batches of scored completions."""

    needs_old_logprobs = False
    """Whether the log-probabilities before the first optimiser step are needed even if the batch is used once."""

    def __init__(self, config: RlConfig, policy: Policy, optimizer: Optimizer, reference: Policy | None) -> None:
        self.config = config
        self.policy = policy
        self.optimizer = optimizer
        self.reference = reference
        self.algorithm = resolve_algorithm(config.algorithm)
        self.kl = kl_controller(config.kl)
        self.micro_batch_tokens = config.micro_batch_tokens
        switch_off_dropout(policy.model)

    def checkpoint_parts(self) -> dict[str, tuple[Mapping[str, nn.Parameter], Optimizer]]:
        """Return what a checkpoint keeps: parameters and their optimiser, by name."""
        return {"policy": (self.optimizer.parameters, self.optimizer)}

    def update(self, batch: RolloutBatch, step: int) -> dict[str, float]:
        """Train on a batch, as many epochs as configured.

        Args:
            batch: The scored completions.
            step: Number of the training step, from 0.

        Returns:
            The metrics of the update.
        """
        if not len(batch.completions):
            return {"loss": 0.0, "grad_norm": 0.0}
        inputs = self.prepare(batch, step)
        measured = UpdateMetrics(inputs.mask_B_T)
        metrics: dict[str, float] = {"lr": learning_rate(self.config.optimizer, step, self.config.steps)}
        norm = 0.0
        for index, optimizer_step in enumerate(inputs.optimizer_steps):
            rows = self.rows_with_gradient(optimizer_step, inputs)
            norm = self.optimizer_step(rows, optimizer_step, inputs, measured)
            measured.all_reduce(rows)
            if index == 0:
                metrics |= self.first_step_metrics(inputs, measured)
        metrics |= self.metrics(inputs, measured, metrics)
        if self.config.optimizer.non_finite == "skip":
            optimizers = [optimizer for _, optimizer in self.checkpoint_parts().values()]
            metrics["updates_skipped"] = sum(optimizer.take_skipped() for optimizer in optimizers)
        return metrics | self.optimizer.router_metrics() | {"grad_norm": norm}

    # --- prepare -------------------------------------------------------------------------------------------------------

    def prepare(self, batch: RolloutBatch, step: int) -> UpdateInputs:
        """Compute everything that depends on the whole batch."""
        config = self.config
        mask_B_T = batch.mask_B_T
        rollout_B_T = batch.rollout_logprobs_B_T
        has_reference = self.reference is not None
        needs_old = (
            self.needs_old_logprobs
            or config.epochs_per_batch * config.updates_per_epoch > 1
            or config.correction.kind != "none"
            or (has_reference and config.kl.place == "reward")
        )
        old_B_T = self.compute_logprobs(batch) if needs_old else None
        ref_B_T = self.compute_logprobs(batch, by_reference=True) if has_reference else None
        advantages_B_T, values = self.advantages(batch, mask_B_T, old_B_T, ref_B_T)
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
        return UpdateInputs(
            step=step,
            batch=batch,
            mask_B_T=mask_B_T,
            rollout_B_T=rollout_B_T,
            old_B_T=old_B_T,
            ref_B_T=ref_B_T,
            advantages_B_T=advantages_B_T,
            correction_B_T=correction_B_T,
            optimizer_steps=self.optimizer_steps(mask_B_T, step),
            values=values,
        )

    def compute_logprobs(self, batch: RolloutBatch, *, by_reference: bool = False) -> Tensor:
        """Return the log-probabilities of all completions under the policy or the reference model, without gradient.

        Returns:
            Shape (B, T), on the CPU.
        """
        result_B_T = torch.zeros(len(batch.completions), max(map(len, batch.completions)))
        policy = self.reference if by_reference and self.reference is not None else self.policy
        # With adapters policy and reference are one model, so the argument decides, not the model.
        without_adapters = policy.reference() if by_reference and policy is self.policy else nullcontext()

        def compute(part: list[int]) -> Tensor:
            return policy.forward_logprobs(
                [batch.sequence(row) for row in part], self.config.rollout.temperature, packed=policy.packing
            ).logprobs_B_T

        name = "the log-probs of the reference" if by_reference else "the log-probs before the update"
        lengths = batch.lengths(range(len(batch.completions)))
        packed = policy.packed_rows([[length] for length in lengths], batch.prompts)
        with running_pass(name), without_adapters:
            return policy.compute_rows(compute, result_B_T, lengths, self.micro_batch_tokens, packed)

    def advantages(
        self, batch: RolloutBatch, mask_B_T: Tensor, old_B_T: Tensor | None, ref_B_T: Tensor | None
    ) -> tuple[Tensor, ValueTargets | None]:
        """Compute one advantage per token.

        Args:
            batch: The scored completions.
            mask_B_T: bool. True for tokens that count.
            old_B_T: Log-probabilities before the first optimiser step, needed if KL is part of the reward.
            ref_B_T: Log-probabilities under the reference model, if there is one.

        Returns:
            The advantages, of shape (B, T), and the targets of a critic, if there is one.
        """
        kl_B_T = None
        if ref_B_T is not None and old_B_T is not None and self.config.kl.place == "reward":
            kl_B_T = kl_estimate(old_B_T, ref_B_T, self.config.kl.chosen_estimator)
        if batch.steps is not None and batch.step_of_token is not None:
            return self._process_advantages(batch), None
        kind = self.algorithm.advantage
        rewards_B, expected, noise = batch.rewards_B, None, self.config.correction.verifier
        if noise is not None and batch.verdicts is not None:
            expected = batch.verdicts.expected(batch.groups_B, noise)
            rewards_B = rewards_B + batch.verdicts.effects_B * (expected.right_B - batch.verdicts.values_B.nan_to_num())
        if kind == "reinforce_pp":
            penalty_B_T = torch.zeros(mask_B_T.shape) if kl_B_T is None else kl_B_T
            rewards_B_T = token_rewards(rewards_B, penalty_B_T, mask_B_T, self.kl.value)
            return reinforce_pp(rewards_B_T, mask_B_T), None
        if kl_B_T is not None:
            rewards_B = rewards_B - self.kl.value * sequence_kl(kl_B_T, mask_B_T)
        groups: GroupStatistics = group_statistics(rewards_B, batch.groups_B)
        if expected is not None and batch.verdicts is not None:
            groups = expected.widen(groups, batch.verdicts.effects_B)
        if kind == "reinforce_pp_baseline":
            return reinforce_pp_baseline(rewards_B, groups, mask_B_T), None
        eps = {"eps": 1e-4} if kind in {"group_std", "batch_std"} else {}
        return ADVANTAGES[kind](rewards_B, groups, **eps)[:, None].expand(mask_B_T.shape), None

    def _process_advantages(self, batch: RolloutBatch) -> Tensor:
        """Compute advantages from rewards per step of a completion."""
        process = self.config.algorithm.process
        steps, step_of_token = batch.steps or (), batch.step_of_token or ()
        return process_advantages(
            pad_sequence([torch.tensor(row) for row in steps], batch_first=True),
            pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in steps], batch_first=True),
            pad_sequence([torch.tensor(row) for row in step_of_token], batch_first=True, padding_value=-1),
            batch.groups_B,
            to_come=process is None or process.to_come,
        )

    def optimizer_steps(self, mask_B_T: Tensor, step: int) -> list[OptimizerStep]:
        """Divide the batch into optimiser steps, and weigh their tokens."""
        parts = self.parts(len(mask_B_T), step)
        whole = BatchTotals.of(mask_B_T).shared_by(len(parts) // self.config.epochs_per_batch)
        found = []
        for rows in parts:
            totals = whole if self.algorithm.reduction == "dapo" else BatchTotals.of(mask_B_T[rows])
            weights_B_T = torch.zeros(mask_B_T.shape)
            weights_B_T[rows] = token_weights(
                mask_B_T[rows],
                totals,
                self.algorithm.reduction,
                max_completion_length=self.config.rollout.max_new_tokens,
            )
            found.append(OptimizerStep(rows, weights_B_T))
        return found

    def parts(self, rows: int, step: int) -> list[list[int]]:
        """Return the rows of each optimiser step, epoch by epoch. Each epoch is shuffled; no part is empty."""
        config = self.config
        if config.updates_per_epoch == 1:
            return [list(range(rows))] * config.epochs_per_batch
        result = []
        for epoch in range(config.epochs_per_batch):
            generator = torch.Generator().manual_seed(step_seed(config.seed, step, "parts", epoch))
            order = torch.randperm(rows, generator=generator)
            result += [part.tolist() for part in order.tensor_split(min(config.updates_per_epoch, rows))]
        return result

    # --- update --------------------------------------------------------------------------------------------------------

    def rows_with_gradient(self, optimizer_step: OptimizerStep, inputs: UpdateInputs) -> list[int]:
        """Return the rows that have a gradient. Groups of equal rewards have none, unless KL is in the loss."""
        rows = optimizer_step.rows
        if self.adds_kl(inputs):
            return [row for row in rows if bool(inputs.mask_B_T[row].any())]
        pull_B_T = inputs.advantages_B_T * optimizer_step.weights_B_T * inputs.correction_B_T * inputs.mask_B_T
        return [row for row in rows if bool((pull_B_T[row] != 0).any())]

    def adds_kl(self, inputs: UpdateInputs) -> bool:
        """Return whether the loss has a KL term."""
        return inputs.ref_B_T is not None and self.config.kl.place == "loss"

    def optimizer_step(
        self, rows: Sequence[int], optimizer_step: OptimizerStep, inputs: UpdateInputs, measured: UpdateMetrics
    ) -> float:
        """Take one optimiser step on some rows, and return the norm of the gradient."""

        def backward(part: list[int]) -> Tensor:
            return self.backward([rows[index] for index in part], optimizer_step, inputs, measured)

        lengths = inputs.batch.lengths(rows)
        self.micro_batch_tokens = self.optimizer.accumulate(
            lengths,
            self.micro_batch_tokens,
            backward,
            through_model=self.trains_policy(inputs),
            packed=self.policy.packed_rows(
                [[length] for length in lengths], [inputs.batch.prompts[row] for row in rows]
            ),
        )
        return self.optimizer.step(inputs.step)

    def backward(
        self, rows: list[int], optimizer_step: OptimizerStep, inputs: UpdateInputs, measured: UpdateMetrics
    ) -> Tensor:
        """Add the gradient of some rows, and return their loss."""
        trains_policy = self.trains_policy(inputs)
        with torch.set_grad_enabled(trains_policy):
            found = self.policy.forward_logprobs(
                [inputs.batch.sequence(row) for row in rows],
                self.config.rollout.temperature,
                packed=self.policy.packing,
            )
        logprobs_B_T = found.logprobs_B_T
        columns = logprobs_B_T.shape[1]

        def part(whole_B_T: Tensor) -> Tensor:
            return whole_B_T[rows, :columns].to(logprobs_B_T.device)

        mask_B_T = part(inputs.mask_B_T)
        old_B_T = logprobs_B_T.detach() if inputs.old_B_T is None else part(inputs.old_B_T)
        token_loss = policy_loss(logprobs_B_T, old_B_T, part(inputs.advantages_B_T), mask_B_T, self.algorithm.loss)
        loss_B_T = part(inputs.correction_B_T) * token_loss.loss_B_T
        if inputs.ref_B_T is not None and self.adds_kl(inputs):
            loss_B_T = loss_B_T + self.kl.value * kl_loss(
                logprobs_B_T, old_B_T, part(inputs.ref_B_T), self.config.kl.chosen_estimator
            )
        loss = self.extra_loss(found, rows, optimizer_step, inputs, measured)
        if trains_policy:
            loss = weighted_loss(loss_B_T, part(optimizer_step.weights_B_T)) + (0 if loss is None else loss)
        assert loss is not None  # noqa: S101 - policy or critic is trained
        loss.backward()  # type: ignore[no-untyped-call]
        weighted_B_T = part(optimizer_step.weights_B_T) * loss_B_T.detach()
        measured.record(rows, weighted_B_T, logprobs_B_T, found.entropy_B_T, token_loss)
        return loss

    def extra_loss(
        self,
        found: TokenLogprobs,  # noqa: ARG002 - for subclasses, as are the others
        rows: list[int],  # noqa: ARG002
        optimizer_step: OptimizerStep,  # noqa: ARG002
        inputs: UpdateInputs,  # noqa: ARG002
        measured: UpdateMetrics,  # noqa: ARG002
    ) -> Tensor | None:
        """Return a further loss of the same forward pass, or None."""
        return None

    def trains_policy(self, inputs: UpdateInputs) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether the policy's loss is part of the loss."""
        return True

    # --- metrics -------------------------------------------------------------------------------------------------------

    def first_step_metrics(self, inputs: UpdateInputs, measured: UpdateMetrics) -> dict[str, float]:
        """Return how far rollout engine and reference model are from the policy that the batch was sampled with."""
        if inputs.old_B_T is not None:
            return self.distances(inputs.old_B_T, inputs.rollout_B_T, inputs.ref_B_T, inputs.mask_B_T)
        # The policy's log-probabilities are known for the rows that had a gradient.
        seen_B_T = inputs.mask_B_T & measured.seen_B[:, None]
        return self.distances(measured.logprobs_B_T, inputs.rollout_B_T, inputs.ref_B_T, seen_B_T)

    def distances(
        self, old_B_T: Tensor, rollout_B_T: Tensor, ref_B_T: Tensor | None, mask_B_T: Tensor
    ) -> dict[str, float]:
        """Compare the policy's log-probabilities with those of the rollout engine and of the reference model."""
        found = mismatch(old_B_T, rollout_B_T, mask_B_T)
        metrics = {
            "sampling_logp_difference": found.mean_difference,
            "sampling_logp_difference_max": found.max_difference,
            "sampling_kl": found.kl,
            "sampling_ess": found.effective_share,
        }
        if ref_B_T is not None:
            counts_B = mask_B_T.any(1)  # a completion without a token that counts says nothing about the policy
            metrics["kl"] = float(masked_mean(sequence_kl(old_B_T - ref_B_T, mask_B_T), counts_B))
            metrics["kl_per_token"] = float(masked_mean(kl_estimate(old_B_T, ref_B_T, "k3"), mask_B_T))
        return metrics

    def metrics(self, inputs: UpdateInputs, measured: UpdateMetrics, first: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics after the last optimiser step, and adapt the KL coefficient.

        Args:
            inputs: The batch.
            measured: What the optimiser steps measured.
            first: The metrics after the first optimiser step.
        """
        metrics: dict[str, float] = {}
        if inputs.ref_B_T is not None:
            self.kl.update(first["kl"], int(inputs.mask_B_T.any(1).sum()))
            metrics["kl_coefficient"] = self.kl.value
        return metrics | measured.summary() | {"rows_learned": float(measured.seen_B.sum())}
