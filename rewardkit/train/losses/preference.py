"""Losses on pairs of which one answer was preferred: Bradley–Terry for reward models, DPO for policies. P is the pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

DPOKind: TypeAlias = Literal["sigmoid", "ipo", "hinge"]


def bradley_terry(
    chosen_P: Tensor,
    rejected_P: Tensor,
    margin_P: Tensor | None = None,
    *,
    centring: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss of a reward model per pair: ``−log σ(chosen − rejected − margin) + centring·(chosen + rejected)²``.

    ``label_smoothing`` ε makes the first term ``−(1−ε)·log σ(d) − ε·log σ(−d)`` of the difference d.

    Args:
        chosen_P: Scores of the preferred answers.
        rejected_P: Scores of the others.
        margin_P: By how much the preferred should lead (Llama 2, https://arxiv.org/abs/2307.09288), or None.
        centring: Pulls the scores of a pair to a mean of 0 (https://arxiv.org/abs/2312.09244); without it they have no zero.
        label_smoothing: The share of pairs believed to be labelled the wrong way round.

    Returns:
        Losses, (P,). Their mean over the whole batch is the loss of a step.
    """
    lead_P = chosen_P - rejected_P
    lead_P = lead_P if margin_P is None else lead_P - margin_P
    loss_P = -logsigmoid(lead_P)
    if label_smoothing:
        loss_P = (1 - label_smoothing) * loss_P - label_smoothing * logsigmoid(-lead_P)
    return loss_P + centring * (chosen_P + rejected_P).square() if centring else loss_P


def step_cross_entropy(logits_S: Tensor, labels_S: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The loss of a process reward model per step: ``−y·log σ(z) − (1−y)·log σ(−z)`` (https://arxiv.org/abs/2305.20050).

    Args:
        logits_S: The model's output at the last token of each step.
        labels_S: 1 for a right step, 0 for a wrong one, or the probability that it is right.
        label_smoothing: The share of steps believed to be labelled the wrong way round.

    Returns:
        Losses, (S,).
    """
    labels_S = labels_S * (1 - 2 * label_smoothing) + label_smoothing if label_smoothing else labels_S
    return -labels_S * logsigmoid(logits_S) - (1 - labels_S) * logsigmoid(-logits_S)


def sequence_logprobs(logprobs_B_T: Tensor, loss_mask_B_T: Tensor, *, average: bool = False) -> Tensor:
    """Log-probability of whole responses: the sum over the tokens that count, or their mean. Shape: (B,)."""
    summed_B = torch.where(loss_mask_B_T, logprobs_B_T, 0).sum(1)
    return summed_B / loss_mask_B_T.sum(1).clamp(min=1) if average else summed_B


@dataclass(frozen=True, slots=True)
class DPOLoss:
    """The loss per pair, and what it makes of the two answers."""

    loss_P: Tensor
    """With gradient."""
    chosen_rewards_P: Tensor
    """The implicit reward ``β(lp − ref)`` of the preferred answers; detached."""
    rejected_rewards_P: Tensor
    """The same of the others."""

    @property
    def accuracy(self) -> float:
        """Share of pairs whose preferred answer has the higher implicit reward; a tie is half a success."""
        return float(((self.chosen_rewards_P - self.rejected_rewards_P).sign() / 2 + 0.5).mean())


def dpo(
    chosen_logprobs_P: Tensor,
    rejected_logprobs_P: Tensor,
    ref_chosen_logprobs_P: Tensor,
    ref_rejected_logprobs_P: Tensor,
    *,
    beta: float = 0.1,
    kind: DPOKind = "sigmoid",
    label_smoothing: float = 0.0,
) -> DPOLoss:
    """DPO (https://arxiv.org/abs/2305.18290): ``−log σ(β·h)`` with ``h = (lp_c − ref_c) − (lp_r − ref_r)``.

    ``label_smoothing`` ε makes it ``−(1−ε)·log σ(β·h) − ε·log σ(−β·h)`` (conservative DPO). ``ipo``: ``(h − 1/(2β))²``, to be
    given mean log-probabilities (https://arxiv.org/abs/2310.12036). ``hinge``: ``max(0, 1 − β·h)`` (SLiC).

    Args:
        chosen_logprobs_P: Of the preferred responses under the policy (``sequence_logprobs``), with gradient.
        rejected_logprobs_P: Of the others.
        ref_chosen_logprobs_P: The same under the reference.
        ref_rejected_logprobs_P: The same under the reference.
        beta: How much a deviation from the reference costs.
        kind: See above.
        label_smoothing: The share of pairs believed to be labelled the wrong way round; for ``sigmoid``.
    """
    chosen_ratio_P = chosen_logprobs_P - ref_chosen_logprobs_P.detach()
    rejected_ratio_P = rejected_logprobs_P - ref_rejected_logprobs_P.detach()
    lead_P = chosen_ratio_P - rejected_ratio_P
    match kind:
        case "sigmoid":
            loss_P = -(1 - label_smoothing) * logsigmoid(beta * lead_P) - label_smoothing * logsigmoid(-beta * lead_P)
        case "ipo":
            loss_P = (lead_P - 1 / (2 * beta)).square()
        case "hinge":
            loss_P = torch.relu(1 - beta * lead_P)
    return DPOLoss(loss_P, (beta * chosen_ratio_P).detach(), (beta * rejected_ratio_P).detach())
