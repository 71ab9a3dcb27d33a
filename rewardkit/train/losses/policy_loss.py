"""Policy losses of tokens, before they are averaged (see ``reduction``).

A loss takes a ``PolicyLossInputs`` and returns a ``TokenLoss``, or the loss tensor alone. It is a class whose fields are its
settings, or a function whose keyword-only parameters are. To add one, write it here and list it in ``POLICY_LOSSES``; a
configuration can also name one in any module: ``algorithm: {loss: {use: "my_package.losses:my_loss", with: {…}}}``.

This module does not import torch, so that the settings of a loss can be checked where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to ±20, so that their exponential stays finite."""
MAX_SEQUENCE_LOG_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class PolicyLossInputs:
    """The tensors that a policy loss is computed from. Gradients flow through ``logprobs_B_T`` alone.

    B is the number of completions, T the number of tokens of the longest one.
    """

    logprobs_B_T: Tensor
    """Log-probabilities of the sampled tokens under the present policy, with gradient. 0 where the mask is False."""
    old_logprobs_B_T: Tensor
    """The same under the policy that the batch was sampled with, without gradient. 0 where the mask is False."""
    advantages_B_T: Tensor
    """Advantages, without gradient."""
    mask_B_T: Tensor
    """bool. True for tokens that count in the loss."""

    @property
    def log_ratio_B_T(self) -> Tensor:
        """``logprobs − old_logprobs``, clamped to ±20, with gradient."""
        return clamped_log_ratio(self.logprobs_B_T, self.old_logprobs_B_T)


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """The loss of each token, and what the metrics need to know about its ratio."""

    loss_B_T: Tensor
    """The loss, with gradient. Values where the mask is False are ignored."""
    ratio_B_T: Tensor
    """The probability ratio (of the whole completion, for gspo and sequence_clip), without gradient."""
    clipped_low_B_T: Tensor
    """bool. True if the ratio was too low, so that the token has no gradient (cispo: its weight was raised)."""
    clipped_high_B_T: Tensor
    """bool. True if the ratio was too high, so that the token has no gradient (cispo: its weight was lowered)."""


PolicyLoss = Callable[[PolicyLossInputs], "TokenLoss | Tensor"]
"""A loss with its settings bound."""


def policy_loss(
    logprobs_B_T: Tensor, old_logprobs_B_T: Tensor, advantages_B_T: Tensor, loss_mask_B_T: Tensor, loss: PolicyLoss
) -> TokenLoss:
    """Compute a policy loss.

    Args:
        logprobs_B_T: Log-probabilities under the present policy, with gradient.
        old_logprobs_B_T: Log-probabilities under the policy that the batch was sampled with. Pass ``logprobs_B_T.detach()``
            for a batch that is used once.
        advantages_B_T: (B, T), or (B, 1) for one per completion.
        loss_mask_B_T: bool. Tokens where it is False get no gradient, whatever their values, NaN included.
        loss: The loss, with its settings.
    """
    # Infinities in padding would turn a gradient of 0 into NaN, so values outside the mask are replaced first.
    inputs = PolicyLossInputs(
        logprobs_B_T.where(loss_mask_B_T, 0.0),
        old_logprobs_B_T.detach().where(loss_mask_B_T, 0.0),
        advantages_B_T.detach().expand(logprobs_B_T.shape),
        loss_mask_B_T,
    )
    found = loss(inputs)
    if isinstance(found, TokenLoss):
        return found
    return _unclipped(found, inputs.log_ratio_B_T.detach().exp())


def clamped_log_ratio(logprobs_B_T: Tensor, old_logprobs_B_T: Tensor) -> Tensor:
    """Return ``logprobs − old_logprobs``, clamped to ±20. Shape: (B, T)."""
    return (logprobs_B_T - old_logprobs_B_T.detach()).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_log_ratio(inputs: PolicyLossInputs) -> Tensor:
    """Return GSPO's log-ratio of each completion (https://arxiv.org/abs/2507.18071), repeated for its tokens.

    ``min(lp − sg(lp) + sg(Σ d·m / max(Σ m, 1)), 10)``: the value is the completion's mean log-ratio, the gradient is the
    token's own, as in verl. Under the reduction ``grpo`` this is the gradient of the completion's mean. Shape: (B, T).
    """
    log_ratio_B_T = inputs.log_ratio_B_T.detach()
    summed_B = log_ratio_B_T.where(inputs.mask_B_T, 0.0).sum(1)
    mean_B = summed_B / inputs.mask_B_T.to(log_ratio_B_T.dtype).sum(1).clamp(min=1)
    straight_through_B_T = inputs.logprobs_B_T - inputs.logprobs_B_T.detach()
    return (straight_through_B_T + mean_B[:, None]).clamp(max=MAX_SEQUENCE_LOG_RATIO)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The clipped loss of PPO (https://arxiv.org/abs/1707.06347): ``−min(r·A, clip(r, 1−eps_low, 1+eps_high)·A)``.

    Args:
        eps_low: The ratio is clipped below ``1 − eps_low``.
        eps_high: The ratio is clipped above ``1 + eps_high`` (DAPO: 0.28).
        max_ratio: An upper bound δ of the unclipped ratio: the first term is ``min(r, δ)·A`` (INTELLECT-2,
            https://arxiv.org/abs/2505.07291).
    """

    eps_low: Annotated[float, Gt(0)] = 0.2
    eps_high: Annotated[float, Gt(0)] = 0.2
    max_ratio: Annotated[float, Gt(1)] | None = None

    def __call__(self, inputs: PolicyLossInputs) -> TokenLoss:
        """Clip each token's ratio."""
        return self.of(inputs.log_ratio_B_T, inputs.advantages_B_T)

    def of(self, log_ratio_B_T: Tensor, advantages_B_T: Tensor) -> TokenLoss:
        """Clip given ratios."""
        ratio_B_T = log_ratio_B_T.exp()
        bounded_B_T = ratio_B_T if self.max_ratio is None else ratio_B_T.clamp(max=self.max_ratio)
        clipped_B_T = ratio_B_T.clamp(1 - self.eps_low, 1 + self.eps_high)
        loss_B_T = -(bounded_B_T * advantages_B_T).minimum(clipped_B_T * advantages_B_T)
        detached_B_T = ratio_B_T.detach()
        too_high_B_T = (detached_B_T > 1 + self.eps_high) & (advantages_B_T > 0)
        if self.max_ratio is not None:
            too_high_B_T = too_high_B_T | ((detached_B_T > self.max_ratio) & (advantages_B_T < 0))
        too_low_B_T = (detached_B_T < 1 - self.eps_low) & (advantages_B_T < 0)
        return TokenLoss(loss_B_T, detached_B_T, too_low_B_T, too_high_B_T)


@dataclass(frozen=True, kw_only=True)
class DualClip(Clip):
    """Dual clip (https://arxiv.org/abs/1912.09729): where A < 0, the loss of ``clip`` is at most ``bound·|A|``.

    Args:
        eps_low: The ratio is clipped below ``1 − eps_low``.
        eps_high: The ratio is clipped above ``1 + eps_high``.
        max_ratio: An upper bound of the unclipped ratio.
        bound: The bound, as a ratio.
    """

    bound: Annotated[float, Gt(1)] = 3.0

    def of(self, log_ratio_B_T: Tensor, advantages_B_T: Tensor) -> TokenLoss:
        """Clip given ratios, and bound the loss of tokens with a negative advantage."""
        single = super().of(log_ratio_B_T, advantages_B_T)
        is_negative_B_T = advantages_B_T < 0
        loss_B_T = single.loss_B_T.minimum(-self.bound * advantages_B_T).where(is_negative_B_T, single.loss_B_T)
        too_high_B_T = single.clipped_high_B_T | (is_negative_B_T & (single.ratio_B_T > self.bound))
        return replace(single, loss_B_T=loss_B_T, clipped_high_B_T=too_high_B_T)


class SequenceClip(Clip):
    """``clip`` with the ratio of the whole completion, ``exp(Σ d)``, as in TRL's RLOO. Use it with the reduction ``grpo``.

    Args:
        eps_low: The ratio is clipped below ``1 − eps_low``.
        eps_high: The ratio is clipped above ``1 + eps_high``.
        max_ratio: An upper bound of the unclipped ratio.
    """

    def __call__(self, inputs: PolicyLossInputs) -> TokenLoss:
        """Clip each completion's ratio."""
        summed_B = (inputs.logprobs_B_T - inputs.old_logprobs_B_T).sum(1, keepdim=True)
        log_ratio_B_T = summed_B.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).expand(inputs.logprobs_B_T.shape)
        return self.of(log_ratio_B_T, inputs.advantages_B_T)


@dataclass(frozen=True, kw_only=True)
class Gspo(Clip):
    """GSPO (https://arxiv.org/abs/2507.18071): ``clip`` with the geometric mean of a completion's ratios.

    Use it with the reduction ``grpo``.

    Args:
        eps_low: The ratio is clipped below ``1 − eps_low``.
        eps_high: The ratio is clipped above ``1 + eps_high``.
        max_ratio: An upper bound of the unclipped ratio.
    """

    eps_low: Annotated[float, Gt(0)] = 3e-4
    eps_high: Annotated[float, Gt(0)] = 4e-4

    def __call__(self, inputs: PolicyLossInputs) -> TokenLoss:
        """Clip each completion's mean ratio."""
        return self.of(sequence_log_ratio(inputs), inputs.advantages_B_T)


@dataclass(frozen=True, kw_only=True)
class Cispo:
    """CISPO (MiniMax-M1, https://arxiv.org/abs/2506.13585): ``−sg(clip(r, low, high))·A·logprob``.

    Every token keeps a gradient; the weights are clipped. TRL uses [0, 5], verl [1 − ε, 1 + ε], open-instruct [0, 1 + ε].

    Args:
        low: The least weight, as a ratio (not a distance from 1).
        high: The greatest weight, as a ratio.
    """

    low: Annotated[float, Ge(0)] = 0.0
    high: Annotated[float, Gt(0)] = 5.0

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) is not below high ({self.high:g})")

    def __call__(self, inputs: PolicyLossInputs) -> TokenLoss:
        """Weight each token's log-probability with its clipped ratio."""
        ratio_B_T = inputs.log_ratio_B_T.detach().exp()
        loss_B_T = -ratio_B_T.clamp(self.low, self.high) * inputs.advantages_B_T * inputs.logprobs_B_T
        return TokenLoss(loss_B_T, ratio_B_T, ratio_B_T < self.low, ratio_B_T > self.high)


@dataclass(frozen=True, kw_only=True)
class Sapo:
    """SAPO (https://arxiv.org/abs/2511.20347): a soft gate instead of a clip, ``−A·σ(τ(r − 1))·4/τ``.

    Args:
        tau_positive: τ of tokens with a positive advantage.
        tau_negative: τ of the others.
    """

    tau_positive: Annotated[float, Gt(0)] = 1.0
    tau_negative: Annotated[float, Gt(0)] = 1.05

    def __call__(self, inputs: PolicyLossInputs) -> TokenLoss:
        """Weight each token by the gate."""
        ratio_B_T = inputs.log_ratio_B_T.exp()
        tau_B_T = ratio_B_T.new_full(ratio_B_T.shape, self.tau_negative)
        tau_B_T = tau_B_T.masked_fill(inputs.advantages_B_T > 0, self.tau_positive)
        loss_B_T = -inputs.advantages_B_T * (tau_B_T * (ratio_B_T - 1)).sigmoid() * 4 / tau_B_T
        return _unclipped(loss_B_T, ratio_B_T.detach())


def reinforce(inputs: PolicyLossInputs) -> Tensor:
    """REINFORCE: ``−A·logprob``. It has no ratio, so that it is right only for the first update of a batch."""
    return -inputs.advantages_B_T * inputs.logprobs_B_T


def _unclipped(loss_B_T: Tensor, ratio_B_T: Tensor) -> TokenLoss:
    none_B_T = ratio_B_T < 0
    return TokenLoss(loss_B_T, ratio_B_T, none_B_T, none_B_T)


POLICY_LOSSES: Mapping[str, Any] = {
    "clip": Clip,
    "dual_clip": DualClip,
    "sequence_clip": SequenceClip,
    "gspo": Gspo,
    "cispo": Cispo,
    "sapo": Sapo,
    "reinforce": reinforce,
}
"""The losses by the name that a configuration gives as ``algorithm.loss``."""
ONE_UPDATE_PER_BATCH = frozenset({"reinforce"})
"""Losses without a probability ratio. A second update of the same batch would follow the gradient of another policy."""
