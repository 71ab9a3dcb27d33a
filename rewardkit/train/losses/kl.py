"""Estimates of the KL divergence from a reference, where they enter, and what sets their coefficient β.

Schulman, http://joschu.net/blog/kl-approx.html: with x drawn from the policy, k1 is unbiased with much variance, k2 is biased
with little, k3 is unbiased with little. As a term of the loss it is their gradient that counts, and there it is k2 whose
gradient is that of the KL divergence (in expectation, on policy); k1's is 0, and k3's is that of the other direction.
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
    """An estimate for each token of how far the policy went from the reference.

    Args:
        logprobs: Under the policy; any shape.
        ref_logprobs: Under the reference; the same shape.
        kind: k1 ``lp − ref``, k2 ``½(lp − ref)²``, or k3 ``e^{ref−lp} − (ref−lp) − 1``.
        clamp_k3: Clamp k3 to ±10, as verl does. Its exponent is always clamped to ±20.

    Returns:
        The estimate, shaped as the arguments.
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


def sequence_kl(kl_B_T: Tensor, loss_mask_B_T: Tensor) -> Tensor:
    """The estimate for whole completions: the sum over the tokens that count. Shape: (B,)."""
    return torch.where(loss_mask_B_T, kl_B_T, 0).sum(1)


def token_rewards(rewards_B: Tensor, kl_B_T: Tensor, loss_mask_B_T: Tensor, beta: float) -> Tensor:
    """Rewards per token with the KL penalty in them (InstructGPT, https://arxiv.org/abs/2203.02155): ``−β·kl`` on every
    token that counts, and the completion's reward on the last of them.

    Args:
        rewards_B: The reward of each completion.
        kl_B_T: The estimate per token, as a rule k1 between the policy that sampled and the reference.
        loss_mask_B_T: True: counts.
        beta: The coefficient.

    Returns:
        Rewards without gradient, (B, T). A row of which no token counts gets none: its reward is lost.
    """  # noqa: D205 - one sentence
    penalty_B_T = torch.where(loss_mask_B_T, -beta * kl_B_T.detach(), 0)
    is_last_B_T = loss_mask_B_T & (loss_mask_B_T.long().flip(1).cumsum(1).flip(1) == 1)
    return penalty_B_T + torch.where(is_last_B_T, rewards_B[:, None].to(penalty_B_T.dtype), 0)


class KLController(Protocol):
    """What sets β. Its state is plain numbers, kept in checkpoints."""

    value: float
    """β now."""

    def update(self, kl: float, completions: int) -> None:
        """Take note of the mean ``sequence_kl`` of so many completions."""
        ...


@dataclass(slots=True)
class FixedKL:
    """β stays what it is."""

    value: float

    def update(self, kl: float, completions: int) -> None:
        """Nothing changes."""


@dataclass(slots=True)
class AdaptiveKL:
    """A proportional controller (Ziegler et al. 2019, https://arxiv.org/abs/1909.08593, section 2.2).

    ``β *= 1 + clip(kl/target − 1, ±0.2)·completions/horizon``
    """

    value: float
    target: float
    """The KL divergence per completion that is aimed at, in nats."""
    horizon: float
    """Completions over which an error of 20 % changes β by 20 %."""

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.horizon > 0):
            raise ValueError(
                f"target ({self.target:g}) and horizon ({self.horizon:g}) of an adaptive KL must be above 0"
            )

    def update(self, kl: float, completions: int) -> None:
        """Raise β where the KL divergence is above the target, lower it where below."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.value *= 1 + error * completions / self.horizon
