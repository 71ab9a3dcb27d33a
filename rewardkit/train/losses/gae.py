"""Generalised advantage estimation and the critic's loss, for PPO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from rewardkit.train.losses.masked_statistics import whiten

if TYPE_CHECKING:
    from torch import Tensor
T = TypeVar("T")


def explained_variance(predictions: Tensor, targets: Tensor) -> float:
    """``1 − Var(targets − predictions)/Var(targets)`` of one-dimensional tensors: how much of the returns the critic sees.

    1 is perfect, 0 no better than a constant, and below that worse. NaN where the targets do not vary.
    """
    if len(targets) < 2 or bool(targets.max() == targets.min()):
        return math.nan
    return 1 - float((targets - predictions).var() / targets.var())


__all__ = ["Estimates", "ValueLoss", "gae", "value_loss", "whiten"]


@dataclass(frozen=True, slots=True)
class Estimates:
    """The estimates of GAE, without gradient; 0 outside of the mask."""

    advantages_B_T: Tensor
    """Not whitened: whiten them over the whole batch with ``whiten``."""
    returns_B_T: Tensor
    """``advantages + values``: what the critic should have said."""


def gae(
    rewards_B_T: Tensor, values_B_T: Tensor, loss_mask_B_T: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> Estimates:
    """GAE(λ) (https://arxiv.org/abs/1506.02438) over the tokens that count.

    From the last token to the first, with ``next value = carry = 0``: ``δ = R_t + γ·next − V_t; x = δ + γλ·carry``; where the
    token counts, ``next = V_t; carry = x``. Tokens that don't (tool output, padding) are passed over: both are carried across.

    Args:
        rewards_B_T: Reward of each token; those of tokens that do not count are not seen.
        values_B_T: The critic's values when the batch was collected.
        loss_mask_B_T: True: counts.
        gamma: Discount per token that counts.
        lam: λ; 1 is the Monte-Carlo return less the value, 0 the one-step error.
    """
    rewards_B_T, values_B_T = rewards_B_T.detach(), values_B_T.detach()
    next_value_B = values_B_T.new_zeros(len(values_B_T))
    carry_B = torch.zeros_like(next_value_B)
    advantages_B_T = torch.zeros_like(values_B_T)
    for t in reversed(range(values_B_T.shape[1])):
        counts_B = loss_mask_B_T[:, t]
        delta_B = rewards_B_T[:, t] + gamma * next_value_B - values_B_T[:, t]
        carry_B = torch.where(counts_B, delta_B + gamma * lam * carry_B, carry_B)
        next_value_B = torch.where(counts_B, values_B_T[:, t], next_value_B)
        advantages_B_T[:, t] = torch.where(counts_B, carry_B, 0)
    returns_B_T = torch.where(loss_mask_B_T, advantages_B_T + values_B_T, 0)
    return Estimates(advantages_B_T, returns_B_T)


@dataclass(frozen=True, slots=True)
class ValueLoss:
    """The critic's loss per token, before reduction."""

    loss_B_T: Tensor
    """With gradient."""
    clipped_B_T: Tensor
    """bool. True: the clipped term was the greater."""


def value_loss(values_B_T: Tensor, old_values_B_T: Tensor, returns_B_T: Tensor, clip: float | None = 0.2) -> ValueLoss:
    """``0.5·max((v − ret)², (clip(v, v_old ± c) − ret)²)`` per token; reduce it with ``token_weights(…, "bnpo")``.

    Args:
        values_B_T: The critic's values now, with gradient.
        old_values_B_T: Its values when the batch was collected.
        returns_B_T: From ``gae``.
        clip: How far values may move, in units of reward; None for any distance.
    """
    plain_B_T = (values_B_T - returns_B_T).square()
    if clip is None:
        return ValueLoss(0.5 * plain_B_T, torch.zeros_like(plain_B_T, dtype=torch.bool))
    old_B_T = old_values_B_T.detach()
    clipped_B_T = (values_B_T.clamp(old_B_T - clip, old_B_T + clip) - returns_B_T).square()
    return ValueLoss(0.5 * torch.maximum(plain_B_T, clipped_B_T), (clipped_B_T > plain_B_T).detach())
