"""Averages the losses of tokens: gives every token a weight, so that the loss of a batch is ``Σ l·w``.

The weights come from totals over the whole batch of an optimiser step. Totals add up, so a batch may be cut into
micro-batches, packed, or spread over ranks, and the gradient stays the same. (Known bugs of peers that divide within each
micro-batch: trl 3021, ms-swift 10117.)

Over several ranks, sum the totals over all of them, and sum the gradients: DDP averages, so multiply the loss by the number
of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rewardkit.train.config.rl import Reduction


@dataclass(frozen=True, slots=True)
class BatchTotals:
    """The totals of a batch that a reduction needs. ``a + b`` are the totals of both parts together."""

    rows: int
    """Completions, also those of which no token counts."""
    tokens: float
    """Tokens that count."""

    @classmethod
    def of(cls, loss_mask_B_T: Tensor) -> BatchTotals:
        """The totals of a batch, or of a part of it."""
        return cls(len(loss_mask_B_T), int(loss_mask_B_T.sum()))

    def shared_by(self, steps: int) -> BatchTotals:
        """The part of one of several equal optimiser steps: what ``dapo`` divides by where a generation batch makes several."""
        return BatchTotals(self.rows, self.tokens / steps)

    def __add__(self, other: BatchTotals) -> BatchTotals:
        return BatchTotals(self.rows + other.rows, self.tokens + other.tokens)


def token_weights(
    loss_mask_B_T: Tensor, totals: BatchTotals, reduction: Reduction, *, max_completion_length: int | None = None
) -> Tensor:
    """The weight of each token's loss.

    - ``grpo``: mean over rows of the mean over a row's tokens. Rows of which no token counts stay in the number of rows.
    - ``bnpo``, ``dapo``: sum over the tokens that count, divided by how many there are. They differ in the totals that are given:
      those of the optimiser step (bnpo), or of the whole generation batch (dapo, cispo), ``shared_by`` the steps that it makes:
      then a token weighs the same in each of them. Without the sharing, more steps per batch would mean smaller ones.
    - ``dr_grpo``: sum over tokens, divided by rows × ``max_completion_length``: a token weighs the same in any row.

    Args:
        loss_mask_B_T: Of any part of the batch; True: counts.
        totals: Of the whole batch.
        reduction: See above.
        max_completion_length: In tokens; for ``dr_grpo``.

    Returns:
        Weights in fp32, (B, T); 0 on tokens that do not count.

    Raises:
        ValueError: ``dr_grpo`` without ``max_completion_length``.
    """
    mask_B_T = loss_mask_B_T.float()
    match reduction:
        case "grpo":
            return mask_B_T / (mask_B_T.sum(1, keepdim=True).clamp(min=1) * max(totals.rows, 1))
        case "bnpo" | "dapo":
            return mask_B_T / max(totals.tokens, 1)
        case "dr_grpo":
            if not max_completion_length:
                raise ValueError("the reduction dr_grpo divides by max_completion_length, which is missing")
            return mask_B_T / (max(totals.rows, 1) * max_completion_length)


def weighted_loss(loss_B_T: Tensor, weights_B_T: Tensor) -> Tensor:
    """``Σ l·w``; NaN or infinity where the weight is 0 does not matter. Shape: ()."""
    return (torch.where(weights_B_T != 0, loss_B_T, 0) * weights_B_T).sum()
