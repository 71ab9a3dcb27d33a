"""Estimates of the KL divergence from a reference model, the KL penalty, and its coefficient β.

With tokens drawn from the policy (Schulman, http://joschu.net/blog/kl-approx.html), k1 is unbiased with a large variance, k2 is biased
with a small variance, and k3 is unbiased with a small variance. For a penalty the expected gradient matters, not the value:

- As a term of the loss, k2 has the gradient of KL(policy ‖ reference). So has k3 times the probability ratio, also for tokens that were
  drawn from an earlier policy. k1 has gradient 0, and k3 without the ratio has the gradient of KL(reference ‖ policy).
- As a part of the reward, k1 has the gradient of KL(policy ‖ reference). k2 and k3 do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

KLKind: TypeAlias = Literal["k1", "k2", "k3"]

MAX_LOG_RATIO = 20.0
MAX_K3 = 10.0


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kind: KLKind, *, clamp_k3: bool = False) -> Tensor:
    """Estimate the KL divergence of the policy from the reference model at each token.

    Args:
        logprobs: Log-probabilities under the policy, of any shape.
        ref_logprobs: Log-probabilities under the reference model, of the same shape.
        kind: k1 ``lp − ref``, k2 ``½(lp − ref)²``, or k3 ``e^{ref−lp} − (ref−lp) − 1``.
        clamp_k3: Clamp k3 to ±10, as verl does. Its exponent is always clamped to ±20.

    Returns:
        The estimates, of the shape of the arguments.
    """
    difference = logprobs - ref_logprobs.detach()
    match kind:
        case "k1":
            return difference
        case "k2":
            return 0.5 * difference.square()
        case "k3":
            exponent = (-difference).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
            k3 = exponent.exp() - exponent - 1
            return k3.clamp(-MAX_K3, MAX_K3) if clamp_k3 else k3


def kl_loss(logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, kind: KLKind) -> Tensor:
    """Return the KL penalty of each token as a term of the loss, with gradient.

    Args:
        logprobs: Log-probabilities under the policy, of any shape, with gradient.
        old_logprobs: Log-probabilities under the policy that the tokens were drawn from.
        ref_logprobs: Log-probabilities under the reference model.
        kind: k2, or k3, which is multiplied by the ratio ``e^{lp−old}``. k1 would have an expected gradient of 0.

    Raises:
        ValueError: The kind is k1.
    """
    if kind == "k1":
        raise ValueError("k1 has an expected gradient of 0 in the loss")
    estimate = kl_estimate(logprobs, ref_logprobs, kind)
    if kind == "k2":
        return estimate
    return (logprobs - old_logprobs.detach()).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * estimate


def sequence_kl(kl_B_T: Tensor, loss_mask_B_T: Tensor) -> Tensor:
    """Sum the estimates over the tokens that count of each completion. Shape: (B,)."""
    return torch.where(loss_mask_B_T, kl_B_T, 0).sum(1)


def token_rewards(rewards_B: Tensor, kl_B_T: Tensor, loss_mask_B_T: Tensor, beta: float) -> Tensor:
    """Return rewards per token that contain the KL penalty (InstructGPT, https://arxiv.org/abs/2203.02155).

    Each token that counts gets ``−β·kl``, and the last of them also gets the completion's reward.

    Args:
        rewards_B: The reward of each completion.
        kl_B_T: The KL estimate of each token, usually k1 of the policy that sampled it.
        loss_mask_B_T: bool. True for tokens that count.
        beta: The coefficient.

    Returns:
        Rewards without gradient, (B, T). A row without a token that counts gets no reward.
    """
    penalty_B_T = torch.where(loss_mask_B_T, -beta * kl_B_T.detach(), 0)
    is_last_B_T = loss_mask_B_T & (loss_mask_B_T.long().flip(1).cumsum(1).flip(1) == 1)
    return penalty_B_T + torch.where(is_last_B_T, rewards_B[:, None].to(penalty_B_T.dtype), 0)


class KLController(Protocol):
    """Sets the coefficient β. Checkpoints keep ``value``."""

    value: float
    """The current β."""

    def update(self, kl: float, completions: int) -> None:
        """Adapt β to the mean ``sequence_kl`` of some completions."""
        ...


@dataclass(slots=True)
class FixedKL:
    """A constant β."""

    value: float

    def update(self, kl: float, completions: int) -> None:
        """Do nothing."""


@dataclass(slots=True)
class AdaptiveKL:
    """A proportional controller (Ziegler et al. 2019, https://arxiv.org/abs/1909.08593, section 2.2).

    ``β *= 1 + clip(kl/target − 1, ±0.2)·completions/horizon``
    """

    value: float
    target: float
    """The KL divergence per completion to reach, in nats."""
    horizon: float
    """The number of completions over which an error of 20 % changes β by 20 %."""

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.horizon > 0):
            raise ValueError(
                f"target ({self.target:g}) and horizon ({self.horizon:g}) of an adaptive KL must be above 0"
            )

    def update(self, kl: float, completions: int) -> None:
        """Raise β if the KL divergence is above the target, and lower it if below."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.value *= 1 + error * completions / self.horizon
