"""Policy losses per token, before any reduction (see ``reduction``).

``d = logprobs − old`` is the log-ratio between the policy now and the one the batch was collected with, both by the trainer's
numerics; ``r = exp(d)``. d is clamped to ±20, beyond which r is no number to work with. Gradients flow through ``logprobs``
alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rewardkit.train.config.algorithms import PolicyLossSettings

MAX_LOG_RATIO = 20.0
MAX_SEQUENCE_LOG_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """The loss of each token and what became of its ratio."""

    loss_B_T: Tensor
    """With gradient; anything where a token does not count."""
    ratio_B_T: Tensor
    """``r`` (of the sequence, for gspo and sequence_clip); detached."""
    clipped_low_B_T: Tensor
    """bool. True: the ratio was too low and the token has no gradient (cispo: its weight was raised)."""
    clipped_high_B_T: Tensor
    """bool. True: the ratio was too high and the token has no gradient (cispo, dual_clip: see there)."""


def policy_loss(
    logprobs_B_T: Tensor,
    old_logprobs_B_T: Tensor,
    advantages_B_T: Tensor,
    loss_mask_B_T: Tensor,
    settings: PolicyLossSettings,
) -> TokenLoss:
    """The loss that ``settings`` names.

    Args:
        logprobs_B_T: Under the policy now, with gradient.
        old_logprobs_B_T: Under the policy that the batch was collected with. Pass ``logprobs_B_T.detach()`` for a batch that
            is used once.
        advantages_B_T: (B, T), or (B, 1) for one per row.
        loss_mask_B_T: True: counts. What stands in other tokens, even NaN, does not matter; they get no gradient.
        settings: The kind and its constants. ``sequence_clip`` is the clip of the ratio of whole completions, ``exp(Σ d)``, as
            TRL's RLOO has it; ``gspo`` that of its geometric mean per token. Both belong to the reduction ``grpo``.
    """
    advantages_B_T = advantages_B_T.detach().expand(logprobs_B_T.shape)
    # Infinities in padding would make NaN of a gradient of 0.
    logprobs_B_T = torch.where(loss_mask_B_T, logprobs_B_T, 0)
    old_logprobs_B_T = torch.where(loss_mask_B_T, old_logprobs_B_T.detach(), 0)
    log_ratio_B_T = clamped_log_ratio(logprobs_B_T, old_logprobs_B_T)
    match settings.kind:
        case "clip":
            return clip(log_ratio_B_T, advantages_B_T, settings.eps_low, settings.eps_high, settings.max_ratio)
        case "dual_clip":
            return dual_clip(log_ratio_B_T, advantages_B_T, settings.eps_low, settings.eps_high, settings.dual_clip)
        case "sequence_clip":
            summed_B = (logprobs_B_T - old_logprobs_B_T).sum(1, keepdim=True)
            sequence_B_T = summed_B.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).expand(logprobs_B_T.shape)
            return clip(sequence_B_T, advantages_B_T, settings.eps_low, settings.eps_high, settings.max_ratio)
        case "cispo":
            return cispo(logprobs_B_T, log_ratio_B_T, advantages_B_T, settings.cispo_low, settings.cispo_high)
        case "gspo":
            sequence_B_T = sequence_log_ratio(logprobs_B_T, log_ratio_B_T, loss_mask_B_T)
            return clip(sequence_B_T, advantages_B_T, settings.eps_low, settings.eps_high, settings.max_ratio)
        case "sapo":
            return sapo(log_ratio_B_T, advantages_B_T, settings.sapo_tau_positive, settings.sapo_tau_negative)
        case "reinforce":
            return reinforce(logprobs_B_T, log_ratio_B_T, advantages_B_T)


def clamped_log_ratio(logprobs_B_T: Tensor, old_logprobs_B_T: Tensor) -> Tensor:
    """``logprobs − old``, clamped to ±20. Shape: (B, T)."""
    return (logprobs_B_T - old_logprobs_B_T.detach()).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clip(
    log_ratio_B_T: Tensor, advantages_B_T: Tensor, eps_low: float, eps_high: float, max_ratio: float | None = None
) -> TokenLoss:
    """The clipped loss of PPO (https://arxiv.org/abs/1707.06347).

    ``−min(r·A, clip(r, 1−eps_low, 1+eps_high)·A)``.
    With ``max_ratio`` δ the first term has ``min(r, δ)`` (INTELLECT-2, https://arxiv.org/abs/2505.07291).
    """
    ratio_B_T = log_ratio_B_T.exp()
    bounded_B_T = ratio_B_T if max_ratio is None else ratio_B_T.clamp(max=max_ratio)
    clipped_B_T = ratio_B_T.clamp(1 - eps_low, 1 + eps_high)
    loss_B_T = -torch.minimum(bounded_B_T * advantages_B_T, clipped_B_T * advantages_B_T)
    detached_B_T = ratio_B_T.detach()
    too_high_B_T = (detached_B_T > 1 + eps_high) & (advantages_B_T > 0)
    if max_ratio is not None:
        too_high_B_T = too_high_B_T | ((detached_B_T > max_ratio) & (advantages_B_T < 0))
    return TokenLoss(loss_B_T, detached_B_T, (detached_B_T < 1 - eps_low) & (advantages_B_T < 0), too_high_B_T)


def dual_clip(
    log_ratio_B_T: Tensor, advantages_B_T: Tensor, eps_low: float, eps_high: float, bound: float = 3.0
) -> TokenLoss:
    """Dual clip (https://arxiv.org/abs/1912.09729): where A < 0, the loss of ``clip`` is at most ``−bound·A``."""
    if bound <= 1:
        raise ValueError(f"the bound of dual clip must be above 1, not {bound:g}")
    single = clip(log_ratio_B_T, advantages_B_T, eps_low, eps_high)
    is_negative_B_T = advantages_B_T < 0
    loss_B_T = torch.where(is_negative_B_T, torch.minimum(-bound * advantages_B_T, single.loss_B_T), single.loss_B_T)
    too_high_B_T = single.clipped_high_B_T | (is_negative_B_T & (single.ratio_B_T > bound))
    return TokenLoss(loss_B_T, single.ratio_B_T, single.clipped_low_B_T, too_high_B_T)


def cispo(
    logprobs_B_T: Tensor, log_ratio_B_T: Tensor, advantages_B_T: Tensor, low: float = 0.0, high: float = 5.0
) -> TokenLoss:
    """CISPO (MiniMax-M1, https://arxiv.org/abs/2506.13585): ``−stopgrad(clip(r, low, high))·A·logprob``.

    ``low`` and ``high`` are ratios. TRL has [0, 5]; verl's [1−εl, 1+εh] and open-instruct's [0, 1+εh] are other choices of
    them. Every token keeps a gradient; clipped are the weights.
    """
    ratio_B_T = log_ratio_B_T.detach().exp()
    loss_B_T = -ratio_B_T.clamp(low, high) * advantages_B_T * logprobs_B_T
    return TokenLoss(loss_B_T, ratio_B_T, ratio_B_T < low, ratio_B_T > high)


def sequence_log_ratio(logprobs_B_T: Tensor, log_ratio_B_T: Tensor, loss_mask_B_T: Tensor) -> Tensor:
    """GSPO's log-ratio of a row (https://arxiv.org/abs/2507.18071), the same for all its tokens.

    ``min(lp − sg(lp) + sg(Σ d·m / max(Σ m, 1)), 10)``: its value is the mean log-ratio of the row, its gradient that of the
    token, as verl has it. Under the reduction ``grpo`` that is the gradient of the row's mean. Shape: (B, T).
    """
    mask_B_T = loss_mask_B_T.to(log_ratio_B_T.dtype)
    summed_B = torch.where(loss_mask_B_T, log_ratio_B_T.detach(), 0).sum(1)
    mean_B = summed_B / mask_B_T.sum(1).clamp(min=1)
    return (logprobs_B_T - logprobs_B_T.detach() + mean_B[:, None]).clamp(max=MAX_SEQUENCE_LOG_RATIO)


def sapo(
    log_ratio_B_T: Tensor, advantages_B_T: Tensor, tau_positive: float = 1.0, tau_negative: float = 1.05
) -> TokenLoss:
    """SAPO (https://arxiv.org/abs/2511.20347): a soft gate instead of a clip, ``−A·σ(τ(r − 1))·4/τ``.

    τ is ``tau_positive`` where A > 0, else ``tau_negative``. Nothing is clipped.
    """
    ratio_B_T = log_ratio_B_T.exp()
    tau_B_T = torch.where(advantages_B_T > 0, tau_positive, tau_negative).to(ratio_B_T.dtype)
    loss_B_T = -advantages_B_T * torch.sigmoid(tau_B_T * (ratio_B_T - 1)) * 4 / tau_B_T
    never_B_T = torch.zeros_like(ratio_B_T, dtype=torch.bool)
    return TokenLoss(loss_B_T, ratio_B_T.detach(), never_B_T, never_B_T)


def reinforce(logprobs_B_T: Tensor, log_ratio_B_T: Tensor, advantages_B_T: Tensor) -> TokenLoss:
    """REINFORCE and RLOO: ``−A·logprob``; for a batch that is used once."""
    never_B_T = torch.zeros_like(logprobs_B_T, dtype=torch.bool)
    return TokenLoss(-advantages_B_T * logprobs_B_T, log_ratio_B_T.detach().exp(), never_B_T, never_B_T)
