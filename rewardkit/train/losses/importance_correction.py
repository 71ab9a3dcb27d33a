"""The sampler and the trainer compute different log-probabilities of one policy: weights that make up for it, and how far
apart they are.

``old`` are the trainer's log-probabilities of the sampled tokens under the weights that sampled them, ``roll`` the sampler's.
"""  # noqa: D205 - one sentence

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from rewardkit.train.losses.masked_statistics import masked_mean

if TYPE_CHECKING:
    from torch import Tensor
T = TypeVar("T")


def effective_sample_size(weights: Tensor) -> float:
    """Kish's ``(Σ w)² / Σ w²``: as many equal weights would vary as much. 0 where all are 0.

    Args:
        weights: Not negative, any shape.
    """
    greatest = weights.max() if weights.numel() else 0
    if not greatest:
        return 0.0
    scaled = weights / greatest  # the result is the same, and squares can't overflow
    return float(scaled.sum().square() / scaled.square().sum())


CorrectionKind: TypeAlias = Literal["truncate", "mask"]
CorrectionLevel: TypeAlias = Literal["token", "sequence"]

MAX_LOG_RATIO = 20.0


def correction_weights(
    old_logprobs_B_T: Tensor,
    rollout_logprobs_B_T: Tensor,
    loss_mask_B_T: Tensor,
    *,
    kind: CorrectionKind = "truncate",
    level: CorrectionLevel = "token",
    low: float = 0.0,
    high: float = 2.0,
) -> Tensor:
    """Factors for the loss of each token, without gradient.

    ``truncate`` is truncated importance sampling (https://fengyao.notion.site/off-policy-rl):
    ``min(exp(clamp(old − roll, ±20)), high)``. ``mask`` keeps the ratio where it is within [low, high] and is 0 elsewhere
    (IcePop, https://arxiv.org/abs/2510.18855). At level ``sequence`` the ratio is ``exp(Σ_t (old − roll))``, one for a row.

    Args:
        old_logprobs_B_T: The trainer's.
        rollout_logprobs_B_T: The sampler's.
        loss_mask_B_T: True: counts. Other tokens are left out of sums, and get 1 at level ``token``.
        kind: See above.
        level: One factor per token, or one per row.
        low: Least ratio that ``mask`` keeps; ``truncate`` does not read it.
        high: Greatest ratio.

    Returns:
        Factors, (B, T); the same along a row at level ``sequence``.
    """
    log_ratio_B_T = torch.where(loss_mask_B_T, old_logprobs_B_T - rollout_logprobs_B_T, 0).detach()
    if level == "sequence":
        log_ratio_B_T = log_ratio_B_T.sum(1, keepdim=True).expand(log_ratio_B_T.shape)
    ratio_B_T = log_ratio_B_T.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    if kind == "truncate":
        return ratio_B_T.clamp(max=high)
    return torch.where((ratio_B_T >= low) & (ratio_B_T <= high), ratio_B_T, 0)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The distance between the log-probabilities of sampler and trainer, over the tokens in the mask."""

    max_difference: float
    """Greatest ``|old − roll|``; 5e-7 is healthy in fp32, and stale weights make it 0.8 and more."""
    mean_difference: float
    """Mean ``|old − roll|``."""
    kl: float
    """k3 estimate of KL(sampler ‖ trainer) per token, in nats."""
    effective_share: float
    """Effective sample size of the token ratios by their number, from 0 to 1."""


def mismatch(old_logprobs_B_T: Tensor, rollout_logprobs_B_T: Tensor, loss_mask_B_T: Tensor) -> Mismatch:
    """Measure the distance; all 0, and a share of 1, where no token counts."""
    log_ratio_B_T = torch.where(loss_mask_B_T, old_logprobs_B_T - rollout_logprobs_B_T, 0).detach()
    if not bool(loss_mask_B_T.any()):
        return Mismatch(0.0, 0.0, 0.0, 1.0)
    clamped_B_T = log_ratio_B_T.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio_B_T = clamped_B_T.exp()
    return Mismatch(
        max_difference=float(log_ratio_B_T.abs().max()),
        mean_difference=float(masked_mean(log_ratio_B_T.abs(), loss_mask_B_T)),
        kl=float(masked_mean(ratio_B_T - clamped_B_T - 1, loss_mask_B_T)),
        effective_share=effective_sample_size(ratio_B_T[loss_mask_B_T]) / int(loss_mask_B_T.sum()),
    )
